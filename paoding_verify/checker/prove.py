"""Proves properties again from networks, boxes and hints. The only way to a CERTIFIED claim."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.checker.branching import margin_by_cases
from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.checker.program import check_slopes, pair_program, single_program
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import Certificate, Split
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array, Network

__all__ = ["MAX_LEAVES", "Proof", "leaves", "prove"]

MAX_LEAVES = 200_000
"""Leaves that one certificate may have."""
CHUNK_ROWS = 1 << 14
"""Rows (leaves times rows of the property) that are bounded together."""


@dataclass(frozen=True)
class Proof:
    """Outcome of one re-proof."""

    proved: bool
    """Whether the property holds at every point of the box."""
    margin: float | None
    """Proved lower bound of the property's margin on the box; None if there is none."""
    reason: str
    """Why it is not proved; empty if it is."""
    damaged: bool = False
    """Whether the certificate itself does not fit: an untruth in a bundle, and a fault of whoever made it."""


def prove(
    networks: Sequence[Network],
    lower: Array,
    upper: Array,
    properties: Sequence[Property],
    certificates: Sequence[Certificate],
    *,
    semantics: str,
) -> list[Proof]:
    """One proof or refusal for each box; `proved` is true only if the property holds on the whole box in `semantics`.

    Certificates are hints from strangers: whatever they hold, the worst they can do is to make a proof fail.
    Shapes: networks: one, or (f, g); lower, upper (N, *input_shape); N properties and certificates.
    Raises: InputError if the arguments do not fit together.
    """
    if not (len(lower) == len(upper) == len(properties) == len(certificates)) or len(networks) not in (1, 2):
        raise InputError("prove needs one or two networks, and one box, property and certificate for each proof")
    margins, reasons = np.full(len(properties), np.inf), [""] * len(properties)
    groups: dict[tuple[object, ...], list[tuple[int, Array, Array]]] = defaultdict(list)
    for task, (prop, certificate) in enumerate(zip(properties, certificates, strict=True)):
        try:
            _check(networks, lower[task], upper[task], prop, certificate)
            if certificate.trees:
                margins[task] = margin_by_cases(networks, lower[task], upper[task], prop, certificate, semantics)
                continue
            boxes = list(leaves(lower[task], upper[task], certificate.split))
        except InputError as error:
            margins[task], reasons[task] = -np.inf, f"refused: {error}"
            continue
        key = certificate.kind, certificate.alignment, certificate.label, len(prop.rows)
        groups[key].extend((task, low, high) for low, high in boxes)
    for group in groups.values():
        step = max(1, CHUNK_ROWS // len(properties[group[0][0]].rows))
        for i in range(0, len(group), step):
            tasks, low, high = zip(*group[i : i + step], strict=True)
            props, hints = [properties[task] for task in tasks], [certificates[task] for task in tasks]
            found = _bounds(networks, np.stack(low), np.stack(high), props, hints, semantics)
            for task, values in zip(tasks, found, strict=True):
                margin = float(properties[task].margins(values[None])[0])
                margins[task] = min(margins[task], margin) if np.isfinite(margin) else -np.inf
    return [_proof(float(margin), reason) for margin, reason in zip(margins, reasons, strict=True)]


def _proof(margin: float, reason: str) -> Proof:
    if not np.isfinite(margin):
        return Proof(False, None, reason or "no finite bound was proved", damaged=bool(reason))
    if margin > 0:
        return Proof(True, margin, "")
    return Proof(False, margin, f"the proved margin {margin:.6g} is not positive")


def leaves(lower: Array, upper: Array, split: Split | None) -> Iterator[tuple[Array, Array]]:
    """The boxes at the leaves of a tree of bisections; their union is the box.

    Raises: InputError if a threshold does not cut its box or there are more than MAX_LEAVES leaves.
    """
    pending: list[tuple[Array, Array, Split | None]] = [(lower, upper, split)]
    count = 0
    while pending:
        low, high, node = pending.pop()
        count += 1
        if count >= 2 * MAX_LEAVES:
            raise InputError(f"the certificate splits its region into more than {MAX_LEAVES} boxes")
        if node is None:
            yield low, high
            continue
        if not 0 <= node.dimension < low.size:
            raise InputError(f"the certificate splits feature {node.dimension} of {low.size}")
        if not low.flat[node.dimension] <= node.threshold <= high.flat[node.dimension]:
            raise InputError(f"the certificate splits feature {node.dimension} outside its box")
        below, above = high.copy(), low.copy()
        below.flat[node.dimension] = above.flat[node.dimension] = node.threshold
        pending += [(low, below, node.below), (above, high, node.above)]


def _check(networks: Sequence[Network], lower: Array, upper: Array, prop: Property, certificate: Certificate) -> None:
    """Raises: InputError if a task cannot be proved in the way that its certificate asks for."""
    wanted = {"crown": 1, "both-robust": 2, "differential": 2}.get(certificate.kind)
    if wanted != len(networks):
        raise InputError(f"certificate of kind {certificate.kind[:40]!r} for {len(networks)} network(s)")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower <= upper).all()):
        raise InputError("the box is empty or has an endpoint that is not finite")
    if prop.rows.shape[1] != sum(network.num_outputs for network in networks):
        raise InputError(f"a property over {prop.rows.shape[1]} outputs does not fit the network(s)")
    if certificate.trees and certificate.split is not None:
        raise InputError("the certificate splits both its region and its ReLUs")
    if certificate.kind == "both-robust":
        if certificate.label is None or not 0 <= certificate.label < min(n.num_outputs for n in networks):
            raise InputError("the certificate names no common class")
        if certificate.slopes or certificate.shares:
            raise InputError("certificates of kind both-robust carry no slopes and no shares")
        if certificate.trees:
            raise InputError("certificates of kind both-robust carry no ReLU splits")
    elif certificate.slopes or certificate.shares:
        program = single_program(networks[0]) if wanted == 1 else pair_program(networks[0], networks[1], None)
        check_slopes(program, certificate.slopes, len(prop.rows))
        check_slopes(program, certificate.shares, len(prop.rows))


def _bounds(
    networks: Sequence[Network],
    lower: Array,
    upper: Array,
    properties: Sequence[Property],
    certificates: Sequence[Certificate],
    semantics: str,
) -> Array:
    """Lower bounds of the properties' rows. Shapes: boxes (N, *input_shape) -> (N, R)."""
    rows, offsets = np.stack([p.rows for p in properties]), np.stack([p.offsets for p in properties])
    state = enclose(networks, lower, upper, semantics, hints=certificates, num_rows=rows.shape[1])
    if certificates[0].kind != "both-robust":
        return bound_rows(state, rows, offsets)
    # Only rows that read one network alone and favour the class: leaving out the others is quicker, and valid.
    found, halves = np.full(rows.shape[:2], -np.inf), np.split(rows, [networks[0].num_outputs], axis=2)
    for own, other in (halves, halves[::-1]):
        wanted = (own[:, :, certificates[0].label] > 0).all(axis=0) & ~other.any(axis=(0, 2))
        found[:, wanted] = bound_rows(state, rows[:, wanted], offsets[:, wanted])
    return found
