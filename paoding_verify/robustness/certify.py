"""The cascade for one network: centre, attack, CROWN-IBP, CROWN, alpha-CROWN, input splitting, ReLU splitting; cheapest
first.

A claim is CERTIFIED only after the checker has proved it again in every arithmetic that the configuration names, and
VIOLATED only with a witness that onnxruntime reproduces on the shipped file. All else is UNKNOWN, with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from math import prod

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.property import Property
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Network
from paoding_verify.robustness.input_splitting import MAX_FEATURES, Splitter
from paoding_verify.robustness.job import Job, shared_time
from paoding_verify.robustness.relu_splitting import split_relus
from paoding_verify.robustness.stages import (
    Engines,
    attack_regions,
    bound_regions,
    confirmed_margins,
    look_at_centres,
    open_jobs,
    prove_jobs,
    try_witness,
)
from paoding_verify.settled import run_batch, run_once
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["certify"]

_BATCH = 64
"""Tasks that go through the cascade together."""

_METHODS = ("crown-ibp", "crown", "alpha-crown")


def certify(
    network: Network, tasks: Sequence[Task], config: SearchConfig, *, memo: Memo = FORGETFUL,
    progress: Progress | None = None,
) -> list[Finding]:  # fmt: skip
    """One finding per task, in the order of the tasks; deterministic unless a time limit strikes. Claims that `memo`
    kept of the same call are not settled again.

    Raises: ConfigError if a task has no property over this network's outputs, EngineError if an engine fails,
    SoundnessError if a proof and a point contradict each other.
    """
    engines = Engines(network, config)
    jobs = [Job(task, _checked(task, network)) for task in tasks]
    groups: dict[object, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[len(job.prop.rows), job.prop.clauses].append(job)
    done = 0
    for group in groups.values():
        for start in range(0, len(group), _BATCH):
            batch = group[start : start + _BATCH]
            run_batch(memo, engines.judge, batch, partial(_run, engines, batch, memo))
            for job in batch:
                done += 1
                if progress is not None:
                    progress(job.task.id, done, len(jobs))
    return [job.finding for job in jobs if job.finding is not None]


def _checked(task: Task, network: Network) -> Property:
    if task.property is None or task.property.rows.shape[1] != network.num_outputs:
        raise ConfigError(f"task {task.id} needs a property over the {network.num_outputs} outputs of {network.name!r}")
    return task.property


def _run(engines: Engines, jobs: list[Job], memo: Memo) -> None:
    """Settles every job of a batch."""
    config, method = engines.config, "centre"
    look_at_centres(engines, jobs)
    if left := open_jobs(jobs, config):
        method = "pgd"
        attack_regions(engines, left)
    for bound_method in _METHODS if engines.bounder is not None else ("checker",):
        if left := open_jobs(jobs, config):
            method = bound_method
            bound_regions(engines, left, method)
    if prod(engines.network.input_shape) <= MAX_FEATURES and engines.bounder is not None:
        for job in open_jobs(jobs, config):
            method = "input-splitting"
            run_once(memo, engines.judge, method, job, partial(_split, engines, job))
    for job in open_jobs(jobs, config):
        method = "relu-splitting"
        run_once(memo, engines.judge, method, job, partial(split_relus, engines, job))
    prove_jobs(engines, [job for job in jobs if job.finding is None], method, last=True)


def _split(engines: Engines, job: Job) -> None:
    """Input splitting of one job; settles it if that decides it."""
    config, region = engines.config, job.task.region
    with shared_time([job]):
        assert engines.bounder is not None  # noqa: S101 - the caller has looked
        splitter = Splitter(engines.network, engines.bounder, config.max_leaves)
        confirm = partial(confirmed_margins, engines, job.prop)
        limit_s = config.timeout_s - job.spent_s
        outcome = splitter.run((region.lower, region.upper), job.prop, confirm, limit_s=limit_s)
        job.attack = min(job.attack, outcome.attack)
        job.limit = outcome.limit
        if outcome.point is not None:
            try_witness(engines, job, outcome.point, "input-splitting")
            job.limit = f"a point with margin {outcome.attack:.3g} is not reproduced by onnxruntime"
    if outcome.decided:
        best, job.certificate = job.certificate, Certificate("crown", split=outcome.split)
        prove_jobs(engines, [job], "input-splitting")
        if job.finding is None:
            job.certificate = best
