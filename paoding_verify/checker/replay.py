"""Witnesses of a result, replayed from the bundle alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.checker.claims import Setting
from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.errors import EngineError
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import broken_by, surely_broken
from paoding_verify.network.graph import Array, Network
from paoding_verify.network.onnx_out import shipped_onnx

__all__ = ["replay"]


def replay(claim: Claim, setting: Setting) -> tuple[str, str]:
    """Whether a witness breaks its claim: ("reproved" | "refused" | "unchecked", why).

    The point must be a float32 point of the box, exactly. The outputs that the claim states must break the property,
    exactly, and lie where every float32 program's outputs lie (bounds from `crown.py`). If all such outputs break it,
    that is a proof; otherwise onnxruntime runs the shipped files, if it is installed ("unchecked": it is not).
    """
    witness = claim.witness
    if witness is None or len(witness.input) != setting.lower.size:
        return "refused", "its witness does not have the shape of an input"
    point = np.array(witness.input).reshape(setting.lower.shape)
    if not ((setting.lower <= point) & (point <= setting.upper)).all() or (point.astype(np.float32) != point).any():
        return "refused", "its witness is no float32 point of the region"
    halves = (witness.outputs_original, witness.outputs_pruned)
    used = {"original": halves[:1], "pruned": halves[1:]}.get(claim.subject, halves)
    if any(half is None or len(half) != setting.networks[0].num_outputs for half in used):
        return "refused", "its witness does not state the outputs of its networks"
    stated = np.array([y for half in used if half is not None for y in half])
    prop = setting.property
    unused = {"original": halves[1:], "pruned": halves[:1]}.get(claim.subject, ())
    if any(half is not None for half in unused):
        return "refused", "its witness states outputs of a network that the claim is not about"
    if not broken_by(prop, stated.tolist()):
        return "refused", "the outputs that its witness states do not break it"
    eye, nothing = np.eye(len(stated)), np.zeros(len(stated))
    lower, upper = _edges(
        setting.networks, point, np.vstack([eye, prop.rows]), np.concatenate([nothing, prop.offsets])
    )  # fmt: skip
    if not ((lower[: len(eye)] <= stated) & (stated <= upper[: len(eye)])).all():
        return "refused", "no float32 program gives the outputs that its witness states"
    if surely_broken(prop, lower[len(eye) :], upper[len(eye) :]):
        return "reproved", ""
    try:
        from paoding_verify.network.runtime import OnnxProgram

        runs = [OnnxProgram(shipped_onnx(n)).run(point[None].astype(np.float32))[0] for n in setting.networks]
    except ImportError:
        return "unchecked", "its margin is within rounding, and onnxruntime is not installed to replay it"
    except EngineError as error:
        return "refused", str(error)
    outputs = np.concatenate(runs).astype(np.float64)
    if not np.isfinite(outputs).all() or not broken_by(prop, outputs.tolist()):
        return "refused", "onnxruntime does not reproduce its witness"
    return "reproved", ""


def _edges(networks: Sequence[Network], point: Array, rows: Array, offsets: Array) -> tuple[Array, Array]:
    """Bounds of rows over what float32 programs compute at a point. Shapes: (R, outputs) and (R,) -> (R,) each."""
    state = enclose(networks, point[None], point[None], "float32")
    lower, negated = np.split(
        bound_rows(state, np.vstack([rows, -rows]), np.concatenate([offsets, -offsets]))[0], 2
    )  # fmt: skip
    return lower, -negated
