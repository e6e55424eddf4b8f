"""Shape inference and structural checks of the canonical network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import prod

import numpy as np

from paoding_verify.errors import ModelError
from paoding_verify.network.graph import (
    Add,
    Affine,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Node,
    Op,
    Padding,
    Pair,
    Permute,
    Relu,
    Reshape,
    Shape,
    Sigmoid,
    Tanh,
    parameters,
)  # fmt: skip

__all__ = ["infer_shapes", "output_shape", "window_counts"]


def infer_shapes(input_shape: Shape, nodes: Sequence[Node]) -> tuple[Shape, ...]:
    """Shapes of all values, the input first.

    Raises: ModelError naming the node whose inputs, shapes or parameters do not fit.
    """
    if not all(isinstance(n, int) and n > 0 for n in input_shape):
        raise ModelError(f"the input shape {input_shape} is not made of positive integers")
    shapes: list[Shape] = [tuple(input_shape)]
    for index, node in enumerate(nodes):
        if not node.inputs or not all(0 <= i <= index for i in node.inputs):
            raise ModelError(f"node {node.name!r} reads a value that is not computed before it")
        if not all(np.isfinite(a).all() for a in parameters(node.op)):
            raise ModelError(f"node {node.name!r} has weights that are not finite (NaN or infinity)")
        arity = 2 if isinstance(node.op, Add) else 1
        if len(node.inputs) != arity:
            raise ModelError(f"node {node.name!r} needs {arity} input(s) and has {len(node.inputs)}")
        try:
            shape = output_shape(node.op, *(shapes[i] for i in node.inputs))
        except ModelError as error:
            raise ModelError(f"node {node.name!r}: {error}") from None
        if min(shape, default=0) < 1:
            raise ModelError(f"node {node.name!r} has an empty output of shape {shape}")
        shapes.append(shape)
    return tuple(shapes)


@singledispatch
def output_shape(op: Op, *inputs: Shape) -> Shape:
    """Shape that an operation computes from inputs of the given shapes. Raises: ModelError if they do not fit."""
    raise ModelError(f"unknown operation {type(op).__name__}")


@output_shape.register
def _(op: Dense, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if op.weight.ndim != 2 or op.bias.shape != (op.weight.shape[0],):
        raise ModelError(f"dense weight {op.weight.shape} and bias {op.bias.shape} do not fit together")
    if shape != (op.weight.shape[1],):
        raise ModelError(f"a dense layer with weight {op.weight.shape} cannot read a value of shape {shape}")
    return (op.weight.shape[0],)


@output_shape.register
def _(op: Conv2d, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if op.weight.ndim != 4 or op.bias.shape != (op.weight.shape[0],):
        raise ModelError(f"convolution weight {op.weight.shape} and bias {op.bias.shape} do not fit together")
    channels = op.weight.shape[1] * op.groups
    if op.groups < 1 or op.weight.shape[0] % op.groups or len(shape) != 3 or shape[0] != channels:
        raise ModelError(
            f"a convolution with weight {op.weight.shape} and {op.groups} group(s) cannot read a value of shape {shape}"
        )
    kernel = (op.weight.shape[2], op.weight.shape[3])
    return (op.weight.shape[0], *window_counts(shape, kernel, op.stride, op.padding, op.dilation))


@output_shape.register
def _(op: Affine, *inputs: Shape) -> Shape:
    (shape,) = inputs
    for array in (op.scale, op.shift):
        if array.ndim != len(shape) or any(a not in (1, n) for a, n in zip(array.shape, shape, strict=True)):
            raise ModelError(f"an affine parameter of shape {array.shape} does not broadcast to {shape}")
    return shape


@output_shape.register
def _(op: Add, *inputs: Shape) -> Shape:
    first, second = inputs
    if first != second:
        raise ModelError(f"cannot add values of shapes {first} and {second}")
    return first


@output_shape.register
def _(op: Reshape, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if prod(shape) != prod(op.shape):
        raise ModelError(f"cannot reshape {shape} to {op.shape}")
    return tuple(op.shape)


@output_shape.register
def _(op: Permute, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if sorted(op.axes) != list(range(len(shape))):
        raise ModelError(f"cannot reorder the axes of {shape} by {op.axes}")
    return tuple(shape[a] for a in op.axes)


@output_shape.register(AveragePool2d)
@output_shape.register(MaxPool2d)
def _(op: AveragePool2d | MaxPool2d, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if len(shape) != 3:
        raise ModelError(f"pooling needs an image (channels, height, width), not {shape}")
    if op.padding[0] >= op.kernel[0] or op.padding[2] >= op.kernel[0]:
        raise ModelError("pooling padding must be smaller than its kernel")
    if op.padding[1] >= op.kernel[1] or op.padding[3] >= op.kernel[1]:
        raise ModelError("pooling padding must be smaller than its kernel")
    return (shape[0], *window_counts(shape, op.kernel, op.stride, op.padding))


@output_shape.register(Relu)
@output_shape.register(Sigmoid)
@output_shape.register(Tanh)
def _(op: Relu | Sigmoid | Tanh, *inputs: Shape) -> Shape:
    (shape,) = inputs
    return shape


@output_shape.register
def _(op: LeakyRelu, *inputs: Shape) -> Shape:
    (shape,) = inputs
    if not 0.0 <= op.slope <= 1.0:
        raise ModelError(f"LeakyReLU slope {op.slope} is outside [0, 1]")
    return shape


def window_counts(shape: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)) -> Pair:
    """Number of windows down and across an image of shape (channels, height, width).

    Raises: ModelError if a step is not positive, the padding is negative, or no window fits.
    """
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        raise ModelError(f"kernel {kernel}, stride {stride}, dilation {dilation}, padding {padding} are not all valid")
    counts = []
    for axis in (0, 1):
        span = shape[axis + 1] + padding[axis] + padding[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1
        if span < 0:
            raise ModelError(f"a window of kernel {kernel} does not fit into {shape}")
        counts.append(span // stride[axis] + 1)
    return counts[0], counts[1]
