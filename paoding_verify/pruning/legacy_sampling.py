"""How the original Paoding tool picks pairs of units: its bookkeeping and its three sampling modes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from paoding_verify.network.graph import Float32Array
from paoding_verify.pruning.legacy_arithmetic import (
    FIRST_RANGE,
    Pair,
    Span,
    impact_scores,
    next_range,
    ranked_pairs,
    saliency,
)  # fmt: skip

__all__ = ["LayerTape", "LegacySampler", "Mode", "Verdict"]

Mode = Literal["baseline", "impact", "stochastic"]

_CHUNK = 16
"""Pairs scored at once: most walks end early."""


@dataclass(frozen=True)
class Verdict:
    """One pair, and what became of it."""

    pair: Pair
    score: float | None = None
    """Impact score; None: not measured."""
    temperature: float | None = None
    """At which chance decided; None: it did not."""


@dataclass(frozen=True)
class LayerTape:
    """What happened in one layer in one step."""

    accepted: list[Verdict] = field(default_factory=list)
    """In order; a pair can appear twice."""
    rejected: list[Verdict] = field(default_factory=list)
    """Refused by chance, or released because others were better."""


class LegacySampler:
    """A dense ReLU network on its way through the original tool; every call of `advance` is one step.

    The baseline is not recursive (every unit of a pair is out of the game, so it ends at half of each layer, and
    saliencies are those of the original network); the other two modes release the unit kept.
    """

    def __init__(
        self, weights: Sequence[Float32Array], biases: Sequence[Float32Array], *, mode: Mode, share: float
    ) -> None:
        """Shapes: weights[k] (inputs, outputs), biases[k] (outputs,), the output layer last. `share`: of each layer's
        units that leave in a step, rounded up.
        """
        self.weights = [weight.copy() for weight in weights]
        self.biases = list(biases)
        self._mode, self._share = mode, share
        self._used: list[set[int]] = [set() for _ in self.weights[1:]]
        self._ranked: dict[int, npt.NDArray[np.intp]] = {}

    def advance(self, generator: random.Random) -> list[LayerTape]:
        """Prunes every hidden layer by one budget, front to back. The tapes end early, and the last one is empty, where
        a layer has no candidate left.
        """
        tapes = []
        ends = (np.full(self.weights[0].shape[1], end, dtype=np.float32) for end in FIRST_RANGE)
        span: Span = (next(ends), next(ends))
        for layer in range(len(self.weights) - 1):
            if layer > 0 and self._mode != "baseline":
                span = next_range(span, self.weights[layer], self.biases[layer])
            tapes.append(self._sample(layer, span, generator))
            if not tapes[-1].accepted:
                break
            self._merge(layer, tapes[-1].accepted)
        return tapes

    def _sample(self, layer: int, span: Span, generator: random.Random) -> LayerTape:
        units = len(self.weights[layer + 1])
        budget = math.ceil(self._share * units)
        if self._mode == "baseline":
            return LayerTape([Verdict(pair) for pair in self._candidates(layer, budget)])
        pool = self._candidates(layer, 2 * budget if self._mode == "impact" else units)
        scored = _Scored(
            span, self.weights[layer + 1], [*zip(self.weights, self.biases, strict=True)][layer + 2 :], pool
        )
        if self._mode == "impact":
            return self._best(layer, scored, budget)
        return self._walk(layer, scored, budget, generator)

    def _candidates(self, layer: int, limit: int) -> list[Pair]:
        """Disjoint pairs of unused units, cheapest first; all of them become used."""
        used = self._used[layer]
        if layer not in self._ranked or self._mode != "baseline":
            self._ranked[layer] = ranked_pairs(
                saliency(self.weights[layer], self.biases[layer], self.weights[layer + 1])
            )
        free = np.ones(len(self.weights[layer + 1]), dtype=np.bool_)
        free[list(used)] = False
        ranked = self._ranked[layer]
        found: list[Pair] = []
        left = int(free.sum())
        for kept, removed in ranked[free[ranked].all(axis=1)].tolist():
            if left < 2 or len(found) == limit:
                break
            if kept not in used and removed not in used:
                found.append((kept, removed))
                used.update((kept, removed))
                left -= 2
        return found

    def _best(self, layer: int, scored: _Scored, budget: int) -> LayerTape:
        """The lowest scores of a pool of twice the budget; the kept units of these and all others are released."""
        verdicts = sorted(scored.verdicts(), key=lambda verdict: verdict.score or 0.0)
        tape = LayerTape(verdicts[:budget], verdicts[budget:])
        self._used[layer] -= {v.pair[0] for v in verdicts} | {v.pair[1] for v in tape.rejected}
        return tape

    def _walk(self, layer: int, scored: _Scored, budget: int, generator: random.Random) -> LayerTape:
        """Annealing over all pairs in order of saliency, again and again until the budget is met.

        A refused pair is released at once, which raises the temperature. One that is accepted in a later walk is used
        no more, and neither is an accepted one that a later walk refuses: such a unit can be picked again.
        """
        used, units = self._used[layer], len(self.weights[layer + 1])
        tape = LayerTape()
        target: float | None = None
        while scored.pool and len(tape.accepted) < budget:
            for index, pair in enumerate(scored.pool):
                if len(tape.accepted) == budget:
                    used.difference_update(pair)
                    continue
                score = scored[index]
                temperature = None
                taken = target is None or score <= target
                if not taken:
                    temperature = 1.0001 - len(used) / units
                    taken = generator.random() < math.exp(-(score - (target or 0.0)) / temperature)
                (tape.accepted if taken else tape.rejected).append(Verdict(pair, score, temperature))
                used.difference_update(pair[:1] if taken else pair)
                target = score if taken else target
        return tape

    def _merge(self, layer: int, accepted: Sequence[Verdict]) -> None:
        outgoing = self.weights[layer + 1]
        for verdict in accepted:
            kept, removed = verdict.pair
            outgoing[kept] += outgoing[removed]
            outgoing[removed] = 0


class _Scored:
    """Pairs with their scores, computed when they are first asked for."""

    def __init__(
        self,
        span: Span,
        outgoing: Float32Array,
        later: Sequence[tuple[Float32Array, Float32Array]],
        pool: Sequence[Pair],
    ) -> None:
        self.pool = pool
        self._given = span, outgoing, later
        self._scores: list[float] = []

    def __getitem__(self, index: int) -> float:
        while index >= len(self._scores):
            start = len(self._scores)
            self._scores += impact_scores(*self._given, self.pool[start : start + _CHUNK])
        return self._scores[index]

    def verdicts(self) -> list[Verdict]:
        """All pairs, in the order of the pool."""
        return [Verdict(pair, self[index]) for index, pair in enumerate(self.pool)]
