"""Claims of a result, proved again or replayed from the bundle alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.checker.program import pair_program, single_program
from paoding_verify.checker.prove import Proof, prove
from paoding_verify.errors import EngineError, InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import Property, decides_like, distance_at_most, predicts
from paoding_verify.network.graph import Array, Network
from paoding_verify.network.onnx_out import shipped_onnx

__all__ = ["Setting", "prove_claims", "replay"]

BOUND_TOLERANCE = 1e-6
"""How far, relatively, a stated bound may exceed the bound proved here: other orders of summation of other BLAS."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a claim is about, read from the bundle."""

    networks: tuple[Network, ...]
    property: Property
    lower: Array
    upper: Array

    @classmethod
    def of(cls, claim: Claim, networks: Mapping[str, Network], box: tuple[Array, Array]) -> Setting:
        """Rebuilds the property from kind, label, delta and bound. Raises: InputError if that is not possible."""
        roles = ("original", "pruned") if claim.subject == "pair" else (claim.subject,)
        if any(role not in networks for role in roles):
            raise InputError(f"it is about the {claim.subject[:40]!r} network, which the bundle does not hold")
        used = tuple(networks[role] for role in roles)
        outputs = used[0].num_outputs
        if box[0].shape != used[0].input_shape or any(
            (network.num_outputs, network.input_shape) != (outputs, used[0].input_shape) for network in used
        ):
            raise InputError("its networks and region do not fit together")
        single = len(used) == 1
        if claim.kind == "top1_robust" and single and claim.label is not None:
            prop = predicts(claim.label, outputs)
        elif claim.kind == "top1_equivalent" and not single:
            prop = decides_like(outputs)
        elif claim.kind == "output_distance" and not single:
            threshold = claim.delta if claim.delta is not None else claim.bound
            if threshold is None:
                raise InputError("it states neither a threshold nor a bound")
            prop = distance_at_most(threshold, outputs)
        else:
            raise InputError(f"the bundle does not hold the property of a {claim.kind[:40]!r} claim")
        return cls(used, prop, *box)


def prove_claims(
    claims: Sequence[Claim], settings: Sequence[Setting], certificates: Mapping[str, Certificate]
) -> list[str]:
    """For each claim "" if it was proved again in every arithmetic that it names, else why it is refused."""
    reasons = ["" for _ in claims]
    groups: dict[tuple[str, str], list[int]] = {}
    for k, claim in enumerate(claims):
        if claim.id not in certificates:
            reasons[k] = "it has no certificate"
        elif not claim.semantics or not set(claim.semantics) <= {"real", "float32"} or not claim.rechecked:
            reasons[k] = "it does not say in which arithmetic it was proved twice"
        else:
            for semantics in claim.semantics:
                groups.setdefault((claim.subject, semantics), []).append(k)
    for (_, semantics), members in groups.items():
        proofs = prove(
            settings[members[0]].networks,
            np.stack([settings[k].lower for k in members]),
            np.stack([settings[k].upper for k in members]),
            [settings[k].property for k in members],
            [certificates[claims[k].id] for k in members],
            semantics=semantics,
        )
        for k, proof in zip(members, proofs, strict=True):
            reasons[k] = reasons[k] or _refusal(claims[k], proof, semantics)
    return reasons


def _refusal(claim: Claim, proof: Proof, semantics: str) -> str:
    if not proof.proved or proof.margin is None:
        return f"not proved in {semantics}: {proof.reason}"
    bracket = claim.kind == "output_distance" and claim.delta is None
    if not bracket and claim.bound is not None and claim.bound > proof.margin + BOUND_TOLERANCE * abs(claim.bound):
        return f"its bound {claim.bound:.9g} exceeds what is proved in {semantics}, {proof.margin:.9g}"
    return ""


def replay(claim: Claim, setting: Setting) -> tuple[str, str]:
    """Whether a witness breaks its claim: ("reproved" | "refused" | "unchecked", why).

    The point must be a float32 point of the box, exactly. The outputs that the claim states must break the property,
    exactly, and lie where every float32 program's outputs lie (bounds from `crown.py`). If all such outputs break it,
    that is a proof; otherwise onnxruntime runs the shipped files, if it is installed.
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
    if _margin(prop, stated) > 0:
        return "refused", "the outputs that its witness states do not break it"
    eye = np.eye(len(stated))
    edges = _upper_bounds(setting.networks, point, np.vstack([eye, -eye, prop.rows]), prop.offsets)
    if not ((stated <= edges[: len(eye)]) & (-stated <= edges[len(eye) : 2 * len(eye)])).all():
        return "refused", "no float32 program gives the outputs that its witness states"
    if any(edges[2 * len(eye) :][list(clause)].max() <= 0 for clause in prop.clauses):
        return "reproved", ""
    try:
        from paoding_verify.network.runtime import OnnxProgram

        runs = [OnnxProgram(shipped_onnx(n)).run(point[None].astype(np.float32))[0] for n in setting.networks]
    except ImportError:
        return "unchecked", "its margin is within rounding, and onnxruntime is not installed to replay it"
    except EngineError as error:
        return "refused", str(error)
    outputs = np.concatenate(runs).astype(np.float64)
    if not np.isfinite(outputs).all() or _margin(prop, outputs) > 0:
        return "refused", "onnxruntime does not reproduce its witness"
    return "reproved", ""


def _margin(prop: Property, outputs: Array) -> Fraction:
    """The margin at given outputs, exactly."""
    values = [
        Fraction(float(offset))
        + sum((Fraction(float(c)) * Fraction(float(y)) for c, y in zip(row, outputs, strict=True)), Fraction(0))
        for row, offset in zip(prop.rows, prop.offsets, strict=True)
    ]
    return min(max(values[r] for r in clause) for clause in prop.clauses)


def _upper_bounds(networks: Sequence[Network], point: Array, rows: Array, offsets: Array) -> Array:
    """Upper bounds of rows over what float32 programs compute at a point; `offsets` belong to the last rows."""
    program = single_program(networks[0]) if len(networks) == 1 else pair_program(networks[0], networks[1], None)
    state = enclose(program, point[None], point[None], "float32")
    constants = np.concatenate([np.zeros(len(rows) - len(offsets)), offsets])
    return -bound_rows(state, -rows, -constants)[0]
