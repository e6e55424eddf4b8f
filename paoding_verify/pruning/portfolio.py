"""Many candidates, one choice: networks differ in what prunes them best, and certified margins tell.

Every member removes the same number of units in its own way. The candidate that loses least of the certified margins on
anchors that no member has seen is chosen; the best few are then distilled, and the result is kept only if it loses no
more. So the outcome is never worse than the best member by this signal. How many members run depends on
estimates of their cost, never on a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import Candidate
from paoding_verify.memo import under
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network
from paoding_verify.pruning.closeness import closeness
from paoding_verify.pruning.distil import DistilConfig
from paoding_verify.pruning.finish import imitating
from paoding_verify.pruning.keeping import outcome_in, plain_in, record_of_outcome
from paoding_verify.pruning.members import MEMBERS, Member
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.signal import CertifiedSignal
from paoding_verify.pruning.surgery import alignment, remove_units

__all__ = ["PortfolioConfig", "portfolio"]


@dataclass(frozen=True)
class PortfolioConfig:
    """What is tried."""

    members: tuple[Member, ...] = MEMBERS
    """In the order in which they are tried while the effort lasts; the first always runs."""
    effort_macs: float = 8e11
    """Multiply-accumulate operations that the members may take together, by estimate; about 20 s of one core."""
    num_distilled: int = 1
    """Best candidates that are distilled."""
    distillation: DistilConfig = field(default_factory=DistilConfig)

    def __post_init__(self) -> None:
        """Raises: ConfigError if there is no member."""
        if not any(member.keeps_plan for member in self.members):
            raise ConfigError("a portfolio needs a member that keeps to the plan of every layer")


@dataclass(frozen=True, eq=False)
class _Entry:
    """A candidate with all that is known about it."""

    name: str
    outcome: PruneOutcome
    small: Network
    """Physically smaller."""
    lost: float
    elapsed_s: float


def portfolio(problem: PruneProblem, config: PortfolioConfig = PortfolioConfig()) -> PruneOutcome:
    """The candidate that loses least of the certified margins on the selection anchors; all are in its `candidates`.

    Raises: ConfigError if the problem has no selection anchors.
    """
    signal = problem.selection
    if signal is None:
        raise ConfigError("a portfolio chooses on anchors of its own: the problem has no selection anchors")
    entries: list[_Entry] = []
    running = _affordable(problem, config)
    for member, rng in zip(running, problem.rng.spawn(len(running)), strict=True):
        problem.progress("pruning: candidates", len(entries), len(running))
        memo = under(problem.memo, member.name)
        quiet = replace(problem, rng=rng, progress=lambda doing, done, total: None, memo=memo)
        entries.append(_measured(problem, signal, member.name, partial(member.run, quiet)))
    problem.progress("pruning: candidates", len(entries), len(running))
    for entry in _best(entries, config.num_distilled):
        distilled = partial(_distilled, problem, entry, config.distillation)
        entries.append(_measured(problem, signal, f"{entry.name}, distilled", distilled))
    (best,) = _best(entries, 1)
    candidates = tuple(_candidate(problem, signal, entry, chosen=entry is best) for entry in entries)
    return replace(best.outcome, candidates=candidates)


def _affordable(problem: PruneProblem, config: PortfolioConfig) -> list[Member]:
    """The first members whose estimated costs fit into the effort together; dear ones are passed over."""
    members = [member for member in config.members if member.keeps_plan or not problem.exact_plan]
    running, spent = members[:1], sum(member.macs(problem) for member in members[:1])
    for member in members[1:]:
        cost = member.macs(problem)
        if spent + cost <= config.effort_macs:
            running.append(member)
            spent += cost
    return running


def _best(entries: Sequence[_Entry], count: int) -> list[_Entry]:
    """The entries that lose least, no network twice; of equal ones the first."""
    ranked: dict[str, _Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.lost):
        ranked.setdefault(canonical_digest(entry.small), entry)
    return list(ranked.values())[:count]


def _measured(problem: PruneProblem, signal: CertifiedSignal, name: str, make: Callable[[], PruneOutcome]) -> _Entry:
    """The candidate that was kept, else the one that `make` gives, kept from now on."""
    known, start = problem.memo.recall(name), time.perf_counter()
    outcome = make() if known is None else outcome_in(known.get("outcome"), problem.original)
    small = remove_units(outcome.network, problem.units, outcome.removed)
    if known is not None:
        return _Entry(name, outcome, small, plain_in(known, "lost", float), plain_in(known, "elapsed_s", float))
    entry = _Entry(name, outcome, small, signal.lost(small), time.perf_counter() - start)
    record = {"outcome": record_of_outcome(outcome, problem.original), "lost": entry.lost, "elapsed_s": entry.elapsed_s}
    problem.memo.store(name, record)
    return entry


def _candidate(problem: PruneProblem, signal: CertifiedSignal, entry: _Entry, *, chosen: bool) -> Candidate:
    """What is recorded of an entry, with how far it is from the original; by that nothing is chosen."""
    original, removed = problem.original, entry.outcome.removed
    kept = remove_units(original, problem.units, removed)
    near = closeness(kept, entry.small, original, alignment(original, problem.units, removed), signal.boxes)
    return Candidate(
        entry.name, entry.lost, entry.small.num_units, chosen, entry.elapsed_s, near.weights_moved, near.distance_ratio
    )  # fmt: skip


def _distilled(problem: PruneProblem, entry: _Entry, config: DistilConfig) -> PruneOutcome:
    network, _ = imitating(problem, entry.outcome, config)
    return replace(entry.outcome, network=network)
