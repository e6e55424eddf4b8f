"""What a result says about anchors: the margin of every claim there, within what float32 programs can compute.

Where these bounds leave open on which side of zero a margin lies, onnxruntime runs the shipped files: accuracy at the
anchors rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.checker.claims import Setting
from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.errors import EngineError
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import Property, surely_broken
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network
from paoding_verify.network.onnx_out import shipped_onnx

__all__ = ["Outputs", "check_margin", "enclose_outputs", "replay_margins"]

BATCH = 64
"""Anchors that are enclosed together."""
NEAR = 1e-5
"""Relative to 1 + the terms of the row that decides: margins so close together may differ in sign between programs."""
ROUNDING = 2.0**-40
"""Room for the few float64 operations between outputs and a stated margin, relative to the terms summed up."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """Where the outputs of every float32 program lie at some points. Shapes: (N, num_outputs)."""

    lower: Array
    upper: Array


def enclose_outputs(networks: Mapping[str, Network], points: Array) -> dict[str, Outputs]:
    """For every network the enclosure of its outputs. Shapes: points (N, *input_shape)."""
    found = {}
    for role, network in networks.items():
        eye = np.eye(network.num_outputs)
        parts = []
        for start in range(0, len(points), BATCH):
            part = points[start : start + BATCH]
            state = enclose([network], part, part, "float32")
            parts.append(bound_rows(state, np.vstack([eye, -eye]), np.zeros(2 * len(eye))))
        lower, negated = np.split(np.concatenate(parts), 2, axis=1)
        found[role] = Outputs(lower, -negated)
    return found


def check_margin(claim: Claim, setting: Setting, used: Sequence[Outputs], number: int) -> str | None:
    """Why the claim's margin at its anchor cannot be true, or why it cannot be UNKNOWN; "" if neither is found, None if
    the margin that is stated may be on either side of zero: see `replay_margins`.

    used: the outputs of the claim's networks; number: the row that belongs to its region.
    """
    lower = np.concatenate([outputs.lower[number] for outputs in used])
    upper = np.concatenate([outputs.upper[number] for outputs in used])
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        return None
    prop = setting.property
    plus, minus = np.maximum(prop.rows, 0), np.minimum(prop.rows, 0)
    size = np.abs(prop.rows) @ np.maximum(np.abs(lower), np.abs(upper)) + np.abs(prop.offsets)
    room = ROUNDING * float(size.max())
    row_lower = plus @ lower + minus @ upper + prop.offsets - room
    row_upper = plus @ upper + minus @ lower + prop.offsets + room
    low, high = (float(prop.margins(edge[None])[0]) for edge in (row_lower, row_upper))
    if claim.margin is None:
        return "it does not state the margin at its anchor"
    if not low <= claim.margin <= high:
        return f"its margin at the anchor, {claim.margin:.9g}, does not lie in [{low:.9g}, {high:.9g}]"
    if claim.verdict is Verdict.UNKNOWN and high < 0 and surely_broken(prop, row_lower, row_upper):
        return "its anchor breaks it, yet it is stated as UNKNOWN"
    return None if low <= 0.0 <= high else ""


def replay_margins(claims: Sequence[tuple[Claim, Setting]], points: Array) -> list[tuple[str, bool]]:
    """Why the margins that claims state are not those of the shipped files in onnxruntime, "" where they are; and if
    that says nothing about accuracy: both lie on one side of zero, or differ by no more than programs do.

    Shapes: points (N, *input_shape), the anchor of each claim.

    Raises: ImportError if onnxruntime is not installed.
    """
    from paoding_verify.network.runtime import OnnxProgram

    programs: dict[int, OnnxProgram] = {}
    found = []
    for (claim, setting), point in zip(claims, points, strict=True):
        try:
            for network in setting.networks:
                if id(network) not in programs:
                    programs[id(network)] = OnnxProgram(shipped_onnx(network))
            runs = [programs[id(network)].run(point[None].astype(np.float32))[0] for network in setting.networks]
        except EngineError as error:
            found.append((str(error), False))
            continue
        found.append(_compared(claim.margin, setting.property, np.concatenate(runs).astype(np.float64)))
    return found


def _compared(stated: float | None, prop: Property, outputs: Array) -> tuple[str, bool]:
    if not np.isfinite(outputs).all():
        return ("onnxruntime overflows at its anchor", False) if stated is not None and stated > 0 else ("", True)
    values = prop.rows @ outputs + prop.offsets
    margin = float(prop.margins(values[None])[0])
    if stated is None:
        return f"it does not state the margin at its anchor, where onnxruntime finds {margin:.9g}", False
    row = int(np.abs(values - margin).argmin())
    near = NEAR * (1.0 + float(np.abs(prop.rows[row]) @ np.abs(outputs) + np.abs(prop.offsets[row])))
    close, same_side = abs(margin - stated) <= near, (margin > 0) == (stated > 0)
    if close and same_side:
        return "", True
    text = f"onnxruntime finds the margin {margin:.9g} at its anchor, it states {stated:.9g}"
    return text, close or same_side
