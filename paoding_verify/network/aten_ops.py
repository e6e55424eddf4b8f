"""Supported ATen operations on activations: layers and arithmetic, and the table of all."""

from __future__ import annotations

from math import prod

import numpy as np

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.aten import Call, Handler
from paoding_verify.network.aten_shapes import SHAPE_HANDLERS, canonical_axis, integer, reshaped
from paoding_verify.network.builder import Tensor
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Op,
    Pair,
    Relu,
    Sigmoid,
    Tanh,
)  # fmt: skip

__all__ = ["HANDLERS"]

NORM_ROUNDINGS = 8
"""Roundings between a batch normalisation's parameters and its folded scale and shift: add, root, divide, multiply,
multiply, subtract are six, in any of the orders that runtimes use.
"""


def _linear(call: Call) -> Tensor:
    weight, bias = call.parameter("weight"), call.parameter("bias")
    if weight is None:
        raise UnsupportedOpError("its weight is missing")
    return _dense(call, call.activation("input"), weight, bias)


def _addmm(call: Call) -> Tensor:
    if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        raise UnsupportedOpError("its factors alpha and beta must be 1")
    return _product(call, "mat1", "mat2", call.parameter("self"))


def _product(call: Call, left: str, right: str, bias: Array | None = None) -> Tensor:
    matrix = call.parameter(right)
    if matrix is None or matrix.ndim != 2:
        raise UnsupportedOpError("its right factor is no constant matrix")
    return _dense(call, call.activation(left), matrix.T, bias)


def _dense(call: Call, x: Tensor, weight: Array, bias: Array | None) -> Tensor:
    if prod(x.shape[:-1]) != 1:
        raise UnsupportedOpError(f"a linear layer on a value of shape {x.shape} is not supported; flatten it before")
    if weight.ndim != 2 or (bias is not None and bias.size not in (1, len(weight))):
        raise ModelError("its weight and bias do not fit together")
    offset = np.zeros(len(weight)) if bias is None else np.broadcast_to(bias.ravel(), (len(weight),)).copy()
    y = call.emit(Dense(np.ascontiguousarray(weight), offset), reshaped(call, x, x.shape[-1:]))
    return reshaped(call, y, (*x.shape[:-1], len(weight)))


