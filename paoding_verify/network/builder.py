"""Collects canonical nodes while a file is read: ONNX tensors with their batch axis become values without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.graph import AveragePool2d, Conv2d, MaxPool2d, Node, Op, Padding, Reshape, Shape, parameters
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.onnx_fold import Constant
from paoding_verify.network.shapes import output_shape

__all__ = ["Builder", "Call", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """An activation of the graph."""

    value: int
    """Its number in the canonical network."""
    shape: Shape
    """Without the batch axis, if the graph has one."""
    padding: Padding = (0, 0, 0, 0)
    """Zeros that a Pad node puts around it; the next convolution takes them over."""


@dataclass
class Builder:
    """The canonical nodes so far."""

    input_shape: Shape
    batched: bool
    """Whether axis 0 of every activation of the graph is the batch."""
    symbolic: bool
    """Whether the size of the batch is open."""
    limits: LoadLimits
    nodes: list[Node] = field(default_factory=list)
    num_parameters: int = 0
    num_elements: int = 0
    """Of all values so far."""

    @property
    def lead(self) -> int:
        """Axes of the graph's activations in front of the canonical ones: 1 for the batch, else 0."""
        return int(self.batched)

    def emit(self, name: str, op: Op, *inputs: Tensor) -> Tensor:
        """Appends a node. Raises: ModelError if shapes do not fit or the value is too large."""
        shape = output_shape(op, *(t.shape for t in inputs))
        columns = prod(shape)
        if isinstance(op, Conv2d):
            columns = prod(op.weight.shape[1:]) * op.groups * prod(shape[1:])
        elif isinstance(op, (AveragePool2d, MaxPool2d)):
            columns *= prod(op.kernel)
        if isinstance(op, (Conv2d, AveragePool2d, MaxPool2d)):
            (channels, height, width), (top, left, bottom, right) = inputs[0].shape, op.padding
            columns = max(columns, channels * (height + top + bottom) * (width + left + right))
        if prod(shape) > self.limits.max_value_elements or columns > self.limits.max_columns:
            raise ModelError(f"a value of shape {shape} ({columns} window cells) is beyond the limits")
        self.num_elements += prod(shape)
        if self.num_elements > self.limits.max_total_elements:
            raise ModelError(f"the activations up to here hold more than {self.limits.max_total_elements} numbers")
        self.num_parameters += sum(array.size for array in parameters(op))
        if self.num_parameters > self.limits.max_parameters:
            raise ModelError(f"the layers up to here have more than {self.limits.max_parameters} parameters")
        self.nodes.append(Node(op, tuple(t.value for t in inputs), name))
        return Tensor(len(self.nodes), shape)

    def reshape(self, name: str, tensor: Tensor, shape: Shape) -> Tensor:
        """The tensor in another shape; the tensor itself if the shape is its own."""
        return tensor if tensor.shape == shape else self.emit(name, Reshape(shape), tensor)

    def axis(self, axis: int, rank: int) -> int:
        """Axis of the graph as an axis of the canonical value; -1 for the batch. `rank` counts canonical axes.

        Raises: ModelError if there is no such axis.
        """
        full = rank + self.lead
        if not -full <= axis < full:
            raise ModelError(f"axis {axis} does not exist in a tensor of {full} axes")
        return axis % full - self.lead


@dataclass(frozen=True)
class Call:
    """One node of the graph with its inputs looked up."""

    op_type: str
    name: str
    """Fit for messages."""
    inputs: tuple[Tensor | Constant | None, ...]
    """None where an optional input is left out."""
    attributes: dict[str, Any]
    opset: int
    builder: Builder

    def get(self, index: int) -> Tensor | Constant | None:
        """Input `index`, or None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int = 0) -> Tensor:
        """Input `index`, which must be an activation. Raises: UnsupportedOpError if it is a constant."""
        found = self.get(index)
        if not isinstance(found, Tensor):
            raise UnsupportedOpError(f"its input {index} is a constant or missing; an activation is expected there")
        if any(found.padding) and self.op_type not in ("Conv", "Pad"):
            raise UnsupportedOpError(
                "its input comes from a Pad; padding is only supported directly in front of a Conv"
            )
        return found

    def constant(self, index: int) -> np.ndarray[Any, np.dtype[Any]] | None:
        """Input `index`, which must be a constant that does not depend on the batch; None if it is left out.

        Raises: UnsupportedOpError otherwise.
        """
        found = self.get(index)
        if found is None:
            return None
        if isinstance(found, Tensor):
            raise UnsupportedOpError(f"its input {index} is computed from the network's input; a constant is expected")
        if found.one is not found.two and not np.array_equal(found.one, found.two):
            raise UnsupportedOpError(f"its input {index} depends on the size of the batch")
        return found.one

    def parameter(self, index: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """Input `index` as float64, which must be a float32 constant; None if it is left out.

        Raises: ModelError if it has another type or is not finite.
        """
        array = self.constant(index)
        if array is None:
            return None
        if array.dtype != np.float32:
            raise ModelError(f"its input {index} has type {array.dtype}; only float32 models are supported")
        if not np.isfinite(array).all():
            raise ModelError(f"its input {index} is not finite (NaN or infinity)")
        return array.astype(np.float64)

    def integers(self, index: int, attribute: str) -> tuple[int, ...] | None:
        """Integers given by an attribute (older opsets) or an input (newer ones); None if neither is there."""
        if attribute in self.attributes:
            return tuple(self.attributes[attribute])
        array = self.constant(index)
        if array is None:
            return None
        if array.dtype.kind != "i":
            raise ModelError(f"its input {index} must hold integers, not {array.dtype}")
        return tuple(int(n) for n in array.reshape(-1))
