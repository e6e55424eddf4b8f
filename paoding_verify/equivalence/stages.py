"""The stages of a comparison, each for a batch of open jobs whose properties have the same rows and clauses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.attack import attack
from paoding_verify.bounds.hints import LONG, needed_slopes
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.job import PairJob, shared_time
from paoding_verify.evidence.certificate import NO_HINT, Certificate, Slopes
from paoding_verify.evidence.property import Property, broken_by, predicts
from paoding_verify.network.graph import Float32Array
from paoding_verify.regions import stack_boxes
from paoding_verify.task import SearchConfig
from paoding_verify.witness import find_witness

__all__ = [
    "attack_differences", "bound_each", "bound_jointly", "look_at_centres", "open_jobs", "try_witness",
]  # fmt: skip

_CLOSED_SLOPE = 0.01
"""Slope of units that are off, for gradients that lead an attack."""
_LED = 20
"""Clauses that a led attack descends by themselves."""


def open_jobs(jobs: Sequence[PairJob], config: SearchConfig) -> list[PairJob]:
    """Jobs that are neither settled nor out of time."""
    return [job for job in jobs if job.finding is None and job.left_s(config) > 0]


def look_at_centres(engines: PairEngines, jobs: Sequence[PairJob]) -> None:
    """Margins and classes at the centres; settles the jobs whose centre is a witness."""
    with shared_time(jobs, "centre"):
        centres = np.stack([job.task.region.centre for job in jobs])
        outputs = [network.forward(centres) for network in engines.networks]
        for k, job in enumerate(jobs):
            f, g = outputs[0][k], outputs[1][k]
            job.margin = float(job.prop.margins(job.prop.values(np.concatenate([f, g])[None]))[0])
            job.attack = min(job.attack, job.margin)
            if _tops(f) == _tops(g) and len(_tops(f)) == 1:
                (job.label,) = _tops(f)
            if job.margin <= 0 and not job.bracket:
                try_witness(engines, job, centres[k], "centre")


def attack_differences(
    engines: PairEngines, jobs: Sequence[PairJob], *, steps: int, led: bool = False, method: str = ""
) -> None:  # fmt: skip
    """Projected gradient descent on the margins; settles the jobs for which a witness is found.

    led: gradients pass through units that are off, as where networks differ in these alone there is no other; and
    every clause is descended by itself, as clauses of opposite sign cancel each other where the networks agree.
    `method` is what is said to have been tried; empty: the same as before.
    """
    config, prop = engines.config, jobs[0].prop
    decides = not any(job.bracket or job.prop.weak or job.task.parameter is not None for job in jobs)
    with shared_time(jobs, method):
        result = attack(
            engines.networks, *stack_boxes([job.task.region for job in jobs]), prop.rows,
            np.stack([job.prop.offsets for job in jobs]), prop.clauses,
            restarts=max(config.attack_restarts, 2 * min(len(prop.clauses), _LED)) if led else config.attack_restarts,
            steps=steps, seed=config.seed, centre=np.stack([job.task.region.centre for job in jobs]),
            enough=0.0 if decides else -np.inf, closed_slope=_CLOSED_SLOPE if led else 0.0,
        )  # fmt: skip
        for job, margin, point in zip(jobs, result.margin, result.points, strict=True):
            job.attack = min(job.attack, float(margin))
            if margin <= 0 and not job.bracket:
                try_witness(engines, job, point, "pgd")


def try_witness(engines: PairEngines, job: PairJob, point: Float32Array, method: str) -> None:
    """Settles the job if the point, or one near it, breaks its property in onnxruntime on both shipped files.

    Where the property fails and is not broken (top-1 equivalence at a tie, which two identical networks have as well),
    the job stays open.
    """
    witness = find_witness(
        engines.networks, engines.programs, job.task.region, job.prop, point, seed=engines.config.seed
    )
    if witness is None:
        return
    if broken_by(job.prop, (*(witness.outputs_original or ()), *(witness.outputs_pruned or ()))):
        job.violated(method, witness)
    else:
        job.limit = "an attack found tied outputs, no different decision"
        if job.prop.weak:
            job.limit = "an attack found a point on the boundary of what is unsafe, and none beyond"
        if job.task.parameter is not None:
            job.limit = "an attack found a point where the property fails, but not clearly enough to refute it"


def bound_each(engines: PairEngines, jobs: Sequence[PairJob], method: str) -> None:
    """Both networks certified for the class they give the centre; only for jobs of which that is a proof.

    Plain CROWN is proved again from the class alone; slopes of alpha-CROWN travel
    as those of a pair without alignment. Where auto_LiRPA has no bounds, the joint bounds that follow have to do.
    """
    jobs = [job for job in jobs if _follows_from_label(job)]
    if not jobs or engines.single is None:
        return
    with shared_time(jobs, method):
        lower, upper = stack_boxes([job.task.region for job in jobs])
        wanted = [predicts(job.label or 0, engines.original.num_outputs) for job in jobs]
        rows = np.stack([prop.rows for prop in wanted])
        found = [
            bounder.lower_bounds(
                lower, upper, rows, np.zeros(rows.shape[:2]), method=method, iterations=engines.config.alpha_iterations
            )
            for bounder in engines.single
        ]
        hints = [
            needed_slopes(network, (lower, upper), rows, np.zeros(rows.shape[:2]), bounds.slopes, limit=LONG // 2)
            for network, bounds in zip(engines.networks, found, strict=True)
        ]
        for k, job in enumerate(jobs):
            estimate = float(min(bounds.lower[k].min() for bounds in found))
            if estimate > job.estimate:
                job.estimate = estimate
                slopes = [each[k] for each in hints]
                job.certificate = Certificate("both-robust", label=job.label)
                if any(slopes):
                    job.certificate = Certificate("differential", _pair_slopes(engines, job.prop, wanted[k], slopes))


def bound_jointly(engines: PairEngines, jobs: Sequence[PairJob]) -> None:
    """Joint bounds of both networks on all rows of the property."""
    with shared_time(jobs, "differential-crown"):
        lower, upper = stack_boxes([job.task.region for job in jobs])
        prop = jobs[0].prop
        rows = engines.joint_bounds(lower, upper, Property(prop.rows, np.zeros(len(prop.rows)), prop.clauses)).lower
        for k, job in enumerate(jobs):
            estimate = float(job.prop.margins(rows[k : k + 1] + job.prop.offsets)[0])
            if estimate > job.estimate:
                job.estimate = estimate
                job.certificate = Certificate("differential", alignment=engines.alignment)


def _follows_from_label(job: PairJob) -> bool:
    """Whether both networks' robustness for the class that they give the centre proves the job's property."""
    prop, width = job.prop, job.prop.rows.shape[1] // 2
    if job.label is None or width < 2:
        return False
    places = {row.tobytes(): r for r, row in enumerate(prop.rows + 0.0) if prop.offsets[r] >= 0}
    wanted = predicts(job.label, width).rows
    rows = np.block([[wanted, np.zeros_like(wanted)], [np.zeros_like(wanted), wanted]])
    proved = [places.get(row.tobytes(), -1) for row in rows]
    if min(proved) < 0:
        return False
    values = np.full((1, len(prop.rows)), -1.0)
    values[0, proved] = 1.0
    return bool(prop.margins(values)[0] > 0)


def _pair_slopes(engines: PairEngines, prop: Property, wanted: Property, slopes: Sequence[Slopes]) -> Slopes:
    """Slopes of f and g, each for the rows of `wanted` over its outputs, as slopes of the pair for the rows of `prop`.

    Nodes of g are counted after those of f; the property's rows start after both.
    """
    end = sum(len(network.nodes) for network in engines.networks)
    result: dict[tuple[int, int], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
    shift, width = 0, engines.original.num_outputs
    for s, network in enumerate(engines.networks):
        own = np.zeros((len(wanted.rows), prop.rows.shape[1]))
        own[:, s * width : (s + 1) * width] = wanted.rows
        places = [int(np.flatnonzero((prop.rows == row).all(axis=1))[0]) for row in own]
        for (start, node), table in slopes[s].items():
            if start < len(network.nodes):
                result[start + shift, node + shift] = table
            elif len(table) == 1:
                result[end, node + shift] = table
            else:
                result[end, node + shift] = np.full((len(prop.rows), table.shape[1]), NO_HINT, dtype=np.uint8)
                result[end, node + shift][places] = table
        shift += len(network.nodes)
    return result


def _tops(outputs: Float32Array) -> set[int]:
    """The classes with the largest output."""
    return set(np.flatnonzero(outputs == outputs.max()).tolist())
