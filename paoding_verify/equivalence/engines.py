"""A pair of networks in the forms that the stages of a comparison need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paoding_verify.bounds.differential import PairBounder, PairBounds
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.checker.backward import State
from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.checker.intervals import hardest
from paoding_verify.equivalence.isolated import SolverProcess
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Network
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.settled import Judge
from paoding_verify.task import SearchConfig

__all__ = ["Alignment", "PairEngines"]

Alignment = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class PairEngines:
    """Two networks with everything that is built from them; each part is built when it is first used."""

    original: Network
    pruned: Network
    alignment: Alignment | None
    config: SearchConfig

    @property
    def networks(self) -> tuple[Network, Network]:
        """The two networks, f first."""
        return self.original, self.pruned

    @property
    def judge(self) -> Judge:
        """What decides whether a kept claim counts."""
        return Judge(self.networks, self.config.semantics)

    @cached_property
    def programs(self) -> tuple[OnnxProgram, OnnxProgram]:
        """The files that deployments run, on which witnesses are replayed."""
        return OnnxProgram(shipped_onnx(self.original)), OnnxProgram(shipped_onnx(self.pruned))

    @cached_property
    def single(self) -> tuple[LirpaBounder, LirpaBounder] | None:
        """Bounds of each network for itself; None: auto_LiRPA has none for some operation."""
        try:
            return LirpaBounder(self.original), LirpaBounder(self.pruned)
        except UnsupportedOpError:
            return None

    @cached_property
    def _pair(self) -> PairBounder | None:
        try:
            return PairBounder(self.original, self.pruned, self.alignment)
        except UnsupportedOpError:
            return None

    @cached_property
    def solver(self) -> SolverProcess:
        """The process in which HiGHS and z3 run; it starts with the first question."""
        return SolverProcess()

    def close(self) -> None:
        """Ends what outlives a call."""
        if "solver" in self.__dict__:
            self.solver.close()

    def joint_bounds(self, lower: Array, upper: Array, prop: Property) -> PairBounds:
        """Lower bounds of the property's rows on boxes. Shapes: (N, *input_shape) -> (N, R).

        Operations that the search cannot bound jointly (max pooling, sigmoid, tanh) leave it to the checker, whose
        bounds say nothing about which feature matters: every one counts the same.
        """
        if self._pair is not None:
            return self._pair.lower_bounds(lower, upper, prop.rows, prop.offsets)
        return self.proved_bounds(lower, upper, prop)

    def proved_bounds(self, lower: Array, upper: Array, prop: Property) -> PairBounds:
        """As `joint_bounds`, with the bounds that the checker has in the harder arithmetic of the configuration."""
        state = self.enclosed(lower, upper)
        found = bound_rows(state, prop.rows, prop.offsets)
        if self._pair is None:
            return PairBounds(found, np.ones_like(lower))
        return PairBounds(found, self._pair.sensitivity(state, prop.rows))

    def enclosed(self, lower: Array, upper: Array) -> State:
        """What the checker knows of both networks on boxes, in that arithmetic. Shapes: (N, *input_shape)."""
        hints = [Certificate("differential", alignment=self.alignment)]
        return enclose(self.networks, lower, upper, self.semantics, hints=hints)

    @property
    def semantics(self) -> str:
        """The harder one of the arithmetics in which claims must be proved."""
        return hardest(self.config.semantics)
