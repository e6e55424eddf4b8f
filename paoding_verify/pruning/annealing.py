"""The Paoding way of pruning: progressive, stochastic, under a certified robustness signal.

In every step a batch of atoms from all groups is proposed, drawn by saliency with random noise; the network without it
is compensated, and its energy - the mean drop of certified margins - decides: a fall is accepted, a rise dE with
probability exp(-dE / T). The temperature T falls linearly with the fraction removed, to 0 at the target. A step has
to meet its budget: once its attempts are used up, the proposal of least energy is taken.

How a step's budget is split follows a measurement: each layer's share is removed alone, and layers whose removal raises
the energy more give up less. Under a hard floor a proposal that costs any anchor its certificate is never taken; the
step is halved until one fits, and where none does the run ends.

Source: arXiv 2204.00783 (progressive pruning by stochastic optimisation); the robustness metric is a certified one
here, and a merge is followed by least squares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.evidence.pruning import Move, PruneStep
from paoding_verify.memo import Checkpoint, Record
from paoding_verify.network.evaluate import evaluate_all
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.pruning.budget import shifted_counts, shifted_quotas, whole_counts
from paoding_verify.pruning.compensation import best_partners, merge, refit
from paoding_verify.pruning.groups import UnitGroup
from paoding_verify.pruning.keeping import array_in, network_in, plain_in, record_of_network, state_in, state_of
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
    sensitivity: float = 0.5
    """Exponent by which a layer's measured rise of energy shrinks its share of a step; 0: equal fractions always."""


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
    """Removes as many units as the plan says, or under a hard floor as many as can go before the search finds no way
    on; every proposal, accepted or not, is in the steps.

    Raises: ConfigError if there is a hard floor and no anchor that is certified for the original.
    """
    if problem.hard_floor and not (problem.signal.baseline > 0).any():
        raise ConfigError("the hard floor keeps certified anchors certified, and the original has none; leave it out")
    checkpoint = Checkpoint(problem.memo, "steps")
    state, steps, quotas, first = _begun(problem, checkpoint.recall())
    for number, planned in enumerate(problem.plan[first:], start=first):
        quotas = _split(problem, state, quotas, planned, config)
        aim = goal = whole_counts(problem.units.groups, quotas, planned, _done(problem, state))
        while (done := _done(problem, state)) != aim:
            start = time.perf_counter()
            temperature = _temperature(problem, state, config)
            state, accepted, rejected = _step(problem, state, aim, temperature, config)
            problem.progress("pruning", len(state.removed), sum(problem.plan[-1]))
            steps.append(
                PruneStep(
                    len(steps) + 1, accepted, rejected, state.energy, temperature, problem.sparsity(state.removed),
                    float(state.margins.mean()), *problem.signal.accuracies(state.network, state.margins),
                    time.perf_counter() - start,
                )
            )  # fmt: skip
            halfway = tuple((before + after) // 2 for before, after in zip(done, aim, strict=True))
            aim = goal if accepted else halfway
            if not accepted and halfway == done:
                return PruneOutcome(state.network, state.removed, tuple(steps), stopped=_farewell(problem, state))
        checkpoint.offer(partial(_record, problem, state, steps, (quotas, number + 1)))
    return PruneOutcome(state.network, state.removed, tuple(steps))


def _record(
    problem: PruneProblem, state: _State, steps: Sequence[PruneStep], place: tuple[tuple[float, ...], int]
) -> Record:
    """Everything on which the steps still to come depend; place: quotas, and planned steps that are done."""
    return {
        "network": record_of_network(state.network, problem.original), "removed": sorted(state.removed),
        "margins": state.margins, "energy": state.energy, "steps": to_plain(steps), "quotas": place[0],
        "number": place[1], "generator": state_of(problem.rng),
    }  # fmt: skip


def _begun(problem: PruneProblem, kept: Record | None) -> tuple[_State, list[PruneStep], tuple[float, ...], int]:
    """The state to start from, steps so far, quotas, and the number of planned steps that are done.

    Raises: JournalError if what was kept does not fit the problem.
    """
    if kept is None:
        state = _State(problem.original, frozenset(), problem.targets, problem.signal.baseline, 0.0)
        return state, [], (0.0,) * len(problem.units.groups), 0
    network = network_in(kept.get("network"), problem.original)
    removed = frozenset(from_plain(tuple[int, ...], kept.get("removed"), "kept steps, removed"))
    values = problem.targets if network is problem.original else evaluate_all(network, problem.inputs)
    margins = array_in(kept, "margins", problem.signal.baseline.shape)
    state_in(problem.rng, kept.get("generator"))
    steps = from_plain(tuple[PruneStep, ...], kept.get("steps"), "kept steps")
    quotas = from_plain(tuple[float, ...], kept.get("quotas"), "kept steps, quotas")
    state = _State(network, removed, values, margins, plain_in(kept, "energy", float))
    return state, list(steps), quotas, plain_in(kept, "number", int)


def _farewell(problem: PruneProblem, state: _State) -> str:
    return (
        f"at a sparsity of {problem.sparsity(state.removed):.4f} every proposal tried would have cost an anchor "
        f"its certificate, and the hard floor forbids that"
    )


def _done(problem: PruneProblem, state: _State) -> tuple[int, ...]:
    """Atoms that are gone from each group."""
    return tuple(len(state.removed & set(group.atoms)) for group in problem.units.groups)


def _split(
    problem: PruneProblem, state: _State, quotas: Sequence[float], planned: Sequence[int], config: AnnealingConfig
) -> tuple[float, ...]:
    """Cumulative removals after this step: as many units as planned, fewer from layers that turn out sensitive.

    They are real numbers that go on from those of the step before, so that what one step rounds away the next makes up
    for: with few units a step, rounding would otherwise undo every shift.
    """
    groups, done = problem.units.groups, _done(problem, state)
    if config.sensitivity == 0 or len(groups) == 1:
        return tuple(map(float, planned))
    even = shifted_counts(groups, done, planned, [1.0] * len(groups))
    rises = []
    for k in range(len(groups)):
        alone = tuple(even[i] if i == k else done[i] for i in range(len(groups)))
        energy = _propose(problem, state, alone, config).state.energy if alone != done else state.energy
        rises.append(max(energy - state.energy, 0.0) / max(even[k] - done[k], 1) * len(groups[k].atoms))
    usual = float(np.mean(rises))
    weights = [min(max(((usual + 1e-9) / (rise + 1e-9)) ** config.sensitivity, 0.5), 2.0) for rise in rises]
    return shifted_quotas(groups, quotas, planned, weights)


def _temperature(problem: PruneProblem, state: _State, config: AnnealingConfig) -> float:
    """Linear in the share of the removals still to come."""
    left = 1.0 - len(state.removed) / sum(problem.plan[-1])
    return config.heat * float(np.median(np.abs(problem.signal.baseline))) * left


def _step(
    problem: PruneProblem, state: _State, counts: Sequence[int], temperature: float, config: AnnealingConfig
) -> tuple[_State, tuple[Move, ...], tuple[Move, ...]]:
    tried: list[_Proposal] = []
    reasons: list[str] = []
    eligible: list[int] = []
    taken = False
    while not taken and len(tried) < config.attempts:
        proposal = _propose(problem, state, counts, config)
        taken, reason = metropolis(proposal.state.energy - state.energy, temperature, problem.rng)
        lost = problem.signal.num_lost(proposal.state.margins) if problem.hard_floor else 0
        if lost:
            taken, reason = False, f"{reason}; {lost} anchors would lose their certificate, so it is not taken"
        tried.append(proposal)
        reasons.append(reason)
        if not lost:
            eligible.append(len(tried) - 1)
    chosen = eligible[-1] if taken else min(eligible, key=lambda k: tried[k].state.energy, default=-1)
    if not taken and chosen >= 0:
        reasons[chosen] = f"least energy of {len(tried)} rejected proposals; the step's budget must be met"
    moves = [
        moves_of(problem.units, p.batch, p.partners, energy=p.state.energy, reason=reason)
        for p, reason in zip(tried, reasons, strict=True)
    ]
    rejected = tuple(move for k, batch in enumerate(moves) if k != chosen for move in batch)
    return (tried[chosen].state, moves[chosen], rejected) if chosen >= 0 else (state, (), rejected)


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
