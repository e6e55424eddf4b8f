"""Meaning of each supported ONNX operation: one table, operation -> handler that appends canonical nodes.

Dense layers and arithmetic with constants stand here, windows in `onnx_windows.py`, changes of shape in
`onnx_layout.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network import onnx_layout, onnx_windows
from paoding_verify.network.builder import Call, Tensor
from paoding_verify.network.graph import Add, Affine, Array, Dense, LeakyRelu, Op, Relu, Shape, Sigmoid, Tanh
from paoding_verify.network.onnx_fold import Constant

__all__ = ["HANDLERS", "HINTS"]

FLOAT = 1
"""onnx.TensorProto.FLOAT."""
LARGEST = 3.4e38
"""An upper limit of a Clip at or above this bound never binds in float32 short of overflow."""


def _matmul(call: Call) -> Tensor:
    first, second = call.get(0), call.get(1)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        raise UnsupportedOpError("it multiplies two activations; one factor must be a constant")
    weight = call.parameter(1 if isinstance(first, Tensor) else 0)
    if weight is None or weight.ndim != 2:
        raise UnsupportedOpError("its constant factor must be a matrix")
    if isinstance(first, Tensor):
        return _dense(call, first, weight.T, np.zeros(weight.shape[1]), rows=first.shape[:-1])
    return _matmul_left(call, call.tensor(1), weight)


def _matmul_left(call: Call, x: Tensor, weight: Array) -> Tensor:
    """weight @ x, where x is a vector, or a column (..., in, 1)."""
    if call.builder.batched and len(x.shape) < 2:
        raise UnsupportedOpError("it multiplies a constant with a batch from the left, which mixes inputs of a batch")
    if len(x.shape) < 2:
        return _dense(call, x, weight, np.zeros(len(weight)), rows=())
    if x.shape[-1] != 1:
        raise UnsupportedOpError(f"it multiplies a constant with a matrix {x.shape}; only one column is supported")
    column = call.builder.reshape(call.name, x, x.shape[:-1])
    y = _dense(call, column, weight, np.zeros(len(weight)), rows=column.shape[:-1])
    return call.builder.reshape(call.name, y, (*y.shape, 1))


def _gemm(call: Call) -> Tensor:
    alpha, beta = call.attributes.get("alpha", 1.0), call.attributes.get("beta", 1.0)
    x, weight = call.tensor(0), call.parameter(1)
    if weight is None or weight.ndim != 2 or call.attributes.get("transA", 0):
        raise UnsupportedOpError("only Gemm of an activation (not transposed) with a constant matrix is supported")
    if len(x.shape) + call.builder.lead != 2:
        raise ModelError(f"Gemm needs a matrix, not a value of shape {x.shape} per input")
    weight = weight if call.attributes.get("transB", 0) else weight.T
    bias = call.parameter(2)
    bias = np.zeros(1) if bias is None else bias
    # A column of biases, shape (n, 1), would be added along the batch.
    if bias.ndim > 2 or bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((), (bias.size,)):
        raise ModelError(f"its bias of shape {bias.shape} does not fit {len(weight)} outputs")
    bias = np.broadcast_to(bias.reshape(-1), (len(weight),))
    if alpha == 1.0 and beta == 1.0:
        return _dense(call, x, weight, bias, rows=x.shape[:-1])
    product = _dense(call, x, weight, np.zeros(len(weight)), rows=x.shape[:-1])
    one = np.ones((1,) * len(product.shape))
    scaled = call.builder.emit(call.name, Affine(alpha * one, 0 * one), product)
    # beta * bias is exact in float64; a float32 program rounds it once.
    shift = Affine(one, (beta * bias).reshape(*one.shape[:-1], -1), None, int(beta != 1.0))
    return call.builder.emit(call.name, shift, scaled)


def _dense(call: Call, x: Tensor, weight: Array, bias: Array, *, rows: Shape) -> Tensor:
    """A dense layer along the last axis; all other axes of the value must have length 1."""
    if prod(rows) != 1:
        raise UnsupportedOpError(f"it multiplies a matrix {x.shape} per input; only one row per input is supported")
    vector = call.builder.reshape(call.name, x, (prod(x.shape),))
    y = call.builder.emit(call.name, Dense(np.ascontiguousarray(weight), bias), vector)
    return call.builder.reshape(call.name, y, (*rows, len(bias)))


def _sum(call: Call) -> Tensor:
    first, second = call.get(0), call.get(1)
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        tensor, constant, constant_first = _split(call)
        minus = call.op_type == "Sub"
        shift = -constant if minus and not constant_first else constant
        scale = np.full(constant.shape, -1.0 if minus and constant_first else 1.0)
        return call.builder.emit(call.name, Affine(scale, shift), tensor)
    if first.shape != second.shape:
        raise UnsupportedOpError(f"it combines values of shapes {first.shape} and {second.shape}; they must be equal")
    if call.op_type == "Sub":
        ones = np.ones((1,) * len(second.shape))
        second = call.builder.emit(f"{call.name}.negated", Affine(-ones, 0 * ones), second)
    return call.builder.emit(call.name, Add(), first, second)


def _product(call: Call) -> Tensor:
    if not any(isinstance(value, Constant) for value in call.inputs[:2]):
        raise UnsupportedOpError("it multiplies or divides two activations, which is not piecewise linear")
    tensor, constant, constant_first = _split(call)
    zero = np.zeros(constant.shape)
    if call.op_type == "Mul":
        return call.builder.emit(call.name, Affine(constant, zero), tensor)
    if constant_first or (constant == 0).any():
        raise UnsupportedOpError("it divides by an activation or by zero")
    inverse = 1.0 / constant
    exact = (np.frexp(constant)[0] == np.copysign(0.5, constant)).all()  # powers of two
    # One rounding in the stored inverse, one in a program that divides.
    return call.builder.emit(call.name, Affine(inverse, zero, None, 0 if exact else 2), tensor)


def _split(call: Call) -> tuple[Tensor, Array, bool]:
    """The activation, the constant with the rank of the activation, and whether the constant comes first."""
    constant_first = isinstance(call.get(0), Constant)
    tensor, array = call.tensor(int(constant_first)), call.parameter(int(not constant_first))
    if array is None:
        raise ModelError("an input is missing")
    rank, lead = len(tensor.shape), call.builder.lead
    padded = array.reshape((1,) * (rank + lead - array.ndim) + array.shape)
    if padded.ndim > rank + lead or (lead and padded.shape[0] != 1):
        raise UnsupportedOpError(f"its constant of shape {array.shape} has more axes than {tensor.shape} or a batch")
    padded = padded[0] if lead else padded
    if any(a not in (1, n) for a, n in zip(padded.shape, tensor.shape, strict=True)):
        raise UnsupportedOpError(f"its constant of shape {array.shape} does not broadcast to {tensor.shape}")
    return tensor, padded, constant_first


def _activation(op: Op) -> Callable[[Call], Tensor]:
    return lambda call: call.builder.emit(call.name, op, call.tensor())


def _leaky_relu(call: Call) -> Tensor:
    slope = float(call.attributes.get("alpha", np.float32(0.01)))
    if not 0.0 <= slope <= 1.0:
        raise UnsupportedOpError(f"LeakyRelu with slope {slope} is not supported; the slope must lie in [0, 1]")
    return call.builder.emit(call.name, LeakyRelu(slope), call.tensor())


def _clip(call: Call) -> Tensor:
    limits: list[float | None] = []
    for index, key in ((1, "min"), (2, "max")):
        array = call.constant(index)
        limits.append(call.attributes.get(key) if array is None else float(array.reshape(())))
    low, high = limits
    if low != 0.0 or (high is not None and not high >= LARGEST):
        raise UnsupportedOpError(f"Clip to [{low}, {high}] is not supported; only Clip with minimum 0 and no maximum")
    return call.builder.emit(call.name, Relu(), call.tensor())


def _cast(call: Call) -> Tensor:
    if call.attributes.get("to") != FLOAT:
        raise ModelError("it casts an activation to another type; only float32 models are supported")
    return call.tensor()


def _dropout(call: Call) -> Tensor:
    training = call.constant(2)
    if training is not None and training.any():
        raise UnsupportedOpError("Dropout in training mode is random; export the model in evaluation mode")
    return call.tensor()


HANDLERS: dict[str, Callable[[Call], Tensor]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _sum,
    "Sub": _sum,
    "Mul": _product,
    "Div": _product,
    "Relu": _activation(Relu()),
    "Sigmoid": _activation(Sigmoid()),
    "Tanh": _activation(Tanh()),
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Cast": _cast,
    "Dropout": _dropout,
    "Identity": lambda call: call.tensor(),
    **onnx_windows.HANDLERS,
    **onnx_layout.HANDLERS,
}
"""Operation of the default ONNX domain -> what it appends; each raises ModelError if it cannot."""

_LOGITS = "export the model without it: claims are about the logits in front of it, which have the same top class"
HINTS: dict[str, str] = {
    "Softmax": _LOGITS,
    "LogSoftmax": _LOGITS,
    "ArgMax": _LOGITS,
    "QuantizeLinear": "quantised models are not supported; load the float32 model",
    "DequantizeLinear": "quantised models are not supported; load the float32 model",
    "If": "models with control flow are not supported",
    "Loop": "models with control flow are not supported",
}
"""Operation -> what to do instead."""
