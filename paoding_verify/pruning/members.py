"""The members of the portfolio: pruning methods with settings, and what each is estimated to cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from paoding_verify.pruning.annealing import AnnealingConfig, anneal
from paoding_verify.pruning.costs import compensation_macs, pricing_macs, signal_macs
from paoding_verify.pruning.data_free import srinivas_babu, srinivas_babu_projection
from paoding_verify.pruning.magnitude import magnitude_l1, magnitude_l2
from paoding_verify.pruning.obs import ObsConfig, obs
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem

__all__ = ["MEMBERS", "Member"]


@dataclass(frozen=True)
class Member:
    """One way to make a candidate."""

    name: str
    """Unique in a portfolio; stands in the trace."""
    run: Callable[[PruneProblem], PruneOutcome]
    macs: Callable[[PruneProblem], float]
    """Multiply-accumulate operations that it takes, by estimate."""
    keeps_plan: bool = True
    """Whether every group loses what the plan says, or only as many units go in total."""


_NUM_WATCHED = 32
"""Anchors on which members record margins that steer nothing."""


def _signals(problem: PruneProblem) -> float:
    return signal_macs(problem.original, len(problem.signal.boxes), problem.signal.method)


def _watched(problem: PruneProblem) -> PruneProblem:
    """The problem with fewer anchors, for methods that only record their margins."""
    return replace(problem, signal=problem.signal.on(problem.signal.boxes[:_NUM_WATCHED]))


def _obs(name: str, config: ObsConfig) -> Member:
    def cost(problem: PruneProblem) -> float:
        rounds = min(config.num_steps or len(problem.plan), len(problem.plan))
        gradient = 4.0 * _signals(_watched(problem)) if config.metric == "certified-gradient" else 0.0
        return rounds * (_signals(_watched(problem)) + compensation_macs(problem)) + pricing_macs(problem) + gradient

    return Member(name, lambda problem: obs(_watched(problem), config), cost, keeps_plan=config.tilt == 0)


def _anneal(name: str, config: AnnealingConfig) -> Member:
    def cost(problem: PruneProblem) -> float:
        one = _signals(problem) + 2 * compensation_macs(problem)
        tries = (1 + config.attempts) / 2
        return tries * (len(problem.plan) * one + pricing_macs(problem))

    return Member(name, lambda problem: anneal(problem, config), cost, keeps_plan=False)


def _baseline(name: str, method: Callable[[PruneProblem], PruneOutcome]) -> Member:
    return Member(
        name, lambda problem: method(_watched(problem)), lambda problem: len(problem.plan) * _signals(_watched(problem))
    )


MEMBERS = (
    _obs("obs, ridge 0.01", ObsConfig(num_steps=4)),
    _obs("obs, ridge 0.1", ObsConfig(ridge=1e-1, num_steps=4)),
    _obs("obs, equal layers", ObsConfig(tilt=0.0, num_steps=4)),
    _obs("obs, certified gradient", ObsConfig(metric="certified-gradient", num_steps=4)),
    _anneal("paoding", AnnealingConfig(attempts=2)),
    _obs("obs, ridge 0.003", ObsConfig(ridge=3e-3, num_steps=4)),
    _baseline("magnitude-l2", magnitude_l2),
    _baseline("magnitude-l1", magnitude_l1),
    _baseline("srinivas-babu", srinivas_babu),
    _baseline("srinivas-babu-projection", srinivas_babu_projection),
    _obs("obs, equal layers, ridge 0.1", ObsConfig(ridge=1e-1, tilt=0.0, num_steps=4)),
    _obs("obs, ridge 0.3", ObsConfig(ridge=3e-1, num_steps=4)),
    _obs("obs, ten rounds", ObsConfig()),
)
"""What most often wins comes first; the effort decides how many run."""
