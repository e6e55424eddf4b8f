"""The cascade for a pair: centre, a short attack, each network for itself, joint bounds, longer attacks, input
splitting, ReLU splitting, HiGHS, z3; cheapest first.

A claim is CERTIFIED only after the checker has proved it again in every arithmetic that the configuration names, and
VIOLATED only with a witness that onnxruntime reproduces on both shipped files. All else is UNKNOWN, with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from paoding_verify.equivalence.alignment import find_alignment
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.input_splitting import refine_by_inputs, split_inputs
from paoding_verify.equivalence.job import PairJob, bracket_aim, open_job
from paoding_verify.equivalence.pair_splitting import MAX_FEATURES
from paoding_verify.equivalence.relu_splitting import refine_by_relus, split_relus
from paoding_verify.equivalence.reproof import prove_brackets, prove_jobs
from paoding_verify.equivalence.solvers import ask_solvers
from paoding_verify.equivalence.stages import attack_differences, bound_each, bound_jointly, look_at_centres, open_jobs
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Array, Network
from paoding_verify.regions import Region
from paoding_verify.settled import keep_finding, run_batch, run_once
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["compare"]

_BATCH = 32
"""Tasks that go through the cascade together."""
_ALIGNMENT_POINTS = 64
"""Centres, and as many other points, on which units are matched if no alignment is given."""
_SHORT = 4
"""Part of an attack's steps that are taken before bounds are asked: what is easily proved needs no more."""
_BRACKET_CASES, _BRACKET_BOXES = 32, 128
"""Cases, or sub-boxes, that refining one bracket may create: equal runs take equal steps whatever the clock says."""
_TIGHT = 1.2
"""Brackets are left as they are if their ends are no further apart, as a factor."""
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
        alignment = find_alignment(original, pruned, _matching_points([job.task.region for job in jobs], config.seed))
    engines = PairEngines(original, pruned, alignment, config)
    with closing(engines):
        return _settled(engines, jobs, memo, progress)


def _settled(engines: PairEngines, jobs: Sequence[PairJob], memo: Memo, progress: Progress | None) -> list[Finding]:
    """The findings of all jobs, in order."""
    sample = _sample(jobs, engines.config)
    groups: dict[object, list[PairJob]] = defaultdict(list)
    for job in jobs:
        groups[job.task.kind, job.bracket, job.prop.rows.tobytes(), job.prop.clauses].append(job)
    done = 0
    for group in groups.values():
        for start in range(0, len(group), _BATCH):
            batch = group[start : start + _BATCH]
            run_batch(memo, engines.judge, batch, partial(_run, engines, batch, memo))
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
        short = max(1, config.attack_steps // _SHORT)
        attack_differences(engines, left, steps=config.attack_steps if jobs[0].bracket else short)
    if jobs[0].bracket:
        bound_jointly(engines, jobs)
        _settle_brackets(engines, jobs, memo)
        return
    for bound_method in ("crown", "alpha-crown"):
        left = open_jobs(jobs, config)
        if bound_each(engines, left, bound_method):
            method = bound_method
            prove_jobs(engines, [job for job in left if job.estimate > 0], method)
    if left := open_jobs(jobs, config):
        method = "differential-crown"
        bound_jointly(engines, left)
        prove_jobs(engines, [job for job in left if job.estimate > 0], method)
    for led in (False, True):
        if left := open_jobs(jobs, config):
            attack_differences(engines, left, steps=config.attack_steps, led=led)
    for job in open_jobs(jobs, config):
        if prod(engines.original.input_shape) <= MAX_FEATURES:
            method = "input-splitting"
            run_once(memo, engines.judge, method, job, partial(split_inputs, engines, job))
        if job.finding is None and job.spent_s < config.timeout_s:
            method = "relu-splitting"
            run_once(memo, engines.judge, method, job, partial(split_relus, engines, job))
        if job.finding is None and job.spent_s < config.timeout_s:
            run_once(memo, engines.judge, "solvers", job, partial(ask_solvers, engines, job))
    prove_jobs(engines, [job for job in jobs if job.finding is None], method, last=True)


def _settle_brackets(engines: PairEngines, jobs: Sequence[PairJob], memo: Memo) -> None:
    """Refines what is worth it, by a number of cases that no clock decides, and lets the checker find the bounds."""
    few_features = prod(engines.original.input_shape) <= MAX_FEATURES
    refine, most = (refine_by_inputs, _BRACKET_BOXES) if few_features else (refine_by_relus, _BRACKET_CASES)
    if wide := [job for job in open_jobs(jobs, engines.config) if _is_wide(job)]:
        attack_differences(engines, wide, steps=engines.config.attack_steps, led=True)
    for job in open_jobs(wide, engines.config):
        if _is_wide(job):
            cases = min(engines.config.max_leaves, most)
            run_once(memo, engines.judge, "refining", job, partial(refine, engines, job, cases))
    by_method: dict[str, list[PairJob]] = defaultdict(list)
    for job in jobs:
        hints = job.certificate
        splits = "input-splitting" if hints and hints.split else "relu-splitting" if hints and hints.shares else ""
        by_method[splits or "differential-crown"].append(job)
    for method, some in by_method.items():
        prove_brackets(engines, some, method)


def _is_wide(job: PairJob) -> bool:
    return _TIGHT * bracket_aim(job.attack) < -job.estimate


def _matching_points(regions: Sequence[Region], seed: int) -> Array:
    """Inputs on which units are told apart: of few regions the centres alone would not do.

    Centres, then as many points of the range that all features of all regions span together.
    """
    centres = np.stack([region.centre for region in regions[:_ALIGNMENT_POINTS]]).astype(np.float64)
    low, high = min(region.lower.min() for region in regions), max(region.upper.max() for region in regions)
    anywhere = np.random.default_rng(seed).uniform(low, high, (_ALIGNMENT_POINTS, *centres.shape[1:]))
    return np.concatenate([centres, anywhere])


def _sample(jobs: Sequence[PairJob], config: SearchConfig) -> set[str]:
    """Regions for the spot checks, drawn by the seed from the regions' names alone."""
    names = sorted({job.task.region.id for job in jobs})
    count = min(config.smt_samples, len(names))
    return set(np.random.default_rng(config.seed).choice(names, size=count, replace=False).tolist()) if count else set()


def _spot_checked(engines: PairEngines, job: PairJob, finding: Finding) -> Finding:
    """The finding with z3's word on it. Raises: SoundnessError if they contradict each other."""
    from paoding_verify.equivalence.exact import refuse_witness, spot_check

    claim, statement = finding.claim, job.prop
    if job.bracket:
        if claim.bound is None:
            return finding
        statement = distance_at_most(claim.bound, engines.original.num_outputs)
    region = job.task.region
    answer = spot_check(
        engines.networks, region, statement, claim.verdict, timeout_s=_SPOT_S, solver=engines.solver
    )  # fmt: skip
    if claim.witness is not None:
        point = np.array(claim.witness.input, dtype=np.float64).reshape(region.lower.shape)
        refuse_witness(engines.networks, region, statement, answer, point)
    return replace(finding, claim=replace(claim, smt=answer.status, smt_scale=answer.scale, smt_sampled=True))
