"""Whether the records of a result tell the truth about models and regions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from paoding_verify.errors import PaodingError
from paoding_verify.evidence.boxes import Box, ball, box_digest, pack_box
from paoding_verify.evidence.members import model_file
from paoding_verify.evidence.result import AuditResult, ModelRecord, RegionRecord
from paoding_verify.network.graph import Array, Network, Source
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.record import model_record

__all__ = ["VERBATIM", "check_balls", "check_digests", "read_models"]

VERBATIM = ("onnx", "module")
"""Formats whose file ships as it was read, so that its digest can be told from the bundle."""
FORMATS = (*VERBATIM, "onnx, data inlined", "pt2", "pth", "safetensors")
NORMALISED = ", normalised"
"""After a format: a normalisation layer was put in front."""


def read_models(
    result: AuditResult, members: Mapping[str, bytes], problems: list[str], omitted: list[str]
) -> dict[str, Network]:
    """The networks of the shipped ONNX files by role; what a record says otherwise about them becomes a problem.

    Each is compared with onnxruntime on its file, where that is installed.
    """
    networks: dict[str, Network] = {}
    for record in result.models:
        data = members.get(model_file(record.role))
        if data is None or record.role in networks:
            problems.append(f"model {record.role[:40]!r}: no readable file, or two records")
            continue
        digest = hashlib.sha256(data).hexdigest()
        try:
            network = replace(read_onnx(data), source=Source(record.file, record.format, record.sha256, data))
            networks[record.role] = network
            true = model_record(network, record.role)
            _compare_with_runtime(network, data, record.role, omitted)
        except PaodingError as error:
            problems.append(f"model {record.role}: {error}")
            continue
        if record.shipped_sha256 != digest or record.canonical_sha256 != true.canonical_sha256:
            problems.append(f"model {record.role}: its digests are not those of the shipped file")
        elif record != true:
            problems.append(f"model {record.role}: sizes or layers are not those of the shipped file")
        _check_source(record, problems)
    return networks


def _compare_with_runtime(network: Network, data: bytes, role: str, omitted: list[str]) -> None:
    """Raises: ModelError if onnxruntime computes something else than the network that was read."""
    try:
        from paoding_verify.network.verify import check_against_runtime
    except ImportError:
        omitted.append(f"{model_file(role)} against onnxruntime, which is not installed")
        return
    check_against_runtime(network, data)


def _check_source(record: ModelRecord, problems: list[str]) -> None:
    """What a record says about the file that was read, as far as the shipped file can tell."""
    if record.format.removesuffix(NORMALISED) not in FORMATS:
        problems.append(f"model {record.role}: {record.format[:40]!r} is no format that can be read")
    if record.format in VERBATIM and record.sha256 != record.shipped_sha256:
        problems.append(f"model {record.role}: the digest of the file as read is not that of the same file as shipped")


def check_digests(records: Sequence[RegionRecord], lower: Array, upper: Array, problems: list[str]) -> None:
    """Every box is finite, not empty, and the one whose digest the result states."""
    if len({record.id for record in records}) != len(records):
        problems.append("two regions have the same id")
    for record, low, high in zip(records, lower, upper, strict=True):
        if record.sha256 != box_digest(low, high):
            problems.append(f"region {record.id}: the box is not the one whose digest the result states")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            problems.append(f"region {record.id}: the box is empty or not finite")


def check_balls(
    records: Sequence[RegionRecord], lower: Array, upper: Array, anchor: Array, problems: list[str]
) -> None:
    """Every anchor is a point of its box, and every box with a radius is exactly the linf ball around its anchor, cut
    to the domain that its record states. The text of every record is that of its box.
    """
    for record, low, high, centre in zip(records, lower, upper, anchor, strict=True):
        if not ((low <= centre) & (centre <= high)).all():
            problems.append(f"region {record.id}: its anchor lies outside of the box")
        if record.box != pack_box(Box(centre, low, high), is_ball=record.eps is not None):
            problems.append(f"region {record.id}: the text of its record is not that of its box")
        if record.eps is None:
            continue
        limits = record.domain or (-np.inf, np.inf)
        true = ball(centre, np.full(low.shape, record.eps), (np.asarray(limits[0]), np.asarray(limits[1])))
        if not (np.array_equal(true[0], low) and np.array_equal(true[1], high)):
            problems.append(
                f"region {record.id}: the box is not the ball of its radius around its anchor, cut to its domain"
            )
