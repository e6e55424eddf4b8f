"""The questions of an audit: one task per claim, with ids that name subject, kind and region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.errors import InputError, RegionError
from paoding_verify.evidence.claim import claim_id
from paoding_verify.evidence.property import Property, predicts
from paoding_verify.evidence.question import Question, pair_property
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region
from paoding_verify.task import Task

__all__ = ["labelled", "pair_tasks", "refuse_odd_labels", "robustness_tasks", "specification_tasks"]


def labelled(network: Network, regions: Sequence[Region]) -> list[Region]:
    """The regions, each with a label: its own, else the network's class at its centre.

    Raises: InputError if there is none, an id occurs twice, or a label is no class; RegionError if a shape differs.
    """
    if not regions:
        raise InputError("there is no region to look at: give data with at least one row")
    if len({region.id for region in regions}) != len(regions):
        raise InputError("two regions have the same id: give every region an id of its own")
    for region in regions:
        if region.lower.shape != network.input_shape:
            raise RegionError(
                f"region {region.id} has shape {region.lower.shape}; network {network.name!r} takes "
                f"{network.input_shape}: reshape the data or give the right model"
            )
    refuse_odd_labels(network, regions)
    classes = network.forward(np.stack([region.centre for region in regions])).argmax(axis=1)
    return [
        region if region.label is not None else replace(region, label=int(found))
        for region, found in zip(regions, classes, strict=True)
    ]


def refuse_odd_labels(network: Network, regions: Sequence[Region]) -> None:
    """Raises: InputError naming the region, and the file and row it came from, whose label is no class."""
    for region in regions:
        if region.label is not None and not 0 <= region.label < network.num_outputs:
            source = f" (from {region.source})" if region.source else ""
            raise InputError(
                f"region {region.id}{source} has the label {region.label}; the network has {network.num_outputs} "
                f"outputs, so that labels go from 0 to {network.num_outputs - 1}"
            )


def robustness_tasks(subject: str, num_outputs: int, regions: Sequence[Region]) -> list[Task]:
    """top1_robust for the label of every region."""
    wanted = {label: predicts(label, num_outputs) for label in {r.label for r in regions} if label is not None}
    return [_task("top1_robust", subject, r, wanted[r.label]) for r in regions if r.label is not None]


def specification_tasks(pairs: Sequence[tuple[Region, Property]], *, subject: str = "original") -> list[Task]:
    """vnnlib for every box of a specification; the specification is unsat exactly if every one holds."""
    return [_task("vnnlib", subject, region, prop) for region, prop in pairs]


def pair_tasks(
    num_outputs: int, regions: Sequence[Region], *, questions: Sequence[Question], delta: float | None = None
) -> list[Task]:
    """Every question about every region; delta is the threshold of output_distance, without which it is bracketed.

    Raises: InputError if a parameter does not fit, or a region lacks the label that a question is about.
    """
    tasks = []
    for question in questions:
        threshold = delta if question.kind == "output_distance" else None
        bracket = question.kind == "output_distance" and delta is None
        labels = {region.label for region in regions}
        stated = {
            label: None if bracket else pair_property(question, num_outputs, label=label, delta=delta)
            for label in labels
        }
        tasks += [
            replace(_task(question.kind, "pair", r, stated[r.label], threshold), parameter=question.parameter)
            for r in regions
        ]
    return tasks


def _task(kind: str, subject: str, region: Region, prop: Property | None, delta: float | None = None) -> Task:
    return Task(claim_id(subject, kind, region.id), kind, subject, region, prop, delta)
