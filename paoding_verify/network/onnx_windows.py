"""ONNX operations on images: convolution, pooling, padding, batch normalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.builder import Call, Tensor
from paoding_verify.network.folding import batch_norm
from paoding_verify.network.graph import AveragePool2d, Conv2d, MaxPool2d, Padding, Pair, Permute

__all__ = ["HANDLERS"]


def _conv(call: Call) -> Tensor:
    x, weight, bias = _image(call), call.parameter(1), call.parameter(2)
    if weight is None or weight.ndim != 4:
        raise UnsupportedOpError("only two-dimensional convolutions are supported")
    kernel = (weight.shape[2], weight.shape[3])
    if tuple(call.attributes.get("kernel_shape", kernel)) != kernel:
        raise ModelError(f"its kernel_shape does not agree with its weight {weight.shape}")
    stride, dilation = _pair(call, "strides"), _pair(call, "dilations")
    span = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    sides = x.padding
    image = (x.shape[1] + sides[0] + sides[2], x.shape[2] + sides[1] + sides[3])
    padding = tuple(a + b for a, b in zip(_padding(call, image, span, stride), sides, strict=True))
    bias = np.zeros(len(weight)) if bias is None else bias
    groups = call.attributes.get("group", 1)
    op = Conv2d(weight, bias, stride, _sides(padding), dilation, groups)
    return call.builder.emit(call.name, op, Tensor(x.value, x.shape))


def _pool(call: Call) -> Tensor:
    x = _image(call)
    height, width = (int(n) for n in call.attributes.get("kernel_shape", ())[:2] or (0, 0))
    kernel, stride = (height, width), _pair(call, "strides")
    if _pair(call, "dilations") != (1, 1):
        raise UnsupportedOpError("pooling with dilation is not supported")
    if min(kernel) < 1 or len(call.attributes["kernel_shape"]) != 2:
        raise ModelError("its kernel_shape must hold two positive numbers")
    padding = _padding(call, x.shape[1:], kernel, stride)
    if call.attributes.get("ceil_mode", 0):
        for axis in (0, 1):
            if (x.shape[axis + 1] + padding[axis] + padding[axis + 2] - kernel[axis]) % stride[axis]:
                raise UnsupportedOpError("ceil_mode that adds partial windows is not supported")
    if call.op_type == "MaxPool":
        return call.builder.emit(call.name, MaxPool2d(kernel, stride, padding), x)
    include = bool(call.attributes.get("count_include_pad", 0)) or not any(padding)
    return call.builder.emit(call.name, AveragePool2d(kernel, stride, padding, include), x)


def _global_pool(call: Call) -> Tensor:
    x = _image(call)
    pool = MaxPool2d if call.op_type == "GlobalMaxPool" else AveragePool2d
    return call.builder.emit(call.name, pool((x.shape[1], x.shape[2]), (1, 1)), x)


def _reduce_mean(call: Call) -> Tensor:
    x, axes = call.tensor(), call.integers(1, "axes")
    wanted = sorted({call.builder.axis(a, len(x.shape)) for a in axes or ()})
    if len(x.shape) != 3 or wanted not in ([0, 1], [1, 2]):
        raise UnsupportedOpError("only the mean over the two spatial axes of an image is supported")
    kept = 0 if wanted == [1, 2] else 2
    if kept:
        x = call.builder.emit(call.name, Permute((2, 0, 1)), x)
    channels = x.shape[0]
    mean = call.builder.emit(call.name, AveragePool2d((x.shape[1], x.shape[2]), (1, 1)), x)
    if not call.attributes.get("keepdims", 1):
        return call.builder.reshape(call.name, mean, (channels,))
    return call.builder.reshape(call.name, mean, (1, 1, channels) if kept else (channels, 1, 1))


def _batch_normalisation(call: Call) -> Tensor:
    x = call.tensor()
    gamma, beta, mean, variance = (call.parameter(index) for index in (1, 2, 3, 4))
    if gamma is None or beta is None or mean is None or variance is None:
        raise ModelError("a parameter is missing")
    if call.attributes.get("training_mode", 0) or not call.attributes.get("spatial", 1):
        raise UnsupportedOpError("batch normalisation must be in inference mode and per channel")
    if not call.builder.batched or any(p.shape != x.shape[:1] for p in (gamma, beta, mean, variance)):
        raise ModelError(f"its parameters have shape {gamma.shape}; the value has shape {x.shape}")
    epsilon = float(call.attributes.get("epsilon", np.float32(1e-5)))
    op = batch_norm(gamma, beta, mean, variance, epsilon=epsilon, rank=len(x.shape))
    return call.builder.emit(call.name, op, x)


def _pad(call: Call) -> Tensor:
    x, pads = call.tensor(), call.integers(1, "pads")
    rank, lead = len(x.shape), call.builder.lead
    axes = call.integers(3, "no attribute")
    places = range(rank + lead) if axes is None else [call.builder.axis(a, rank) + lead for a in axes]
    if pads is None or len(pads) != 2 * len(places) or len(set(places)) != len(places):
        raise ModelError("its pads do not fit its axes")
    value = call.constant(2)
    fill = call.attributes.get("value", 0.0) if value is None else float(value.reshape(()))
    if call.attributes.get("mode", "constant") != "constant" or fill != 0.0 or min(pads, default=0) < 0:
        raise UnsupportedOpError("only padding with zeros is supported")
    before, after = dict(zip(places, pads, strict=False)), dict(zip(places, pads[len(places) :], strict=True))
    spatial = (lead + 1, lead + 2)
    if rank != 3 or any(before[a] or after[a] for a in places if a not in spatial):
        if any(pads):
            raise UnsupportedOpError("only padding of the two spatial axes of images (N, C, H, W) is supported")
        return x
    top, left = before.get(spatial[0], 0), before.get(spatial[1], 0)
    bottom, right = after.get(spatial[0], 0), after.get(spatial[1], 0)
    sides = tuple(a + b for a, b in zip(x.padding, (top, left, bottom, right), strict=True))
    return Tensor(x.value, x.shape, _sides(sides))


def _image(call: Call) -> Tensor:
    x = call.tensor()
    if len(x.shape) != 3 or not call.builder.batched:
        raise UnsupportedOpError(f"its input has shape {x.shape} per input; only images (C, H, W) are supported")
    return x


def _pair(call: Call, key: str) -> Pair:
    values = tuple(call.attributes.get(key, (1, 1)))
    if len(values) != 2 or min(values) < 1:
        raise ModelError(f"its {key} must be two positive numbers")
    return int(values[0]), int(values[1])


def _padding(call: Call, image: tuple[int, ...], span: Pair, stride: Pair) -> Padding:
    """Zeros at (top, left, bottom, right), from `pads` or `auto_pad`."""
    mode = call.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return _sides(tuple(call.attributes.get("pads", (0, 0, 0, 0))))
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError("its auto_pad is unknown")
    # ceil(size / stride) windows; the odd zero goes after the image (UPPER) or in front of it (LOWER)
    totals = [(-(-image[a] // stride[a]) - 1) * stride[a] + span[a] - image[a] for a in (0, 1)]
    if min(totals) < -1:  # runtimes differ: some crop the image
        raise UnsupportedOpError("auto_pad with a stride beyond the window is ambiguous; give the pads as numbers")
    totals = [max(t, 0) for t in totals]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    first, last = (small, large) if mode == "SAME_UPPER" else (large, small)
    return first[0], first[1], last[0], last[1]


def _sides(padding: tuple[int, ...]) -> Padding:
    if len(padding) != 4 or min(padding) < 0:
        raise UnsupportedOpError("its pads must be four numbers, none negative")
    top, left, bottom, right = padding
    return top, left, bottom, right


HANDLERS: dict[str, Callable[[Call], Tensor]] = {
    "Conv": _conv,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_mean,
    "BatchNormalization": _batch_normalisation,
    "Pad": _pad,
}
