"""The stages of the cascade, each for a batch of open jobs whose properties have rows and clauses of one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from paoding_verify.attack import attack
from paoding_verify.bounds.hints import needed_slopes
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.checker.intervals import hardest
from paoding_verify.errors import EngineError, UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property, broken_by
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import stack_boxes
from paoding_verify.robustness.input_splitting import BATCH, MAX_FEATURES
from paoding_verify.robustness.job import Job, shared_time
from paoding_verify.settled import Judge
from paoding_verify.task import SearchConfig
from paoding_verify.witness import find_witness

__all__ = [
    "Engines",
    "attack_regions",
    "bound_regions",
    "confirmed_margins",
    "look_at_centres",
    "open_jobs",
    "prove_jobs",
    "try_witness",
]


@dataclass(frozen=True, eq=False)
class Engines:
    """The network in the forms that the stages need; each is built when it is first used."""

    network: Network
    config: SearchConfig

    @property
    def judge(self) -> Judge:
        """What decides whether a kept claim counts."""
        return Judge((self.network,), self.config.semantics)

    @cached_property
    def program(self) -> OnnxProgram:
        """The file that deployments run, on which witnesses are replayed."""
        return OnnxProgram(shipped_onnx(self.network))

    @cached_property
    def bounder(self) -> LirpaBounder | None:
        """Bounds that are believed only until the checker has proved them; None: auto_LiRPA has none for some
        operation of the network (max pooling with padding, say), and the checker's own bounds have to do.
        """
        splits = prod(self.network.input_shape) <= MAX_FEATURES
        try:
            return LirpaBounder(self.network, chunk=BATCH if splits else 64)
        except UnsupportedOpError:
            return None


def open_jobs(jobs: Sequence[Job], config: SearchConfig) -> list[Job]:
    """Jobs that are neither settled nor out of time."""
    return [job for job in jobs if job.finding is None and job.left_s(config) > 0]


def look_at_centres(engines: Engines, jobs: Sequence[Job]) -> None:
    """Sets the margin at each centre; settles the jobs whose property fails there."""
    with shared_time(jobs, "centre"):
        centres = np.stack([job.task.region.centre for job in jobs])
        outputs = engines.network.forward(centres)
        for job, centre, y in zip(jobs, centres, outputs, strict=True):
            job.margin = float(job.prop.margins(job.prop.values(y[np.newaxis]))[0])
            job.attack = min(job.attack, job.margin)
            if job.margin <= 0:
                try_witness(engines, job, centre, "centre")


def attack_regions(engines: Engines, jobs: Sequence[Job]) -> None:
    """Projected gradient descent; settles the jobs for which a witness is found."""
    config = engines.config
    with shared_time(jobs, "pgd"):
        result = attack(
            [engines.network], *stack_boxes([job.task.region for job in jobs]),
            np.stack([job.prop.rows for job in jobs]), np.stack([job.prop.offsets for job in jobs]),
            jobs[0].prop.clauses, restarts=config.attack_restarts, steps=config.attack_steps, seed=config.seed,
            centre=np.stack([job.task.region.centre for job in jobs]),
        )  # fmt: skip
        for job, margin, point in zip(jobs, result.margin, result.points, strict=True):
            job.attack = min(job.attack, float(margin))
            if margin <= 0:
                try_witness(engines, job, point, "pgd")


def bound_regions(engines: Engines, jobs: Sequence[Job], method: str) -> None:
    """Bounds by one method of auto_LiRPA, where it has any; settles the jobs that the checker then proves."""
    if engines.bounder is None:
        prove_jobs(engines, jobs, "checker")
        return
    with shared_time(jobs, method):
        box = stack_boxes([job.task.region for job in jobs])
        rows, offsets = np.stack([job.prop.rows for job in jobs]), np.stack([job.prop.offsets for job in jobs])
        bounds = engines.bounder.lower_bounds(
            *box, rows, offsets, method=method, iterations=engines.config.alpha_iterations
        )
        slopes = needed_slopes(engines.network, box, rows, offsets, bounds.slopes)
        for k, job in enumerate(jobs):
            estimate = float(job.prop.margins(bounds.lower[k : k + 1])[0])
            if estimate > job.estimate:
                job.estimate = estimate
                job.certificate = Certificate("crown", slopes[k])
    prove_jobs(engines, [job for job in jobs if job.estimate > 0])


def prove_jobs(engines: Engines, jobs: Sequence[Job], method: str = "", *, last: bool = False) -> None:
    """Lets the checker prove the jobs' certificates in every arithmetic; settles those it proves.

    With `last` it settles the others too: as UNKNOWN, with the bound that was proved. `method` is what is said to
    have been tried; empty: the same as before.
    """
    from paoding_verify.checker.prove import prove

    if not jobs:
        return
    margins, reasons = np.full(len(jobs), -np.inf), [""] * len(jobs)
    semantics = hardest(engines.config.semantics)
    with shared_time(jobs, method):
        lower, upper = stack_boxes([job.task.region for job in jobs])
        props, certificates = [job.prop for job in jobs], [job.certificate for job in jobs]
        proofs = prove([engines.network], lower, upper, props, certificates, semantics=semantics)
        for k, proof in enumerate(proofs):
            if proof.damaged:
                raise EngineError(f"{jobs[k].task.id}: the search made a certificate that is {proof.reason}")
            margins[k] = -np.inf if proof.margin is None else proof.margin
            reasons[k] = "" if proof.proved else f"{semantics}: {proof.reason}"
    for job, margin, reason in zip(jobs, margins, reasons, strict=True):
        if not reason:
            job.certified(float(margin), engines.config.semantics)
        elif last:
            job.unknown(float(margin) if np.isfinite(margin) else None, engines.config)
        else:
            job.refusal = reason


def confirmed_margins(engines: Engines, prop: Property, lower: Array, upper: Array) -> Array:
    """The checker's lower bounds of a property's margin on boxes, in the arithmetic that is hardest to prove.

    Shapes: lower, upper (n, *input_shape) -> (n,).
    """
    from paoding_verify.checker.crown import lower_bounds

    semantics = hardest(engines.config.semantics)
    return prop.margins(lower_bounds([engines.network], lower, upper, prop.rows, prop.offsets, semantics=semantics))


def try_witness(engines: Engines, job: Job, point: Float32Array, method: str) -> None:
    """Settles the job if the point, or one near it, breaks its property in onnxruntime.

    On the boundary of a strict condition the property fails to be proved without being broken: the job stays open.
    """
    region = job.task.region
    witness = find_witness([engines.network], [engines.program], region, job.prop, point, seed=engines.config.seed)
    if witness is None:
        return
    if broken_by(job.prop, witness.outputs_original or ()):
        job.violated(method, witness)
    else:
        job.limit = "an attack found a point on the boundary of what is unsafe, and none beyond"
