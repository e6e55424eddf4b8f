"""Graphs of ATen operations as plain data, and what the handler of an operation works with. No torch needed.

The first axis of every activation is the batch, which the canonical network does not have. Whatever moves, merges or
reduces it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.builder import Builder, Tensor
from paoding_verify.network.graph import Affine, Array, Op, Shape
from paoding_verify.network.limits import clean

__all__ = ["BATCH", "AtenGraph", "AtenNode", "Call", "Constant", "Handler", "Ref", "Value"]

Constant = npt.NDArray[Any]
BATCH = "batch"
"""Stands in arguments for the open size of the batch."""


@dataclass(frozen=True)
class Ref:
    """An argument that is the result of another node, an input or a constant."""

    name: str


@dataclass(frozen=True)
class AtenNode:
    """One call."""

    target: str
    """Operation with its overload, e.g. "aten.linear.default"."""
    arguments: Mapping[str, Any]
    """By the names of the operation's schema; left out where the default holds."""
    outputs: tuple[str, ...]
    """Names of its results."""


@dataclass(frozen=True)
class AtenGraph:
    """A functional graph of one input and one output."""

    input: str
    input_shape: Shape
    """Without the batch axis."""
    batch: int | str
    """Size of the batch, or BATCH if it is open."""
    constants: Mapping[str, Constant]
    """Parameters, buffers and lifted constants by name."""
    nodes: tuple[AtenNode, ...]
    output: str


Value = Tensor | Constant | str | int


@dataclass
class Call:
    """A node with its arguments looked up, and the network so far, which its handler extends."""

    node: AtenNode
    values: Mapping[str, Value]
    builder: Builder
    batch: int | str

    def get(self, name: str, default: Any = None) -> Any:
        """The argument, or the default where it is left out."""
        return self._resolve(self.node.arguments.get(name, default))

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            if argument.name not in self.values:
                raise UnsupportedOpError(
                    f"it reads {clean(argument.name)!r}, which is not computed before, or was changed in place"
                )
            return self.values[argument.name]
        return [self._resolve(item) for item in argument] if isinstance(argument, (list, tuple)) else argument

    @property
    def depends(self) -> bool:
        """Whether any argument depends on the network's input."""
        found = [self._resolve(a) for a in self.node.arguments.values()]
        return any(isinstance(v, Tensor) for f in found for v in (f if isinstance(f, list) else [f]))

    def activation(self, name: str = "self") -> Tensor:
        """The argument, which must depend on the network's input. Raises: UnsupportedOpError."""
        found = self.get(name)
        if not isinstance(found, Tensor):
            raise UnsupportedOpError(f"its argument {name!r} is a constant; an activation is expected there")
        return found

    def parameter(self, name: str) -> Array | None:
        """The argument as float64, which must be a float32 constant or a number; None if it is left out.

        Numbers are rounded to float32, as torch does. Raises: UnsupportedOpError if it depends on the input,
        ModelError for other types.
        """
        found = self.get(name)
        if found is None:
            return None
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            with np.errstate(over="ignore"):  # Network refuses parameters that are not finite
                return np.array(np.float32(found), dtype=np.float64)
        if not isinstance(found, np.ndarray):
            raise UnsupportedOpError(f"its argument {name!r} is computed from the input; a constant is expected there")
        if found.dtype != np.float32:
            raise ModelError(f"its argument {name!r} has type {found.dtype}; only float32 models are supported")
        return found.astype(np.float64)

    def emit(self, op: Op, *inputs: Tensor) -> Tensor:
        """Appends an operation. Raises: ModelError if shapes do not fit or the result is beyond the limits."""
        return self.builder.emit(clean(self.node.outputs[0]), op, *inputs)

    def affine(self, x: Tensor, scale: Array, shift: Array, *, roundings: int = 0) -> Tensor:
        """x * scale + shift for constants that broadcast to x without the batch axis."""
        return self.emit(Affine(self._fitted(scale, x), self._fitted(shift, x), roundings=roundings), x)

    def _fitted(self, array: Array, x: Tensor) -> Array:
        rank = len(x.shape)
        if array.ndim > rank + 1 or (array.ndim == rank + 1 and array.shape[0] != 1):
            raise UnsupportedOpError(f"a constant of shape {array.shape} does not act on every input alike")
        return array.reshape((1,) * max(0, rank - array.ndim) + array.shape[max(0, array.ndim - rank) :])


Handler = Callable[[Call], Tensor]
"""Appends the nodes of one call to the network and gives its result."""
