"""What a result says about a model: sizes, digests and layers."""

from __future__ import annotations

import hashlib
from math import prod

from paoding_verify.evidence.result import LayerRecord, ModelRecord
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, AveragePool2d, Conv2d, Dense, Network, parameters
from paoding_verify.network.onnx_out import shipped_onnx

__all__ = ["layer_records", "model_record", "multiply_accumulates", "zero_weights"]


def multiply_accumulates(network: Network) -> int:
    """Multiply-accumulate operations of one inference: dense, convolution, scaling and average pooling layers."""
    total = 0
    for node, shape in zip(network.nodes, network.shapes[1:], strict=True):
        op = node.op
        if isinstance(op, (Dense, Conv2d)):
            total += prod(shape) * prod(op.weight.shape[1:])
        elif isinstance(op, Affine):
            total += prod(shape)
        elif isinstance(op, AveragePool2d):
            total += prod(shape) * prod(op.kernel)
    return total


def zero_weights(network: Network) -> int:
    """Weights of dense layers and convolutions that are zero; biases, scales and shifts are not counted."""
    ops = (node.op for node in network.nodes)
    return sum(int((op.weight == 0).sum()) for op in ops if isinstance(op, (Dense, Conv2d)))


def layer_records(network: Network) -> tuple[LayerRecord, ...]:
    """One record per node, in order."""
    return tuple(
        LayerRecord(node.name, type(node.op).__name__, shape, sum(a.size for a in parameters(node.op)))
        for node, shape in zip(network.nodes, network.shapes[1:], strict=True)
    )


def model_record(network: Network, role: str) -> ModelRecord:
    """The record of a model in a given role (original or pruned).

    A network without a source is described by the ONNX file that stands for it.
    Raises: ModelError if it has no source and cannot be written to ONNX exactly.
    """
    shipped = shipped_onnx(network)
    shipped_sha256 = hashlib.sha256(shipped).hexdigest()
    source = network.source
    return ModelRecord(
        role=role,
        file=source.path if source else network.name,
        format=source.format if source else "onnx",
        sha256=source.sha256 if source else shipped_sha256,
        shipped_sha256=shipped_sha256,
        canonical_sha256=canonical_digest(network),
        size_bytes=len(shipped),
        input_shape=network.input_shape,
        num_outputs=network.num_outputs,
        num_parameters=network.num_parameters,
        num_zero_weights=zero_weights(network),
        num_units=network.num_units,
        num_macs=multiply_accumulates(network),
        layers=layer_records(network),
    )
