"""The canonical network: the one model that search, checker, solvers and report all read.

A `Network` is a list of nodes in topological order over a small whitelist of operations. Values are numbered: value 0
is the input, node k computes value k + 1, the last node computes the output. Shapes never include the batch axis.
Parameters are plain numpy arrays. An operation is data only; what it computes stands in `evaluate.py` and `linear.py`.

Rounding of folded parameters. Loading may fold constants (batch normalisation, scaling) into a linear operation. The
folded parameter then differs a little from the exact one. With u the unit roundoff of the arithmetic in question
(2^-53 for the stored float64 values, 2^-24 for a deployed float32 program that computes the unfolded form), each
linear operation says how much: every weight or scale is exact up to a relative gamma_k(u), k = `roundings`, and every
bias or shift up to gamma_k(u) * `bias_magnitude` (gamma_k(u) = k u / (1 - k u), Higham 2002, section 3.1). Parameters
read as they stand have `roundings = 0`; `bias_magnitude` is then |bias|.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import InputError, ModelError

__all__ = [
    "Add", "Affine", "Array", "AveragePool2d", "Conv2d", "Dense", "Float32Array", "LeakyRelu", "MaxPool2d", "Network",
    "Node", "Op", "Padding", "Pair", "Permute", "Relu", "Reshape", "Shape", "Sigmoid", "Source", "Tanh",
    "is_activation", "is_linear",
]  # fmt: skip

Array = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
"""Zeros added at (top, left, bottom, right)."""


@dataclass(frozen=True, eq=False)
class Dense:
    """y = weight @ x + bias on a vector.

    Shapes: weight (out, in), bias (out,), x (in,), y (out,).
    """

    weight: Array
    bias: Array
    bias_magnitude: Array | None = None
    """(out,) sum of the magnitudes folded into each bias; None means |bias|. See the module text."""
    roundings: int = 0
    """Roundings folded into each parameter. See the module text."""


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Two-dimensional cross-correlation with zero padding.

    Shapes: weight (out_channels, in_channels / groups, kernel_h, kernel_w), bias (out_channels,), x (channels, h, w).
    """

    weight: Array
    bias: Array
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias_magnitude: Array | None = None
    roundings: int = 0


@dataclass(frozen=True, eq=False)
class Affine:
    """y = scale * x + shift, element by element (normalisation layers, unfolded batch normalisation).

    Shapes: scale and shift have the rank of x; each axis is 1 or that of x, e.g. (channels, 1, 1).
    """

    scale: Array
    shift: Array
    bias_magnitude: Array | None = None
    roundings: int = 0


@dataclass(frozen=True)
class Add:
    """y = x1 + x2, two values of one shape (residual connections)."""


@dataclass(frozen=True)
class Reshape:
    """Row-major change of shape; flattening is Reshape((n,))."""

    shape: Shape


@dataclass(frozen=True)
class Permute:
    """Reordering of axes (batch axis not counted): axis a of y is axis axes[a] of x."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class AveragePool2d:
    """Mean over windows of an image (channels, h, w)."""

    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    count_include_pad: bool = True
    """Whether padded zeros count in the divisor."""


@dataclass(frozen=True)
class MaxPool2d:
    """Maximum over windows of an image (channels, h, w); padded cells never win."""

    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Relu:
    """y = max(x, 0)."""


@dataclass(frozen=True)
class LeakyRelu:
    """y = max(x, slope * x), slope in [0, 1]."""

    slope: float


@dataclass(frozen=True)
class Sigmoid:
    """y = 1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class Tanh:
    """y = tanh(x)."""


Op = Dense | Conv2d | Affine | Add | Reshape | Permute | AveragePool2d | MaxPool2d | Relu | LeakyRelu | Sigmoid | Tanh


def is_linear(op: Op) -> bool:
    """Whether the operation is affine in its inputs: it has a transpose in `linear.py`."""
    return isinstance(op, (Dense, Conv2d, Affine, Add, Reshape, Permute, AveragePool2d))