def _conv(call: Call) -> Tensor:
    weight, bias = call.parameter("weight"), call.parameter("bias")
    if weight is None or weight.ndim != 4:
        raise UnsupportedOpError("only convolutions in two dimensions are supported")
    if call.get("transposed", False) or any(call.get("output_padding", [])):
        raise UnsupportedOpError("transposed convolutions are not supported")
    stride, dilation = _pair(call, "stride", 1), _pair(call, "dilation", 1)
    padding = call.get("padding", 0)
    if padding == "same":
        spans = [dilation[k] * (weight.shape[2 + k] - 1) for k in (0, 1)]
        pads = (spans[0] // 2, spans[1] // 2, spans[0] - spans[0] // 2, spans[1] - spans[1] // 2)
    else:
        pads = (0, 0, 0, 0) if padding == "valid" else _pair(call, "padding", 0) * 2
    offset = np.zeros(len(weight)) if bias is None else bias
    op = Conv2d(weight, offset, stride, pads, dilation, integer(call.get("groups", 1)))
    return call.emit(op, call.activation("input"))


def _batch_norm(call: Call) -> Tensor:
    x = call.activation("input")
    if call.get("training", False):
        raise UnsupportedOpError("batch normalisation is in training mode; call eval() on the module first")
    mean, variance = call.parameter("running_mean"), call.parameter("running_var")
    if mean is None or variance is None or not (variance >= 0).all():
        raise UnsupportedOpError("batch normalisation needs running statistics, the variance not negative")
    weight, bias = call.parameter("weight"), call.parameter("bias")
    weight = np.ones_like(mean) if weight is None else weight
    bias = np.zeros_like(mean) if bias is None else bias
    if len({a.shape for a in (mean, variance, weight, bias)}) != 1 or mean.shape != x.shape[:1]:
        raise ModelError(f"the parameters of a batch normalisation do not fit a value of shape {x.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):  # Network refuses parameters that are not finite
        scale = weight / np.sqrt(variance + float(call.get("eps", 1e-5)))
        shift, magnitude = bias - mean * scale, np.abs(bias) + np.abs(mean * scale)
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    op = Affine(scale.reshape(shape), shift.reshape(shape), magnitude.reshape(shape), NORM_ROUNDINGS)
    return call.emit(op, x)


def _add(call: Call, sign: int = 1) -> Tensor:
    x, y, alpha = call.get("self"), call.get("other"), call.parameter("alpha")
    factor = np.float64(sign) if alpha is None else sign * alpha
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        if factor != 1:
            y = call.affine(y, np.array(factor), np.array(0.0))
        return call.emit(Add(), x, y)
    if factor not in (1, -1):
        raise UnsupportedOpError("its factor alpha must be 1")
    if isinstance(x, Tensor):
        return call.affine(x, np.array(1.0), factor * _required(call, "other"))
    return call.affine(call.activation("other"), np.array(factor), _required(call, "self"))


def _reverse_subtract(call: Call) -> Tensor:
    if call.get("alpha", 1) != 1:
        raise UnsupportedOpError("its factor alpha must be 1")
    return call.affine(call.activation(), np.array(-1.0), _required(call, "other"))


def _multiply(call: Call) -> Tensor:
    x, other = ("self", "other") if isinstance(call.get("self"), Tensor) else ("other", "self")
    return call.affine(call.activation(x), _required(call, other), np.array(0.0))


def _divide(call: Call) -> Tensor:
    """By a constant c: multiplication by 1 / c, which is exact for powers of two and one rounding otherwise."""
    if call.get("rounding_mode") is not None:
        raise UnsupportedOpError("division that rounds is not supported")
    divisor = _required(call, "other")
    if (divisor == 0).any():
        raise ModelError("it divides by zero")
    exact = bool((np.abs(np.frexp(divisor)[0]) == 0.5).all())
    return call.affine(call.activation("self"), 1 / divisor, np.array(0.0), roundings=0 if exact else 1)


def _negate(call: Call) -> Tensor:
    return call.affine(call.activation(), np.array(-1.0), np.array(0.0))


def _required(call: Call, name: str) -> Array:
    found = call.parameter(name)
    if found is None:
        raise ModelError(f"its argument {name!r} is missing")
    return found


def _clamp(call: Call) -> Tensor:
    if call.get("min") != 0 or call.get("max") is not None:
        raise UnsupportedOpError("only clamping from below at 0 (ReLU) is supported")
    return call.emit(Relu(), call.activation())


def _leaky_relu(call: Call) -> Tensor:
    return call.emit(LeakyRelu(float(np.float32(call.get("negative_slope", 0.01)))), call.activation())


def _average_pool(call: Call) -> Tensor:
    x = call.activation()
    if call.get("divisor_override") is not None:
        raise UnsupportedOpError("average pooling with its own divisor is not supported")
    kernel, stride, padding = _windows(call, x)
    return call.emit(AveragePool2d(kernel, stride, padding * 2, bool(call.get("count_include_pad", True))), x)


def _max_pool(call: Call) -> Tensor:
    x = call.activation()
    if _pair(call, "dilation", 1) != (1, 1):
        raise UnsupportedOpError("max pooling with dilation is not supported")
    kernel, stride, padding = _windows(call, x)
    return call.emit(MaxPool2d(kernel, stride, padding * 2), x)


def _windows(call: Call, x: Tensor) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding, the latter on both sides."""
    kernel, padding = _pair(call, "kernel_size", 1), _pair(call, "padding", 0)
    stride = _pair(call, "stride", 1) if call.get("stride", []) else kernel
    if len(x.shape) != 3:
        raise UnsupportedOpError(f"pooling needs an image (channels, height, width), not {x.shape}")
    rests = [(x.shape[k + 1] + 2 * padding[k] - kernel[k]) % stride[k] for k in (0, 1) if stride[k] > 0]
    if call.get("ceil_mode", False) and any(rests):
        raise UnsupportedOpError("pooling with ceil_mode that adds incomplete windows is not supported")
    return kernel, stride, padding


def _adaptive_average_pool(call: Call) -> Tensor:
    x = call.activation()
    size = call.get("output_size")
    if len(x.shape) != 3 or not isinstance(size, list) or len(size) != 2:
        raise UnsupportedOpError(f"adaptive pooling needs an image (channels, height, width), not {x.shape}")
    out = [x.shape[k + 1] if n is None else integer(n) for k, n in enumerate(size)]
    if any(n < 1 or x.shape[k + 1] % n for k, n in enumerate(out)):
        raise UnsupportedOpError(f"adaptive pooling of {x.shape} to {tuple(out)} does not divide evenly")
    kernel = (x.shape[1] // out[0], x.shape[2] // out[1])
    return call.emit(AveragePool2d(kernel, kernel), x)


def _mean(call: Call) -> Tensor:
    x = call.activation()
    axes = sorted(canonical_axis(a, len(x.shape)) for a in call.get("dim") or [])
    if len(x.shape) != 3 or axes != [1, 2] or call.get("dtype") not in (None, "float32"):
        raise UnsupportedOpError("only the mean over height and width of an image is supported")
    y = call.emit(AveragePool2d((x.shape[1], x.shape[2]), (1, 1)), x)
    return y if call.get("keepdim", False) else reshaped(call, y, x.shape[:1])


def _pair(call: Call, name: str, default: int) -> Pair:
    found = call.get(name, default)
    numbers = [integer(n) for n in (found if isinstance(found, list) else [found])]
    if len(numbers) not in (1, 2):
        raise UnsupportedOpError(f"its argument {name!r} has {len(numbers)} numbers; two dimensions are supported")
    return numbers[0], numbers[-1]


def _simple(op: Op) -> Handler:
    return lambda call: call.emit(op, call.activation())


HANDLERS: dict[str, Handler] = {
    "aten.linear.default": _linear,
    "aten.addmm.default": _addmm,
    "aten.mm.default": lambda call: _product(call, "self", "mat2"),
    "aten.matmul.default": lambda call: _product(call, "self", "other"),
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.convolution.default": _conv,
    "aten.batch_norm.default": _batch_norm,
    "aten.native_batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.add.Tensor": _add,
    "aten.add.Scalar": _add,
    "aten.sub.Tensor": lambda call: _add(call, -1),
    "aten.sub.Scalar": lambda call: _add(call, -1),
    "aten.rsub.Scalar": _reverse_subtract,
    "aten.rsub.Tensor": _reverse_subtract,
    "aten.mul.Tensor": _multiply,
    "aten.mul.Scalar": _multiply,
    "aten.div.Tensor": _divide,
    "aten.div.Scalar": _divide,
    "aten.neg.default": _negate,
    "aten.relu.default": _simple(Relu()),
    "aten.sigmoid.default": _simple(Sigmoid()),
    "aten.tanh.default": _simple(Tanh()),
    "aten.clamp_min.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.avg_pool2d.default": _average_pool,
    "aten.max_pool2d.default": _max_pool,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.adaptive_avg_pool2d.default": _adaptive_average_pool,
    "aten._adaptive_avg_pool2d.default": _adaptive_average_pool,
    "aten.mean.dim": _mean,
    **SHAPE_HANDLERS,
}
"""What each operation becomes when an argument depends on the network's input."""
