"""The cascade for a pair: centre, a short attack, each network for itself, joint bounds, longer attacks, input
splitting, ReLU splitting, HiGHS, z3; cheapest first.

A claim is CERTIFIED only after the checker has proved it again in every arithmetic that the configuration names, and
VIOLATED only with a witness that onnxruntime reproduces on both shipped files. All else is UNKNOWN, with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from time import monotonic

import numpy as np

from paoding_verify.crew.bench import Crew
from paoding_verify.crew.cascade import Stage, batches_of, run_cascade
from paoding_verify.equivalence.alignment import find_alignment
from paoding_verify.equivalence.engines import Alignment, PairEngines
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
from paoding_verify.settled import Judge
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["Comparison", "compare"]

_BATCH = 32
"""Tasks that go through the cascade together."""
_ALIGNMENT_POINTS = 64
"""Centres, and as many other points, on which units are matched if no alignment is given."""
_SHORT = 4
"""Part of an attack's steps that are taken before bounds are asked: what is easily proved needs no more."""
_BRACKET_CASES, _BRACKET_BOXES = 3072, 128
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
    crew: Crew | None = None,
) -> list[Finding]:
    """One finding per task, in the order of the tasks; deterministic, whoever does the work (`crew`), unless a time
    limit strikes.

    alignment: for each activation layer, the unit of `original` that each unit of `pruned` continues; None: matched by
    activations, where the structures allow it. `config.smt_samples` regions, drawn by the seed, are checked by z3 too.
    Claims that `memo` kept of the same call are not settled again.
    Raises: ConfigError if the networks' shapes differ or a task is no comparison, EngineError if an engine fails and
    the crew is not told what becomes of the claim, SoundnessError if two pieces of evidence contradict each other.
    """
    if original.input_shape != pruned.input_shape or original.num_outputs != pruned.num_outputs:
        raise ConfigError(
            f"cannot compare: the original maps {original.input_shape} to {original.num_outputs} outputs, the pruned "
            f"network {pruned.input_shape} to {pruned.num_outputs}"
        )
    jobs = [open_job(task, original.num_outputs) for task in tasks]
    if alignment is None and jobs:
        alignment = find_alignment(original, pruned, _matching_points([job.task.region for job in jobs], config.seed))
    comparison = Comparison(original, pruned, alignment, config, _sample(jobs, config))
    batches = batches_of(jobs, _form, _BATCH)
    run_cascade(comparison, batches, memo=memo, progress=progress, crew=crew or Crew())
    return [job.finding for job in jobs if job.finding is not None]


def _form(job: PairJob) -> Hashable:
    """Claims that go through a stage together have this in common."""
    return job.task.kind, job.bracket, job.prop.rows.tobytes(), job.prop.clauses


class Comparison:
    """The stages for claims about a pair."""

    stages = (
        Stage("bounds", together=True),
        Stage("input-splitting", together=False),
        Stage("relu-splitting", together=False),
        Stage("solvers", together=False),
        Stage("refining", together=False),
        Stage("proof", together=True),
        Stage("spot check", together=False),
    )

    def __init__(
        self, original: Network, pruned: Network, alignment: Alignment | None, config: SearchConfig,
        sample: frozenset[str],
    ) -> None:  # fmt: skip
        """`sample`: ids of the regions whose claims z3 checks again."""
        self._parts = original, pruned, alignment, config, sample
        self.config, self._sample = config, sample
        self._few_features = prod(original.input_shape) <= MAX_FEATURES

    def __reduce__(self) -> tuple[type[Comparison], tuple[object, ...]]:
        """Engines are built anew wherever it goes."""
        return Comparison, self._parts

    @cached_property
    def _engines(self) -> PairEngines:
        return PairEngines(*self._parts[:4])

    @property
    def judge(self) -> Judge:
        """What decides whether a kept claim counts."""
        return self._engines.judge

    def wants(self, stage: str, job: PairJob) -> bool:
        """Whether the claim has to go through the stage."""
        if stage == "spot check":
            return job.task.region.id in self._sample and job.finding is not None
        if stage in ("bounds", "proof"):
            return job.finding is None
        if job.finding is not None or job.left_s(self.config) <= 0:
            return False
        if job.bracket:
            return stage == "refining" and _is_wide(job)
        return stage in ("relu-splitting", "solvers") or (stage == "input-splitting" and self._few_features)

    def perform(self, stage: str, jobs: Sequence[PairJob]) -> None:
        """Takes the claims through the stage."""
        engines = self._engines
        if stage == "bounds":
            _bound(engines, jobs)
        elif stage == "proof":
            _prove(engines, jobs)
        else:
            (job,) = jobs
            if stage == "refining":
                refine = refine_by_inputs if self._few_features else refine_by_relus
                most = _BRACKET_BOXES if self._few_features else _BRACKET_CASES
                refine(engines, job, min(self.config.max_leaves, most))
            elif stage == "spot check":
                job.finding = _spot_checked(engines, job, job.finding)
            else:
                _DEEPER[stage](engines, job)

    def close(self) -> None:
        """Ends the solvers' process."""
        if "_engines" in self.__dict__:
            self._engines.close()


