"""Structured optimal brain surgeon: the units whose loss the others make up for best leave first.

Atoms leave one after another, the cheapest first. The price of an atom is what the next pre-activations lose after the
atoms that stay have taken over by least squares (`saliency`); whenever a step's budget is met, the network is fitted
to the original's pre-activations front to back (`compensation`), and the next step prices the network as it then is.
Margins are measured at every step and change nothing.

Source: optimal brain surgeon, Hassibi and Stork 1993; for structures arXiv 2208.11580 and 2203.07259.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import PruneStep
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.pruning.budget import split_steps, tilted_counts
from paoding_verify.pruning.compensation import refit
from paoding_verify.pruning.groups import UnitGroup
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem, moves_of
from paoding_verify.pruning.saliency import GroupPrices

__all__ = ["ObsConfig", "obs"]


@dataclass(frozen=True)
class ObsConfig:
    """One variant of the method; which is best differs from network to network."""

    ridge: float = 1e-2
    """Of prices and least squares, relative to the mean variance of what is read."""
    metric: Literal["identity", "certified-gradient"] = "identity"
    """How errors of the next pre-activations are weighed: all alike, or by what they do to certified margins.

    The second pays where inputs are poor. Certified accuracy kept, without distillation, first and second metric, on
    784-128-64-10 at 50 and 75 % and a recorded 784-128-128-64-10 at 50 % (400 images): with sparse noise for inputs
    .75 .86, .55 .58, .72 .73; with uniform noise .47 .53, .28 .28, .48 .52. With the synthetic inputs as they are:
    .98 .98, .94 .95, .94 .99.
    """
    tilt: float = -0.15
    """How much smaller the fraction kept is in the first layers than on average, and larger in the last, as a share of
    itself. Measured on fully connected digit classifiers: keeping more in front keeps more certified margin.
    """
    num_steps: int | None = None
    """Steps after which the network is fitted again; None: as many as the plan has."""

    def __post_init__(self) -> None:
        """Raises: ConfigError if a number is out of range."""
        if self.metric not in ("identity", "certified-gradient"):
            raise ConfigError(f"the metric must be identity or certified-gradient; got {self.metric!r}")
        if not self.ridge > 0 or not abs(self.tilt) < 1:
            raise ConfigError(
                f"the ridge must be positive and the tilt between -1 and 1; got {self.ridge} and {self.tilt}"
            )
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"the number of steps must be at least 1; got {self.num_steps}")


def obs(problem: PruneProblem, config: ObsConfig = ObsConfig()) -> PruneOutcome:
    """Removes as many units in total as the plan says, exactly; deterministic, without any randomness of its own."""
    counts = tilted_counts(problem.units.groups, problem.plan[-1], config.tilt)
    metric = problem.signal.metric(problem.original) if config.metric == "certified-gradient" else {}
    network, values = problem.original, problem.targets
    removed: frozenset[int] = frozenset()
    steps = []
    for number, reached in enumerate(split_steps(counts, config.num_steps or len(problem.plan)), start=1):
        start = time.perf_counter()
        batch = []
        for group, count in zip(problem.units.groups, reached, strict=True):
            batch += _cheapest(problem, (network, values), group, (count, removed), (config.ridge, metric))
        removed |= frozenset(batch)
        network, values = refit(problem.original, problem.units, removed, problem.targets, config.ridge)
        margins = problem.signal.margins(network)
        energy = problem.signal.energy(margins)
        natural, certified = problem.signal.accuracies(network, margins)
        problem.progress("pruning", len(removed), sum(counts))
        steps.append(
            PruneStep(
                step=number,
                accepted=moves_of(problem.units, batch, {}, energy=energy, reason="least loss after compensation"),
                rejected=(),
                energy=energy,
                temperature=0.0,
                sparsity=problem.sparsity(removed),
                certified_margin=float(margins.mean()),
                natural_accuracy=natural,
                certified_accuracy=certified,
                elapsed_s=time.perf_counter() - start,
            )
        )
    return PruneOutcome(network, removed, tuple(steps))


def _cheapest(
    problem: PruneProblem,
    state: tuple[Network, Sequence[Float32Array]],
    group: UnitGroup,
    goal: tuple[int, frozenset[int]],
    weighing: tuple[float, Mapping[int, Array]],
) -> list[int]:
    """Atoms of a group that leave next, in order, so that goal[0] of it are gone; goal[1] have left already. `weighing`
    is the ridge and the metric.
    """
    alive = [atom for atom in group.atoms if atom not in goal[1]]
    leaving: list[int] = []
    if len(group.atoms) - len(alive) < goal[0]:
        prices = GroupPrices(state[0], problem.units, group, state[1], weighing[0], metric=weighing[1])
        while len(group.atoms) - len(alive) < goal[0]:
            costs = prices.price(alive)
            leaving.append(alive.pop(int(costs.argmin())))
            prices.eliminate(leaving[-1])
    return leaving
