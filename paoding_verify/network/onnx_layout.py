"""ONNX operations that only move numbers: flatten, reshape, squeeze, unsqueeze, transpose.

None of them may mix the inputs of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.builder import Call, Tensor
from paoding_verify.network.graph import Permute, Shape
from paoding_verify.network.onnx_fold import Constant

__all__ = ["HANDLERS"]


def _batch_mixed() -> UnsupportedOpError:
    return UnsupportedOpError("it mixes the batch axis with others; the batch must be the first axis throughout")


def _flatten(call: Call) -> Tensor:
    x, builder = call.tensor(), call.builder
    full = (*(1,) * builder.lead, *x.shape)
    axis = call.attributes.get("axis", 1)
    if not -len(full) <= axis <= len(full):
        raise ModelError(f"axis {axis} does not exist in a tensor of {len(full)} axes")
    axis = axis % len(full) if axis < 0 else axis
    rows, columns = prod(full[:axis]), prod(full[axis:])
    if not builder.batched:
        return builder.reshape(call.name, x, (rows, columns))
    if rows != 1 or (axis == 0 and builder.symbolic):
        raise _batch_mixed()
    return builder.reshape(call.name, x, (columns,))


def _reshape(call: Call) -> Tensor:
    x, builder, target = call.tensor(), call.builder, call.get(1)
    if not isinstance(target, Constant) or target.one.dtype != np.int64 or target.one.ndim != 1:
        raise UnsupportedOpError("its target shape must be a constant list of integers")
    zeros = bool(call.attributes.get("allowzero", 0))
    if not builder.batched:
        return builder.reshape(call.name, x, _resolve(target.one, x.shape, zeros))
    batch, *shape = _resolve(target.one, (1, *x.shape), zeros)
    if batch != 1 or (builder.symbolic and _resolve(target.two, (2, *x.shape), zeros) != (2, *shape)):
        raise _batch_mixed()
    return builder.reshape(call.name, x, tuple(shape))


def _resolve(target: npt.NDArray[np.int64], shape: Shape, zeros_allowed: bool) -> Shape:
    """The shape that a Reshape target with 0 (copy) and -1 (the rest) stands for."""
    wanted = [int(n) for n in target]
    if not zeros_allowed:
        if any(n == 0 and k >= len(shape) for k, n in enumerate(wanted)):
            raise ModelError(f"its target shape {wanted} copies an axis that is not there")
        wanted = [shape[k] if n == 0 else n for k, n in enumerate(wanted)]
    known = prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and known > 0:
        wanted[wanted.index(-1)] = prod(shape) // known
    if not wanted or min(wanted) < 1 or prod(wanted) != prod(shape):
        raise ModelError(f"it cannot reshape {shape} to {[int(n) for n in target]}")
    return tuple(wanted)


def _squeeze(call: Call) -> Tensor:
    x, builder, axes = call.tensor(), call.builder, call.integers(1, "axes")
    rank = len(x.shape)
    if axes is None:
        if builder.batched:
            raise _batch_mixed()
        places = {k for k, n in enumerate(x.shape) if n == 1}
    else:
        places = {builder.axis(a, rank) for a in axes}
    if -1 in places:
        raise _batch_mixed()
    if any(x.shape[k] != 1 for k in places):
        raise ModelError(f"it squeezes an axis of {x.shape} that is longer than 1")
    return builder.reshape(call.name, x, tuple(n for k, n in enumerate(x.shape) if k not in places))


def _unsqueeze(call: Call) -> Tensor:
    x, builder, axes = call.tensor(), call.builder, call.integers(1, "axes")
    if not axes or len(axes) + len(x.shape) > builder.limits.max_rank:
        raise ModelError("its axes are missing or too many")
    rank = len(x.shape) + len(axes)
    places = {builder.axis(a, rank) for a in axes}
    if -1 in places:
        raise _batch_mixed()
    if len(places) != len(axes):
        raise ModelError("it names an axis twice")
    rest = iter(x.shape)
    return builder.reshape(call.name, x, tuple(1 if k in places else next(rest) for k in range(rank)))


def _transpose(call: Call) -> Tensor:
    x, builder = call.tensor(), call.builder
    full = len(x.shape) + builder.lead
    perm = tuple(call.attributes.get("perm", range(full)[::-1]))
    if sorted(perm) != list(range(full)):
        raise ModelError(f"its perm {perm} does not reorder {full} axes")
    if builder.batched and perm[0] != 0:
        raise _batch_mixed()
    return builder.emit(call.name, Permute(tuple(a - builder.lead for a in perm[builder.lead :])), x)


HANDLERS: dict[str, Callable[[Call], Tensor]] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
}