def is_activation(op: Op) -> bool:
    """Whether the operation is an element-wise nonlinearity: its channels or features are *units*."""
    return isinstance(op, (Relu, LeakyRelu, Sigmoid, Tanh))


@dataclass(frozen=True)
class Node:
    """One operation of a network."""

    op: Op
    inputs: tuple[int, ...]
    """Numbers of the values it reads; all smaller than the number of the value it computes."""
    name: str
    """The name that errors and reports use; from the source file where it has one. Untrusted text."""


@dataclass(frozen=True)
class Source:
    """Where a network came from, and the file that deployments run."""

    path: str
    """File name as given by the user, or the class name of a module. Untrusted text."""
    format: str
    """One of onnx, pt2, pth, safetensors, module; with what was done to the file: "onnx, data inlined",
    "pth, normalised". Of plain "onnx" and "module" the digest is that of `onnx`."""
    sha256: str
    """Digest of the file as read; of `onnx` for a module."""
    onnx: bytes = field(repr=False)
    """The ONNX model that is shipped in bundles and replayed in onnxruntime."""


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward network over the whitelist; immutable; checked when made.

    Raises: ModelError if shapes do not fit, a node reads a later value, a parameter is not finite, or the output is
    not a vector.
    """

    input_shape: Shape
    """Shape of one input, without the batch axis."""
    nodes: tuple[Node, ...]
    """In topological order; the last one computes the output, a vector."""
    name: str = "network"
    source: Source | None = None
    """Set for networks that were read from a file or module."""

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ModelError(f"network {self.name!r} has no operations")
        if len(self.shapes[-1]) != 1:
            raise ModelError(
                f"network {self.name!r}: the output has shape {self.shapes[-1]}; expected one vector per input, "
                "shape (num_outputs,)"
            )

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of every value, the input first: len(nodes) + 1 entries."""
        from paoding_verify.network.shapes import infer_shapes

        return infer_shapes(self.input_shape, self.nodes)

    @property
    def num_outputs(self) -> int:
        """Length of the output vector."""
        return self.shapes[-1][0]

    @property
    def num_parameters(self) -> int:
        """Weights, biases, scales and shifts, counted one by one."""
        return sum(a.size for node in self.nodes for a in parameters(node.op))

    @property
    def activations(self) -> tuple[int, ...]:
        """Indices of the activation nodes, in order; 'layer k' in traces and reports is the k-th of these."""
        return tuple(k for k, node in enumerate(self.nodes) if is_activation(node.op))

    @property
    def num_units(self) -> tuple[int, ...]:
        """Units (features or channels) of every activation node, in order."""
        return tuple(self.shapes[k + 1][0] for k in self.activations)

    def forward(self, x: npt.ArrayLike) -> Float32Array:
        """Outputs in float32, computed by numpy (not bit-equal to any other runtime).

        Shapes: x (N, *input_shape) float32 -> (N, num_outputs) float32.
        Raises: InputError if the shape or the type does not fit.
        """
        from paoding_verify.network.evaluate import evaluate

        batch = np.asarray(x)
        if batch.ndim != len(self.input_shape) + 1 or batch.shape[1:] != self.input_shape:
            raise InputError(f"network {self.name!r} takes inputs (N, *{self.input_shape}); got shape {batch.shape}")
        if not np.issubdtype(batch.dtype, np.floating):
            raise InputError(f"network {self.name!r} takes float32 inputs; got {batch.dtype}")
        return evaluate(self, batch.astype(np.float32, copy=False))


def parameters(op: Op) -> tuple[Array, ...]:
    """The arrays of an operation, weights first; empty for those without."""
    if isinstance(op, (Dense, Conv2d)):
        return (op.weight, op.bias)
    if isinstance(op, Affine):
        return (op.scale, op.shift)
    return ()
