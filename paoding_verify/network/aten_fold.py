"""ATen operations on constants alone, and what of a graph is no computation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.aten import Call, Constant
from paoding_verify.network.aten_shapes import integer

__all__ = ["IGNORED", "VIEWS", "fold"]

VIEWS = {
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "flatten.using_ints", "unflatten.int", "squeeze.default", "squeeze.dim",
        "squeeze.dims", "unsqueeze.default", "permute.default", "transpose.int", "t.default", "to.dtype",
        "contiguous.default", "detach.default", "alias.default", "dropout.default", "feature_dropout.default",
    )
}  # fmt: skip
"""Operations whose result may share memory with their argument."""

IGNORED = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default"}
"""Checks of the exporter that compute nothing."""


def fold(target: str, call: Call) -> Constant:
    """Computes an operation on constants alone in float32, where every runtime gives the same bits.

    Raises: UnsupportedOpError for operations whose rounding is not prescribed; ModelError if the arguments do not fit.
    """
    name = target.split(".")[1]
    x = call.get("self")
    if not isinstance(x, np.ndarray):
        raise UnsupportedOpError("it is computed from sizes or random numbers")
    try:
        if name in ARITHMETIC:
            return _fold_arithmetic(name, x, call)
        if name in ("t", "transpose", "permute"):
            default = list(range(x.ndim))[::-1]
            dims = call.get("dims", default)
            if name == "transpose":
                dims = list(range(x.ndim))
                first, second = integer(call.get("dim0")), integer(call.get("dim1"))
                dims[first], dims[second] = dims[second], dims[first]
            return x.transpose(dims)
        if name in ("view", "reshape", "_unsafe_view"):
            return x.reshape(_sizes(call.get("size", call.get("shape"))))
        if name == "unsqueeze":
            return np.expand_dims(x, integer(call.get("dim")))
        if name == "squeeze":
            return np.squeeze(x, tuple(_sizes(call.get("dim"))) if call.get("dim") is not None else None)
        if name in ("clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh"):
            return x
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(f"a constant cannot be computed: {error}") from error
    raise UnsupportedOpError("the operation is not supported on constants")


ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


def _fold_arithmetic(name: str, x: Constant, call: Call) -> Constant:
    other = call.get("other")
    if x.dtype != np.float32 or call.get("alpha", 1) != 1 or call.get("rounding_mode") is not None:
        raise UnsupportedOpError("only plain float32 arithmetic on constants is supported")
    if isinstance(other, np.ndarray) and other.dtype != np.float32:
        raise UnsupportedOpError("only plain float32 arithmetic on constants is supported")
    shape = np.broadcast_shapes(x.shape, np.shape(other))
    if prod(shape) > call.builder.limits.max_elements:
        raise ModelError(f"a constant of shape {shape} is beyond the limits")
    with np.errstate(all="ignore"):  # Network refuses parameters that are not finite
        return np.asarray(ARITHMETIC[name](x, np.asarray(other, dtype=np.float32)))


def _sizes(sizes: Sequence[Any] | int) -> list[int]:
    return [integer(n) for n in (sizes if isinstance(sizes, list) else [sizes])]