_DEEPER = {"input-splitting": split_inputs, "relu-splitting": split_relus, "solvers": ask_solvers}
"""What is done with single claims that bounds leave open, by stage."""


def _bound(engines: PairEngines, jobs: Sequence[PairJob]) -> None:
    """What is done with all claims of a batch at a time."""
    config = engines.config
    look_at_centres(engines, jobs)
    if left := open_jobs(jobs, config):
        short = max(1, config.attack_steps // _SHORT)
        attack_differences(engines, left, steps=config.attack_steps if jobs[0].bracket else short, method="pgd")
    if jobs[0].bracket:
        bound_jointly(engines, jobs)
        if wide := [job for job in open_jobs(jobs, config) if _is_wide(job)]:
            attack_differences(engines, wide, steps=config.attack_steps, led=True)
        return
    for method in ("crown", "alpha-crown"):
        left = open_jobs(jobs, config)
        bound_each(engines, left, method)
        prove_jobs(engines, [job for job in left if job.estimate > 0], method)
    if left := open_jobs(jobs, config):
        bound_jointly(engines, left)
        prove_jobs(engines, [job for job in left if job.estimate > 0])
    for led in (False, True):
        if left := open_jobs(jobs, config):
            attack_differences(engines, left, steps=config.attack_steps, led=led)


def _prove(engines: PairEngines, jobs: Sequence[PairJob]) -> None:
    """Lets the checker have the last word: on brackets it finds the bound, the others stay open."""
    if not jobs[0].bracket:
        prove_jobs(engines, jobs, last=True)
        return
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


def _sample(jobs: Sequence[PairJob], config: SearchConfig) -> frozenset[str]:
    """Regions for the spot checks, drawn by the seed from the regions' names alone."""
    names = sorted({job.task.region.id for job in jobs})
    count = min(config.smt_samples, len(names))
    drawn = np.random.default_rng(config.seed).choice(names, size=count, replace=False).tolist() if count else []
    return frozenset(drawn)


def _spot_checked(engines: PairEngines, job: PairJob, finding: Finding | None) -> Finding | None:
    """The finding with z3's word on it. Raises: SoundnessError if they contradict each other."""
    from paoding_verify.equivalence.exact import refuse_witness, spot_check

    if finding is None:
        return None
    claim, statement = finding.claim, job.prop
    if job.bracket:
        if claim.bound is None:
            return finding
        statement = distance_at_most(claim.bound, engines.original.num_outputs)
    region = job.task.region
    limit_s = min(_SPOT_S, job.until_s - monotonic())
    answer = spot_check(engines.networks, region, statement, claim.verdict, timeout_s=limit_s, solver=engines.solver)
    if claim.witness is not None:
        point = np.array(claim.witness.input, dtype=np.float64).reshape(region.lower.shape)
        refuse_witness(engines.networks, region, statement, answer, point)
    return replace(finding, claim=replace(claim, smt=answer.status, smt_scale=answer.scale, smt_sampled=True))
