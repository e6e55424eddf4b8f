"""Constant subgraphs of an ONNX file (shapes, axes, weights behind casts and transposes), computed while reading.

A constant may depend on the size of the batch (`Shape` of an activation). It is computed for a batch of one and for a
batch of two; where the two differ, the batch is involved, and only a Reshape that keeps inputs apart may read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from paoding_verify.errors import ModelError
from paoding_verify.network.limits import LoadLimits, clean
from paoding_verify.network.onnx_proto import DTYPES, tensor_array

__all__ = ["FOLDERS", "Constant", "attributes_of", "fold"]

Arrays = tuple[npt.NDArray[Any], ...]
Attributes = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that does not depend on the input's numbers."""

    one: npt.NDArray[Any]
    """Its value in a batch of one."""
    two: npt.NDArray[Any]
    """Its value in a batch of two; the same object unless the size of the batch enters."""


def fold(op_type: str, inputs: tuple[Constant | None, ...], attributes: Attributes, limits: LoadLimits) -> Constant:
    """Computes one node of a constant subgraph. Raises: ModelError if it is malformed or grows beyond the limits."""
    folder = FOLDERS[op_type]
    given = tuple(c for c in inputs if c is not None)
    try:
        one = folder(tuple(c.one for c in given), attributes, limits)
        if all(c.one is c.two for c in given):
            return Constant(one, one)
        return Constant(one, folder(tuple(c.two for c in given), attributes, limits))
    except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"a constant {clean(op_type)} cannot be computed: {clean(str(error))}") from error


def _constant(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    if "value" in attributes:
        return tensor_array(attributes["value"], limits)
    for key, dtype in (("value_float", "<f4"), ("value_floats", "<f4"), ("value_int", "<i8"), ("value_ints", "<i8")):
        if key in attributes:
            return np.array(attributes[key], dtype=dtype)
    raise ValueError("it holds no number")


def _cast(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    if attributes["to"] not in DTYPES:
        raise ValueError(f"cast to type {attributes['to']}")
    with np.errstate(all="ignore"):
        return arrays[0].astype(DTYPES[attributes["to"]][0], copy=False)


def _gather(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    data, indices = arrays
    axis = attributes.get("axis", 0)
    _check_growth(data.size // max(data.shape[axis], 1) * indices.size, limits)
    return np.take(data, indices, axis=axis)


def _concat(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    _check_growth(sum(a.size for a in arrays), limits)
    return np.concatenate(arrays, axis=attributes["axis"])


def _axes(arrays: Arrays, attributes: Attributes) -> tuple[int, ...] | None:
    if "axes" in attributes:
        return tuple(attributes["axes"])
    return tuple(int(a) for a in arrays[1].reshape(-1)) if len(arrays) > 1 else None


def _unsqueeze(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    axes = _axes(arrays, attributes)
    if axes is None or arrays[0].ndim + len(axes) > limits.max_rank:
        raise ValueError("its axes are missing or too many")
    return np.expand_dims(arrays[0], axes)


def _squeeze(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    return np.squeeze(arrays[0], _axes(arrays, attributes))


def _reshape(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    target = [int(n) for n in arrays[1]]
    if len(target) > limits.max_rank:
        raise ValueError("too many axes")
    if not attributes.get("allowzero", 0):
        target = [arrays[0].shape[k] if n == 0 else n for k, n in enumerate(target)]
    return arrays[0].reshape(target)


def _slice(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    data, *rest = arrays
    if "starts" in attributes:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes", range(len(starts))), np.ones(len(starts), "<i8")
    else:
        starts, ends = rest[0], rest[1]
        axes = rest[2] if len(rest) > 2 else range(len(starts))
        steps = rest[3] if len(rest) > 3 else np.ones(len(starts), "<i8")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        window = slice(int(start), None if step < 0 and end < -data.shape[axis] else int(end), int(step))
        data = data[(slice(None),) * (int(axis) % data.ndim) + (window,)]
    return data


def _constant_of_shape(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
    shape = tuple(int(n) for n in arrays[0])
    if len(shape) > limits.max_rank:
        raise ValueError("too many axes")
    _check_growth(math.prod(shape), limits)
    fill = tensor_array(attributes["value"], limits) if "value" in attributes else np.zeros(1, "<f4")
    return np.full(shape, fill.reshape(()), fill.dtype)


def _binary(function: Callable[..., Any]) -> Callable[[Arrays, Attributes, LoadLimits], npt.NDArray[Any]]:
    def compute(arrays: Arrays, attributes: Attributes, limits: LoadLimits) -> npt.NDArray[Any]:
        first, second = arrays
        if first.dtype != second.dtype:
            raise ValueError(f"types {first.dtype} and {second.dtype} differ")
        _check_growth(math.prod(np.broadcast_shapes(first.shape, second.shape)), limits)
        with np.errstate(all="ignore"):
            return np.asarray(function(first, second), dtype=first.dtype)

    return compute


def _divide(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if first.dtype.kind == "f":
        return np.asarray(first / second)
    if (second == 0).any():
        raise ValueError("division by zero")
    return np.asarray(np.sign(first) * np.sign(second) * (np.abs(first) // np.abs(second)))


def _check_growth(count: int, limits: LoadLimits) -> None:
    if not 0 <= count <= limits.max_folded_elements:
        raise ModelError(
            f"a constant of {count} values would be computed; the limit is {limits.said('max_folded_elements')}"
        )


FOLDERS: dict[str, Callable[[Arrays, Attributes, LoadLimits], npt.NDArray[Any]]] = {
    "Constant": _constant,
    "Cast": _cast,
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Slice": _slice,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda arrays, attributes, limits: arrays[0],
    "Transpose": lambda arrays, attributes, limits: np.transpose(arrays[0], attributes.get("perm")),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
}
"""Operations that are computed while reading if all their inputs are constants."""


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values: numbers, lists, strings, tensors.

    Raises: ModelError on attributes of other kinds (subgraphs).
    """
    plain = {
        onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT, onnx.AttributeProto.STRING, onnx.AttributeProto.TENSOR,
        onnx.AttributeProto.FLOATS, onnx.AttributeProto.INTS, onnx.AttributeProto.STRINGS,
    }  # fmt: skip
    result: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name in result:
            raise ModelError(f"node {clean(node.name)!r} gives the attribute {clean(attribute.name)!r} twice")
        if attribute.type not in plain or attribute.ref_attr_name:
            raise ModelError(f"node {clean(node.name)!r} has the unusual attribute {clean(attribute.name)!r}")
        value = onnx.helper.get_attribute_value(attribute)
        result[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return result
