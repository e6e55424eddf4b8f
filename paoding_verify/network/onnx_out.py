"""The canonical network as an ONNX file: what deployments run, and what witnesses are replayed on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paoding_verify.errors import ModelError
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Node,
    Permute,
    Relu,
    Reshape,
    Sigmoid,
    Tanh,
)  # fmt: skip

__all__ = ["OPSET", "shipped_onnx", "to_onnx"]

OPSET = 17
"""Opset of written files: read by every onnxruntime since 1.12."""
IR_VERSION = 8


def shipped_onnx(network: Network) -> bytes:
    """The ONNX file that stands for the network: its source file if it has one, else `to_onnx`."""
    return network.source.onnx if network.source is not None else to_onnx(network)


def to_onnx(network: Network) -> bytes:
    """Serialises the network exactly, with a symbolic batch axis; the same network gives the same bytes.

    Raises: ModelError if a parameter is not a float32 number or carries folded rounding: such a network equals no
    float32 file; round it first (`as_float32`).
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for index, node in enumerate(network.nodes):
        inputs = [_value(i, network) for i in node.inputs]
        for j, array in enumerate(_constants(node)):
            constants.append(numpy_helper.from_array(array, f"n{index}.{j}"))
            inputs.append(f"n{index}.{j}")
        nodes.extend(_emit(node, inputs, _value(index + 1, network), f"n{index}"))
    graph = helper.make_graph(
        nodes,
        re.sub(r"[^A-Za-z0-9_]", "_", network.name) or "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *network.input_shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", network.num_outputs])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="paoding_verify")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _value(index: int, network: Network) -> str:
    if index == 0:
        return "input"
    return "output" if index == len(network.nodes) else f"v{index}"


def _constants(node: Node) -> Sequence[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    op = node.op
    if isinstance(op, (Dense, Conv2d)):
        return [_float32(op.weight, node), _float32(op.bias, node)]
    if isinstance(op, Affine):
        return [_float32(op.scale[None], node), _float32(op.shift[None], node)]
    if isinstance(op, Reshape):
        return [np.array([-1, *op.shape], dtype=np.int64)]
    return []


def _float32(array: Array, node: Node) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    rounded = array.astype(np.float32)
    if getattr(node.op, "roundings", 0) or not (rounded.astype(np.float64) == array).all():
        raise ModelError(f"node {node.name!r} has parameters that are no float32 numbers; round the network first")
    return rounded


def _emit(node: Node, inputs: list[str], output: str, name: str) -> list[onnx.NodeProto]:
    op = node.op
    simple = {Add: "Add", Relu: "Relu", Sigmoid: "Sigmoid", Tanh: "Tanh", Reshape: "Reshape"}.get(type(op))
    if simple:
        return [helper.make_node(simple, inputs, [output], name)]
    if isinstance(op, Dense):
        return [helper.make_node("Gemm", inputs, [output], name, transB=1)]
    if isinstance(op, Conv2d):
        layout: dict[str, Any] = {
            "strides": op.stride,
            "pads": op.padding,
            "dilations": op.dilation,
            "group": op.groups,
        }
        return [helper.make_node("Conv", inputs, [output], name, kernel_shape=op.weight.shape[2:], **layout)]
    if isinstance(op, Affine):
        product = f"{output}.scaled"
        return [
            helper.make_node("Mul", inputs[:2], [product], f"{name}.scale"),
            helper.make_node("Add", [product, inputs[2]], [output], f"{name}.shift"),
        ]
    if isinstance(op, Permute):
        return [helper.make_node("Transpose", inputs, [output], name, perm=[0, *(a + 1 for a in op.axes)])]
    if isinstance(op, LeakyRelu):
        _float32(np.array(op.slope), node)
        return [helper.make_node("LeakyRelu", inputs, [output], name, alpha=op.slope)]
    if isinstance(op, MaxPool2d):
        layout = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.padding}
        return [helper.make_node("MaxPool", inputs, [output], name, **layout)]
    if isinstance(op, AveragePool2d):
        layout = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.padding}
        include = int(op.count_include_pad)
        return [helper.make_node("AveragePool", inputs, [output], name, count_include_pad=include, **layout)]
    raise ModelError(f"node {node.name!r}: {type(op).__name__} cannot be written to ONNX")
