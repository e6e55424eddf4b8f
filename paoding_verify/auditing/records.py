"""Plain records of the systems under test and of the regions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from paoding_verify.evidence.result import LayerRecord, ModelRecord, RegionRecord
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network, parameters
from paoding_verify.network.record import multiply_accumulates
from paoding_verify.regions import Region, box_digest

__all__ = ["model_record", "region_records"]


def model_record(role: str, network: Network, shipped: bytes) -> ModelRecord:
    """Identity and size of a network whose ONNX file in the bundle is `shipped`."""
    digest = hashlib.sha256(shipped).hexdigest()
    source = network.source
    return ModelRecord(
        role=role,
        file=source.path if source else network.name,
        format=source.format if source else "onnx",
        sha256=source.sha256 if source else digest,
        shipped_sha256=digest,
        canonical_sha256=canonical_digest(network),
        size_bytes=len(shipped),
        input_shape=network.input_shape,
        num_outputs=network.num_outputs,
        num_parameters=network.num_parameters,
        num_units=network.num_units,
        num_macs=multiply_accumulates(network),
        layers=tuple(
            LayerRecord(node.name, type(node.op).__name__, shape, sum(a.size for a in parameters(node.op)))
            for node, shape in zip(network.nodes, network.shapes[1:], strict=True)
        ),
    )


def region_records(regions: Sequence[Region]) -> tuple[RegionRecord, ...]:
    """The regions without their arrays, in order."""
    return tuple(RegionRecord(r.id, r.source, r.label, r.eps, box_digest(r.lower, r.upper)) for r in regions)
