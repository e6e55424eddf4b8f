"""The Paoding way of pruning: progressive, stochastic, under a certified robustness signal.

In every step a batch of atoms from all groups is proposed, drawn by saliency with random noise; the network without it
is compensated, and its energy - the mean drop of certified margins - decides: a fall is accepted, a rise dE with
probability exp(-dE / T). The temperature T falls linearly with the fraction removed, to 0 at the target. A step has
to meet its budget: once its attempts are used up, the proposal of least energy is taken.

Source: arXiv 2204.00783 (progressive pruning by stochastic optimisation); the robustness metric is a certified one
here, and a merge is followed by least squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.evidence.pruning import Move, PruneStep
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.pruning.compensation import best_partners, merge, refit
from paoding_verify.pruning.groups import UnitGroup
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem, moves_of
from paoding_verify.pruning.saliency import GroupPrices

__all__ = ["AnnealingConfig", "anneal", "metropolis"]


@dataclass(frozen=True)
class AnnealingConfig:
    """How the search proceeds."""

    attempts: int = 4
    """Batches that may be proposed in one step."""
    ridge: float = 1e-2
    """Of saliency and least squares, relative to the mean variance of what is read."""
    noise: float = 0.15
    """Scale of the Gumbel noise on log prices when atoms are drawn."""
    heat: float = 0.02
    """Temperature at the start, as a share of the original's median absolute certified margin."""


@dataclass(frozen=True, eq=False)
class _State:
    """A network on the way."""

    network: Network
    removed: frozenset[int]
    values: Sequence[Float32Array]
    """What it computes at the compensation inputs."""
    margins: Array
    energy: float


@dataclass(frozen=True, eq=False)
class _Proposal:
    """A state that could follow, and the moves that lead to it."""

    state: _State
    batch: tuple[int, ...]
    partners: dict[int, int]


def anneal(problem: PruneProblem, config: AnnealingConfig = AnnealingConfig()) -> PruneOutcome:
    """Removes exactly what the plan says; every proposal, accepted or not, is in the steps."""
    state = _State(problem.original, frozenset(), problem.targets, problem.signal.baseline, 0.0)
    steps = []
    for number, counts in enumerate(problem.plan, start=1):
        start = time.perf_counter()
        temperature = _temperature(problem, state, config)
        state, accepted, rejected = _step(problem, state, counts, temperature, config)
        problem.progress("pruning", len(state.removed), sum(problem.plan[-1]))
        steps.append(
            PruneStep(
                number, accepted, rejected, state.energy, temperature, problem.sparsity(state.removed),
                float(state.margins.mean()), time.perf_counter() - start,
            )
        )  # fmt: skip
    return PruneOutcome(state.network, state.removed, tuple(steps))


def _temperature(problem: PruneProblem, state: _State, config: AnnealingConfig) -> float:
    """Linear in the share of the removals still to come."""
    left = 1.0 - len(state.removed) / sum(problem.plan[-1])
    return config.heat * float(np.median(np.abs(problem.signal.baseline))) * left


def _step(
    problem: PruneProblem, state: _State, counts: Sequence[int], temperature: float, config: AnnealingConfig
) -> tuple[_State, tuple[Move, ...], tuple[Move, ...]]:
    tried: list[_Proposal] = []
    reasons: list[str] = []
    taken = False
    while not taken and len(tried) < config.attempts:
        proposal = _propose(problem, state, counts, config)
        taken, reason = metropolis(proposal.state.energy - state.energy, temperature, problem.rng)
        tried.append(proposal)
        reasons.append(reason)
    chosen = len(tried) - 1
    if not taken:
        chosen = min(range(len(tried)), key=lambda k: tried[k].state.energy)
        reasons[chosen] = f"least energy of {len(tried)} rejected proposals; the step's budget must be met"
    moves = [
        moves_of(problem.units, p.batch, p.partners, energy=p.state.energy, reason=reason)
        for p, reason in zip(tried, reasons, strict=True)
    ]
    rejected = tuple(move for k, batch in enumerate(moves) if k != chosen for move in batch)
    return tried[chosen].state, moves[chosen], rejected


def _propose(problem: PruneProblem, state: _State, counts: Sequence[int], config: AnnealingConfig) -> _Proposal:
    """A batch drawn by price and noise, merged, compensated and measured."""
    batch: list[int] = []
    partners: dict[int, int] = {}
    for group, count in zip(problem.units.groups, counts, strict=True):
        number = count - len(state.removed & set(group.atoms))
        if number == 0:
            continue
        drawn = _draw(problem, state, group, number, config)
        staying = [atom for atom in group.atoms if atom not in state.removed and atom not in drawn]
        batch += drawn
        if group.consumers:
            read = problem.original.nodes[group.consumers[0]].inputs[0]
            partners |= best_partners(state.values[read], problem.units.labels[read], drawn, staying)
    removed = state.removed | set(batch)
    merged = merge(state.network, problem.units, partners, state.values, removed)
    network, values = refit(merged, problem.units, removed, problem.targets, config.ridge)
    margins = problem.signal.margins(network)
    energy = problem.signal.energy(margins)
    return _Proposal(_State(network, removed, values, margins, energy), tuple(batch), partners)


def _draw(problem: PruneProblem, state: _State, group: UnitGroup, number: int, config: AnnealingConfig) -> list[int]:
    """Atoms one after another, cheapest first up to noise; prices follow each removal."""
    prices = GroupPrices(state.network, problem.units, group, state.values, config.ridge)
    alive = [atom for atom in group.atoms if atom not in state.removed]
    drawn = []
    for _ in range(number):
        noisy = np.log(prices.price(alive) + 1e-12) + config.noise * problem.rng.gumbel(size=len(alive))
        atom = alive.pop(int(np.argmin(noisy)))
        prices.eliminate(atom)
        drawn.append(atom)
    return drawn


def metropolis(rise: float, temperature: float, rng: np.random.Generator) -> tuple[bool, str]:
    """Whether a rise in energy is accepted at a temperature, and why, in words. One number is drawn in any case."""
    drawn = float(rng.random())
    if rise <= 0:
        return True, f"energy fell by {-rise:.6g}"
    chance = math.exp(-rise / temperature) if temperature > 0 else 0.0
    verb = "accepted" if drawn < chance else "rejected"
    return drawn < chance, f"energy rose by {rise:.6g}: {verb} ({drawn:.4f} drawn, probability {chance:.4f})"
