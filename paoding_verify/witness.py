"""Witnesses: points that break a property in the deployed programs, without any tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from paoding_verify.attack import attack
from paoding_verify.evidence.claim import Witness
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.property import exact_margin as property_margin
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import Region, float32_interior

__all__ = ["exact_margin", "find_witness", "replay_witness"]

_NEAR = (2.0**-10, 2.0**-6, 2.0**-3)
"""Sizes of the neighbourhoods, relative to the box, in which a point that failed is searched again."""


def exact_margin(prop: Property, outputs: Float32Array) -> Fraction | None:
    """The margin of a property at given outputs, free of rounding; None if an output is not finite. Shape: (outputs,).

    Source: rational arithmetic, so that rounding can neither make nor hide a violation.
    """
    if not np.isfinite(outputs).all():
        return None
    return property_margin(prop, outputs.tolist())


def replay_witness(
    programs: Sequence[OnnxProgram], region: Region, prop: Property, point: Float32Array
) -> Witness | None:
    """A witness only if the float32 point lies in the box and the property's margin on the programs' outputs is <= 0.

    Zero tolerance on both sides; a tie counts, since a property needs strict inequalities. Whether it breaks the
    property too, where the two differ, `evidence.property.broken_by` tells.
    Shapes: point (*input_shape); one program, or two for a pair.
    """
    if point.dtype != np.float32 or not region.contains(point):
        return None
    outputs = [program.run(point[np.newaxis])[0] for program in programs]
    margin = exact_margin(prop, np.concatenate(outputs))
    if margin is None or margin > 0:
        return None
    flat = [tuple(float(y) for y in output) for output in outputs]
    return Witness(tuple(float(v) for v in point.ravel()), flat[0], flat[1] if len(flat) > 1 else None)


def find_witness(
    networks: Sequence[Network],
    programs: Sequence[OnnxProgram],
    region: Region,
    prop: Property,
    point: Float32Array,
    *,
    seed: int = 0,
) -> Witness | None:
    """The point as a witness, or one near it: onnxruntime rounds differently from the search, so a margin close to
    zero may need a few more steps downhill. None if nothing near the point breaks the property in the programs.
    """
    witness = replay_witness(programs, region, prop, point)
    low, high = float32_interior(region.lower, region.upper)
    for part in _NEAR:
        if witness is not None:
            break
        reach = (high - low) * np.float32(part)
        box_low, box_high = np.maximum(low, point - reach), np.minimum(high, point + reach)
        found = attack(
            networks, box_low[np.newaxis].astype(np.float64), box_high[np.newaxis].astype(np.float64), prop.rows,
            prop.offsets, prop.clauses, restarts=2, steps=20, seed=seed, centre=point[np.newaxis],
        )  # fmt: skip
        witness = replay_witness(programs, region, prop, found.points[0])
    return witness
