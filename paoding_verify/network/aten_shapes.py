"""Supported ATen operations that move values or hand them on: shapes, axes, copies."""

from __future__ import annotations

from math import prod
from typing import Any

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.aten import BATCH, Call, Handler
from paoding_verify.network.builder import Tensor
from paoding_verify.network.graph import Permute, Reshape, Shape

__all__ = ["SHAPE_HANDLERS", "canonical_axis", "integer", "reshaped"]


def _keep(call: Call) -> Tensor:
    if call.get("dtype") not in (None, "float32"):
        raise UnsupportedOpError(f"conversion to {call.get('dtype')} is not supported; only float32 models are")
    return call.activation()


def _dropout(call: Call) -> Tensor:
    if call.get("train", False):
        raise UnsupportedOpError("dropout is in training mode; call eval() on the module first")
    return call.activation("input")


def _view(call: Call) -> Tensor:
    x, target = call.activation(), call.get("size", call.get("shape"))
    if not target or target[0] not in (-1, BATCH, call.batch) or BATCH in target[1:]:
        raise UnsupportedOpError(f"a change of shape to {target} mixes the inputs of a batch")
    shape = [integer(n) for n in target[1:]]
    if -1 in shape:
        known = prod(n for n in shape if n != -1)
        if target[0] == -1 or shape.count(-1) > 1 or known < 1:
            raise UnsupportedOpError(f"a change of shape to {target} is ambiguous")
        shape[shape.index(-1)] = prod(x.shape) // known
    if prod(shape) != prod(x.shape):
        raise UnsupportedOpError(f"a change of shape from (batch, *{x.shape}) to {target} mixes the inputs of a batch")
    return reshaped(call, x, tuple(shape))


def _flatten(call: Call) -> Tensor:
    x = call.activation()
    first, last = (canonical_axis(call.get(k, d), len(x.shape)) for k, d in (("start_dim", 0), ("end_dim", -1)))
    return reshaped(call, x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def _unflatten(call: Call) -> Tensor:
    x = call.activation()
    axis, sizes = canonical_axis(call.get("dim"), len(x.shape)), [integer(n) for n in call.get("sizes")]
    rest = x.shape[axis] // max(1, prod(n for n in sizes if n != -1))
    return reshaped(call, x, (*x.shape[:axis], *(rest if n == -1 else n for n in sizes), *x.shape[axis + 1 :]))


def _squeeze(call: Call) -> Tensor:
    x, dims = call.activation(), call.get("dim")
    if dims is None:
        axes = list(range(len(x.shape)))
    else:
        axes = [canonical_axis(a, len(x.shape)) for a in (dims if isinstance(dims, list) else [dims])]
    return reshaped(call, x, tuple(n for k, n in enumerate(x.shape) if k not in axes or n != 1))


def _unsqueeze(call: Call) -> Tensor:
    x = call.activation()
    axis = canonical_axis(call.get("dim"), len(x.shape) + 1)
    return reshaped(call, x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _permute(call: Call) -> Tensor:
    x, dims = call.activation(), [integer(a) for a in call.get("dims")]
    if len(dims) != len(x.shape) + 1 or dims[0] % len(dims) != 0:
        raise UnsupportedOpError(f"a reordering of axes by {dims} moves the batch")
    return call.emit(Permute(tuple(canonical_axis(a, len(x.shape)) for a in dims[1:])), x)


def _transpose(call: Call) -> Tensor:
    x = call.activation()
    first, second = (canonical_axis(call.get(k), len(x.shape)) for k in ("dim0", "dim1"))
    axes = list(range(len(x.shape)))
    axes[first], axes[second] = axes[second], axes[first]
    return call.emit(Permute(tuple(axes)), x)


def reshaped(call: Call, x: Tensor, shape: Shape) -> Tensor:
    """The value in another shape; the value itself if the shape is its own."""
    return x if x.shape == shape else call.emit(Reshape(shape), x)


def canonical_axis(axis: Any, rank: int) -> int:
    """An axis of a tensor with a batch as an axis of the canonical value of `rank` axes.

    Raises: UnsupportedOpError for the batch axis, and for axes that do not exist.
    """
    number = integer(axis)
    if not -rank - 1 <= number <= rank or number % (rank + 1) == 0:
        raise UnsupportedOpError(f"it works on axis {number}, which is the batch or does not exist")
    return number % (rank + 1) - 1


def integer(value: Any) -> int:
    """The value, which must be an integer. Raises: UnsupportedOpError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnsupportedOpError(f"{str(value)[:40]} stands where a number is expected; is it computed from a size?")
    return value


SHAPE_HANDLERS: dict[str, Handler] = {
    "aten.dropout.default": _dropout,
    "aten.feature_dropout.default": _dropout,
    "aten.view.default": _view,
    "aten._unsafe_view.default": _view,
    "aten.reshape.default": _view,
    "aten.flatten.using_ints": _flatten,
    "aten.unflatten.int": _unflatten,
    "aten.squeeze.default": _squeeze,
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    "aten._to_copy.default": _keep,
    "aten.to.dtype": _keep,
    "aten.clone.default": _keep,
    "aten.contiguous.default": _keep,
    "aten.detach.default": _keep,
    "aten.alias.default": _keep,
}
"""What each of these operations becomes when an argument depends on the network's input."""
