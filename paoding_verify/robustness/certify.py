"""The cascade for one network: centre, attack, CROWN-IBP, CROWN, alpha-CROWN, input splitting, ReLU splitting; cheapest
first.

A claim is CERTIFIED only after the checker has proved it again in every arithmetic that the configuration names, and
VIOLATED only with a witness that onnxruntime reproduces on the shipped file. All else is UNKNOWN, with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from math import prod

from paoding_verify.crew.bench import Crew
from paoding_verify.crew.cascade import Stage, batches_of, run_cascade
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
from paoding_verify.settled import Judge
from paoding_verify.task import Progress, SearchConfig, Task

__all__ = ["Certification", "certify"]

_BATCH = 64
"""Tasks that go through the cascade together."""

_METHODS = ("crown-ibp", "crown", "alpha-crown")


def certify(
    network: Network, tasks: Sequence[Task], config: SearchConfig, *, memo: Memo = FORGETFUL,
    progress: Progress | None = None, crew: Crew | None = None,
) -> list[Finding]:  # fmt: skip
    """One finding per task, in the order of the tasks; deterministic, whoever does the work (`crew`), unless a time
    limit strikes. Claims that `memo` kept of the same call are not settled again.

    Raises: ConfigError if a task has no property over this network's outputs, EngineError if an engine fails and the
    crew is not told what becomes of the claim, SoundnessError if a proof and a point contradict each other.
    """
    jobs = [Job(task, _checked(task, network)) for task in tasks]
    batches = batches_of(jobs, lambda job: (len(job.prop.rows), job.prop.clauses), _BATCH)
    run_cascade(Certification(network, config), batches, memo=memo, progress=progress, crew=crew or Crew())
    return [job.finding for job in jobs if job.finding is not None]


def _checked(task: Task, network: Network) -> Property:
    if task.property is None or task.property.rows.shape[1] != network.num_outputs:
        raise ConfigError(f"task {task.id} needs a property over the {network.num_outputs} outputs of {network.name!r}")
    return task.property


class Certification:
    """The stages for claims about one network."""

    # Natural accuracy is what centres say, so that they are looked at whatever the budget.
    stages = (
        Stage("centre", together=True, brief=True),
        Stage("bounds", together=True),
        Stage("input-splitting", together=False),
        Stage("relu-splitting", together=False),
        Stage("proof", together=True),
    )

    def __init__(self, network: Network, config: SearchConfig) -> None:
        self.network, self.config = network, config

    def __reduce__(self) -> tuple[type[Certification], tuple[Network, SearchConfig]]:
        """Engines are built anew wherever it goes."""
        return Certification, (self.network, self.config)

    @cached_property
    def _engines(self) -> Engines:
        return Engines(self.network, self.config)

    @property
    def judge(self) -> Judge:
        """What decides whether a kept claim counts."""
        return Judge((self.network,), self.config.semantics)

    def wants(self, stage: str, job: Job) -> bool:
        """Whether the claim has to go through the stage."""
        if stage == "input-splitting" and prod(self.network.input_shape) > MAX_FEATURES:
            return False
        return job.finding is None and (stage in ("centre", "bounds", "proof") or job.left_s(self.config) > 0)

    def perform(self, stage: str, jobs: Sequence[Job]) -> None:
        """Takes the claims through the stage."""
        if stage == "centre":
            look_at_centres(self._engines, jobs)
        elif stage == "bounds":
            _bound(self._engines, jobs)
        elif stage == "proof":
            prove_jobs(self._engines, jobs, last=True)
        else:
            (job,) = jobs
            (_split_inputs if stage == "input-splitting" else split_relus)(self._engines, job)

    def close(self) -> None:
        """Nothing outlives a call."""


def _bound(engines: Engines, jobs: Sequence[Job]) -> None:
    """What is done with all claims of a batch at a time."""
    if left := open_jobs(jobs, engines.config):
        attack_regions(engines, left)
    for method in _METHODS if engines.bounder is not None else ("checker",):
        if left := open_jobs(jobs, engines.config):
            bound_regions(engines, left, method)


def _split_inputs(engines: Engines, job: Job) -> None:
    """Input splitting of one job; settles it if that decides it."""
    config, region = engines.config, job.task.region
    if engines.bounder is None:
        return
    with shared_time([job], "input-splitting"):
        splitter = Splitter(engines.network, engines.bounder, config.max_leaves)
        confirm = partial(confirmed_margins, engines, job.prop)
        outcome = splitter.run((region.lower, region.upper), job.prop, confirm, limit_s=job.left_s(config))
        job.attack = min(job.attack, outcome.attack)
        job.limit = outcome.limit
        if outcome.point is not None:
            try_witness(engines, job, outcome.point, "input-splitting")
            job.limit = f"a point with margin {outcome.attack:.3g} is not reproduced by onnxruntime"
    if outcome.decided:
        best, job.certificate = job.certificate, Certificate("crown", split=outcome.split)
        prove_jobs(engines, [job])
        if job.finding is None:
            job.certificate = best
