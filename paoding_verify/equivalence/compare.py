"""The cascade for a pair: centre, attack, each network for itself, joint bounds, input splitting, ReLU splitting, z3;
cheapest first.

A claim is CERTIFIED only after the checker has proved it again in every arithmetic that the configuration names, and
VIOLATED only with a witness that onnxruntime reproduces on both shipped files. All else is UNKNOWN, with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from paoding_verify.equivalence.alignment import find_alignment
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, open_job, shared_time
from paoding_verify.equivalence.pair_splitting import MAX_FEATURES, split_pair
from paoding_verify.equivalence.relu_splitting import split_relus
from paoding_verify.equivalence.reproof import prove_brackets, prove_jobs
from paoding_verify.equivalence.stages import (
    attack_differences,
    bound_each,
    bound_jointly,
    look_at_centres,
    open_jobs,
    try_witness,
)
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Network
from paoding_verify.regions import float32_interior
from paoding_verify.settled import keep_finding, run_batch, run_once
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["compare"]

_BATCH = 32
"""Tasks that go through the cascade together."""
_ALIGNMENT_POINTS = 64
"""Centres on which units are matched if no alignment is given."""
_SMT_SHARE = 0.5
"""Part of a task's remaining time that z3 may use."""
_SPOT_S = 20.0
"""Seconds for one spot check."""


def compare(  # noqa: PLR0913 - a comparison with all its settings
    original: Network,
    pruned: Network,
    tasks: Sequence[Task],
    config: SearchConfig,
    *,
    alignment: tuple[tuple[int, ...], ...] | None = None,
    memo: Memo = FORGETFUL,
    progress: Progress | None = None,
) -> list[Finding]:
    """One finding per task, in the order of the tasks; deterministic unless a time limit strikes.

    alignment: for each activation layer, the unit of `original` that each unit of `pruned` continues; None: matched by
    activations, where the structures allow it. `config.smt_samples` regions, drawn by the seed, are checked by z3 too.
    Claims that `memo` kept of the same call are not settled again.
    Raises: ConfigError if the networks' shapes differ or a task is no comparison, EngineError if an engine fails,
    SoundnessError if two pieces of evidence contradict each other.
    """
    if original.input_shape != pruned.input_shape or original.num_outputs != pruned.num_outputs:
        raise ConfigError(
            f"cannot compare: the original maps {original.input_shape} to {original.num_outputs} outputs, the pruned "
            f"network {pruned.input_shape} to {pruned.num_outputs}"
        )
    jobs = [open_job(task, original.num_outputs) for task in tasks]
    if alignment is None and jobs:
        centres = np.stack([job.task.region.centre for job in jobs[:_ALIGNMENT_POINTS]])
        alignment = find_alignment(original, pruned, centres)
    engines = PairEngines(original, pruned, alignment, config)
    sample = _sample(jobs, config)
    groups: dict[object, list[PairJob]] = defaultdict(list)
    for job in jobs:
        groups[job.task.kind, job.bracket, job.prop.rows.tobytes(), job.prop.clauses].append(job)
    done = 0
    for group in groups.values():
        for start in range(0, len(group), _BATCH):
            batch = group[start : start + _BATCH]
            run_batch(memo, batch, partial(_run, engines, batch, memo))
            for job in batch:
                done += 1
                if progress is not None:
                    progress(job.task.id, done, len(jobs))
    return [
        keep_finding(memo, "spot check", job.finding, partial(_spot_checked, engines, job, job.finding))
        if job.task.region.id in sample
        else job.finding
        for job in jobs
        if job.finding is not None
    ]


