"""Bytes of an ONNX file to a parsed model, and its tensors to arrays, without believing any size that it claims."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto

from paoding_verify.errors import ModelError
from paoding_verify.network.limits import LoadLimits, clean

__all__ = ["DTYPES", "parse_model", "read_capped", "read_model", "tensor_array"]

DTYPES: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}
"""Element types that a file may hold: their layout in raw data, and the field that holds them otherwise."""


def parse_model(data: bytes, limits: LoadLimits) -> onnx.ModelProto:
    """The parsed file, with its node count and names within the limits. Raises: ModelError otherwise."""
    if len(data) > limits.max_model_bytes:
        raise ModelError(f"the model has {len(data)} bytes; the limit is {limits.said('max_model_bytes')}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        if "alloc" in str(error):
            raise MemoryError(f"the model does not fit into memory: {clean(str(error))}") from error
        raise ModelError(f"not an ONNX file: {clean(str(error))}") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError("not an ONNX file, or one without any node")
    if len(model.graph.node) > limits.max_nodes:
        raise ModelError(f"the model has {len(model.graph.node)} nodes; the limit is {limits.said('max_nodes')}")
    _check_names(model.graph, limits)
    return model


def read_model(path: Path, limits: LoadLimits) -> tuple[bytes, bytes]:
    """The file as it stands, and the same model with its external data inlined.

    External data is read from the file's own folder only. Raises: ModelError if a size or a path is not acceptable.
    """
    data = read_capped(path, limits.max_model_bytes)
    if b"location" not in data:  # the key that every external tensor must carry
        return data, data
    model = parse_model(data, limits)
    external = [t for t in _all_tensors(model) if t.data_location == TensorProto.EXTERNAL or t.external_data]
    if not external:
        return data, data
    budget = limits.max_model_bytes - len(data)
    for tensor in external:
        budget -= _inline(tensor, path.parent, budget, limits)
    try:
        return data, model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelError(f"the model with its external data is too large for one file: {clean(str(error))}") from error


def read_capped(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file. Raises: ModelError if it cannot be read or is larger than `max_bytes`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size + 1) if size <= max_bytes else b""
    except OSError as error:
        raise ModelError(f"cannot read {clean(str(path))}: {error.strerror}") from error
    if max(size, len(data)) > max_bytes:
        raise ModelError(
            f"{clean(str(path))} has {max(size, len(data))} bytes; the limit is {max_bytes} (--max-model-bytes)"
        )
    return data


def tensor_array(tensor: TensorProto, limits: LoadLimits) -> npt.NDArray[Any]:
    """The tensor as an array. Raises: ModelError naming it if its type, size or content is not acceptable."""
    name = clean(tensor.name)
    dtype, field = _layout(tensor)
    shape = _claimed_shape(tensor, limits)
    count = math.prod(shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ModelError(f"tensor {name!r} keeps its data in another file; load the model by its path")
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * np.dtype(dtype).itemsize:
            raise ModelError(f"tensor {name!r} claims shape {shape} and holds {len(tensor.raw_data)} bytes")
        array = np.frombuffer(tensor.raw_data, dtype=dtype)
    else:
        values = getattr(tensor, field)
        if len(values) != count:
            raise ModelError(f"tensor {name!r} claims shape {shape} and holds {len(values)} values")
        array = np.array(values, dtype=dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all() and count > 1:
        raise ModelError(f"tensor {name!r} has values that are not finite (NaN or infinity)")
    return array.reshape(shape)


def _layout(tensor: TensorProto) -> tuple[str, str]:
    if tensor.data_type not in DTYPES:
        known = tensor.data_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(tensor.data_type) if known else str(tensor.data_type)
        raise ModelError(f"tensor {clean(tensor.name)!r} has type {kind}; only float32 models are supported")
    return DTYPES[tensor.data_type]


def _claimed_shape(tensor: TensorProto, limits: LoadLimits) -> tuple[int, ...]:
    name, shape = clean(tensor.name), tuple(tensor.dims)
    if len(shape) > limits.max_rank:
        raise ModelError(f"tensor {name!r} has {len(shape)} axes; the limit is {limits.said('max_rank')}")
    if min(shape, default=0) < 0:
        raise ModelError(f"tensor {name!r} claims the negative shape {shape}")
    if max(math.prod(shape), *shape, 0) > limits.max_elements:  # an axis of length 0 makes a product of 0
        raise ModelError(
            f"tensor {name!r} of shape {shape} claims {math.prod(shape)} values; "
            f"the limit is {limits.said('max_elements')}, "
            "also for each axis"
        )
    return shape


def _inline(tensor: TensorProto, folder: Path, budget: int, limits: LoadLimits) -> int:
    """Replaces a reference to external data by the data; returns the number of bytes read."""
    name = clean(tensor.name)
    itemsize = np.dtype(_layout(tensor)[0]).itemsize
    wanted = math.prod(_claimed_shape(tensor, limits)) * itemsize
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(folder, entries.get("location", ""), name)
    offset, length = _count(entries.get("offset", "0"), name), _count(entries.get("length", str(wanted)), name)
    if length != wanted or wanted > budget:
        raise ModelError(
            f"tensor {name!r} needs {wanted} bytes of external data, claims {length}, {budget} are allowed"
        )
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(wanted)
    except OSError as error:
        raise ModelError(f"cannot read the external data of tensor {name!r}: {error.strerror}") from error
    if len(data) != wanted:
        raise ModelError(f"tensor {name!r} needs {wanted} bytes of external data; its file ends after {len(data)}")
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
    return wanted


def _inside(folder: Path, location: str, name: str) -> Path:
    """The file that `location` names, if it is a plain file that lies in `folder` after all links are followed."""
    plain = isinstance(location, str) and location.isprintable() and "\\" not in location and ":" not in location
    relative = PurePosixPath(location if plain else "/")
    if not location or relative.is_absolute() or ".." in relative.parts:
        raise ModelError(f"tensor {name!r} keeps its data at {clean(location)!r}, outside the model's folder")
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"tensor {name!r} keeps its data at {clean(location)!r}, a link out of the model's folder")
    if not path.is_file():
        raise ModelError(f"tensor {name!r}: there is no file {clean(location)!r} beside the model")
    return path


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ModelError(f"tensor {name!r} has an external offset or length that is no count: {clean(text)!r}")
    return int(text)


def _all_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    constants = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    return [*model.graph.initializer, *constants]


def _check_names(graph: onnx.GraphProto, limits: LoadLimits) -> None:
    names = [name for n in graph.node for name in (n.name, n.op_type, n.domain, *n.input, *n.output)]
    names += [item.name for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)]
    for name in (graph.name, *names):
        if not isinstance(name, str):  # protobuf hands out invalid text as bytes
            raise ModelError(f"the name {clean(name)!r} in the model is no valid text")
        if len(name) > limits.max_name_length:
            raise ModelError(
                f"a name in the model has {len(name)} characters; the limit is {limits.said('max_name_length')}"
            )
