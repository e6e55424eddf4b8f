"""What every pruning method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paoding_verify.anchors import DEFAULT_DOMAIN, Domain, training_inputs
from paoding_verify.evidence.pruning import Candidate, DistilRecord, Move, PruneStep, RepairRecord
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.evaluate import evaluate_all
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.pruning.groups import UnitMap
from paoding_verify.pruning.inputs import NUM_TRAINING, affordable, joined
from paoding_verify.pruning.signal import CertifiedSignal
from paoding_verify.task import Progress

__all__ = ["PruneOutcome", "PruneProblem", "moves_of"]


@dataclass(frozen=True, eq=False)
class PruneProblem:
    """One pruning task, prepared: a method only decides what to remove and how to make up for it."""

    original: Network
    """With float32 parameters."""
    units: UnitMap
    plan: tuple[tuple[int, ...], ...]
    """For each step, how many atoms of each group are gone after it."""
    signal: CertifiedSignal
    inputs: Float32Array
    """(M, *input_shape) inputs for saliency and compensation, disjoint from the anchors: synthetic ones, and the
    user's.
    """
    rng: np.random.Generator
    """The only source of randomness of a method."""
    progress: Progress
    """Called with removed units so far."""
    seed: int = 0
    """Of inputs and training, and of methods that repeat another tool's generator; the others draw from `rng`."""
    domain: Domain = DEFAULT_DOMAIN
    """Of synthetic inputs."""
    user_inputs: Float32Array | None = None
    """(N, *input_shape) unlabelled inputs that the user gave; `inputs` holds them already."""
    selection: CertifiedSignal | None = None
    """On anchors by which whole candidates are compared, disjoint from those of `signal` and from all inputs."""
    acceptance: CertifiedSignal | None = None
    """On anchors by which a repair is taken or left, disjoint from all others and from all inputs."""
    exact_plan: bool = False
    """Whether every group must lose what the plan says: a target of parameters or operations depends on it."""
    target_sparsity: float = 0.5
    """As asked for; `plan` says what it means in atoms."""
    step: float | None = None
    """Share of each layer's units that leave in a step, of methods that make no use of the plan; None: their own."""
    hard_floor: bool = False
    """Whether every anchor that is certified for the original has to stay certified."""
    memo: Memo = FORGETFUL
    """Of finished parts of this very problem."""

    @cached_property
    def targets(self) -> list[Float32Array]:
        """Every value of the original at the inputs, the inputs first: what compensation tries to restore."""
        return evaluate_all(self.original, self.inputs)

    @cached_property
    def training_inputs(self) -> Float32Array:
        """(M, *input_shape) inputs for distillation, many more than `inputs`, made when first asked for."""
        count = affordable(self.original, NUM_TRAINING)
        synthetic = training_inputs(self.original, count, seed=self.seed, domain=self.domain)
        return joined(synthetic, self.user_inputs)

    @property
    def num_units(self) -> int:
        """Units of the original."""
        return sum(self.original.num_units)

    def sparsity(self, removed: Iterable[int]) -> float:
        """Fraction of the original's units that these atoms stand for."""
        gone = set(removed)
        return sum(g.multiplicity for g in self.units.groups for a in g.atoms if a in gone) / self.num_units


@dataclass(frozen=True, eq=False)
class PruneOutcome:
    """What a method decided."""

    network: Network
    """Of the original's shapes, with the removed atoms masked and the rest compensated."""
    removed: frozenset[int]
    """Atoms."""
    steps: tuple[PruneStep, ...]
    distilled: DistilRecord | None = None
    """Set by a method that trained its network after pruning."""
    repaired: RepairRecord | None = None
    """Set by a certified repair."""
    candidates: tuple[Candidate, ...] = ()
    """Set by a method that compared whole networks."""
    stopped: str = ""
    """Why the run ended before its target; empty: it did not."""


def moves_of(
    units: UnitMap, atoms: Sequence[int], partners: dict[int, int], *, energy: float | None = None, reason: str = ""
) -> tuple[Move, ...]:
    """One move for every unit of these atoms, with the unit of the partner in the same layer."""
    moves = []
    for group in units.groups:
        place = {atom: k for k, atom in enumerate(group.atoms)}
        for atom in atoms:
            if atom in place:
                taker = group.members[place[partners[atom]]] if atom in partners else (None,) * group.multiplicity
                for (layer, unit), kept in zip(group.members[place[atom]], taker, strict=True):
                    moves.append(Move(layer, kept[1] if kept else None, unit, energy, reason))
    return tuple(moves)