def _run(engines: PairEngines, jobs: list[PairJob], memo: Memo) -> None:
    """Settles every job of a batch."""
    config, method = engines.config, "centre"
    look_at_centres(engines, jobs)
    if left := open_jobs(jobs, config):
        method = "pgd"
        attack_differences(engines, left)
    if jobs[0].bracket:
        bound_jointly(engines, jobs)
        prove_brackets(engines, jobs, "differential-crown")
        return
    for bound_method in ("crown", "alpha-crown"):
        left = [job for job in open_jobs(jobs, config) if job.task.kind == "top1_equivalent" and job.label is not None]
        if left:
            method = bound_method
            bound_each(engines, left, method)
            prove_jobs(engines, [job for job in left if job.estimate > 0], method)
    if left := open_jobs(jobs, config):
        method = "differential-crown"
        bound_jointly(engines, left)
        prove_jobs(engines, [job for job in left if job.estimate > 0], method)
    for job in open_jobs(jobs, config):
        if prod(engines.original.input_shape) <= MAX_FEATURES:
            method = "input-splitting"
            run_once(memo, method, job, partial(_split, engines, job))
        if job.finding is None and job.spent_s < config.timeout_s:
            method = "relu-splitting"
            run_once(memo, method, job, partial(split_relus, engines, job))
        if job.finding is None:
            run_once(memo, "z3", job, partial(_ask_z3, engines, job))
    prove_jobs(engines, [job for job in jobs if job.finding is None], method, last=True)


def _split(engines: PairEngines, job: PairJob) -> None:
    """Input splitting of one job; settles it if that decides it."""
    config, region = engines.config, job.task.region
    with shared_time([job]):
        outcome = split_pair(
            engines, (region.lower, region.upper), job.prop, max_leaves=config.max_leaves,
            limit_s=config.timeout_s - job.spent_s,
        )  # fmt: skip
        job.limit = outcome.limit or job.limit
        if outcome.point is not None:
            try_witness(engines, job, outcome.point, "input-splitting")
    if outcome.decided:
        best = job.certificate
        job.certificate = Certificate("differential", split=outcome.split, alignment=engines.alignment)
        prove_jobs(engines, [job], "input-splitting")
        if job.finding is None:
            job.certificate = best


def _ask_z3(engines: PairEngines, job: PairJob) -> None:
    """Exact arithmetic on what is left and small: it can find a witness; its proof alone leaves the claim UNKNOWN."""
    from paoding_verify.equivalence.smt import hidden_bounds, smt_decide

    region = job.task.region
    with shared_time([job]):
        left_s = engines.config.timeout_s - job.spent_s
        if left_s <= 0:
            return
        bounds = [hidden_bounds(network, region) for network in engines.networks]
        answer = smt_decide(engines.networks, region, job.prop, timeout_s=left_s * _SMT_SHARE, bounds=bounds)
        if answer.status != "undecided":
            job.smt = answer.status
        if answer.point is not None:
            job.limit = "exact arithmetic refutes it at a point where onnxruntime on the shipped files does not"
            low, high = float32_interior(region.lower, region.upper)
            try_witness(engines, job, np.clip(answer.point.astype(np.float32), low, high), "smt")


def _sample(jobs: Sequence[PairJob], config: SearchConfig) -> set[str]:
    """Regions for the spot checks, drawn by the seed from the regions' names alone."""
    names = sorted({job.task.region.id for job in jobs})
    count = min(config.smt_samples, len(names))
    return set(np.random.default_rng(config.seed).choice(names, size=count, replace=False).tolist()) if count else set()


def _spot_checked(engines: PairEngines, job: PairJob, finding: Finding) -> Finding:
    """The finding with z3's word on it. Raises: SoundnessError if z3 refutes what was certified."""
    from paoding_verify.equivalence.smt import spot_check

    claim, statement = finding.claim, job.prop
    if job.bracket:
        if claim.bound is None:
            return finding
        statement = distance_at_most(claim.bound, engines.original.num_outputs)
    answer = spot_check(engines.networks, job.task.region, statement, claim.verdict, timeout_s=_SPOT_S)
    return replace(finding, claim=replace(claim, smt=answer.status, smt_scale=answer.scale, smt_sampled=True))
