"""Small ONNX files, made node by node, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["assemble", "dense_nodes", "model_bytes", "node", "weights"]

node = helper.make_node


def weights(seed: int, *shape: int) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assemble(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    shape: Sequence[int | str | None],
    *,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model from input `x` of the given shape (batch axis included) to output `y`, not checked in any way."""
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    return model


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    shape: Sequence[int | str | None],
    *,
    opset: int = 17,
) -> bytes:
    """`assemble`, serialised."""
    return assemble(nodes, constants, shape, opset=opset).SerializeToString()


def dense_nodes(source: str, target: str, *, number: int = 0) -> list[onnx.NodeProto]:
    """MatMul and Add with constants w and b."""
    return [
        node("MatMul", [source, "w"], [f"m{number}"], f"matmul{number}"),
        node("Add", [f"m{number}", "b"], [target], f"add{number}"),
    ]
