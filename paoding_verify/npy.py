"""Numpy files from strangers: headers are read and sizes checked before an array is unpacked; no pickles."""

from __future__ import annotations

import ast
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import DataError
from paoding_verify.limits import DataLimits
from paoding_verify.network.archive import check_members

__all__ = ["DataLimits", "read_arrays"]

MAX_HEADER_BYTES = 10_000
"""Longest header that is parsed; numpy writes about 120 bytes."""


def read_arrays(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], limits: DataLimits
) -> dict[str, npt.NDArray[Any]]:
    """The chosen arrays of an .npz by key, or of an .npy under the key "x"; real numbers only.

    `choose` is called with all keys of the file; arrays that it leaves out are not looked at.
    Raises: DataError if the file is no such file, claims too much, or a chosen array is none of real numbers.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _read_npz(path, choose, limits)
            file.seek(0)
            size = path.stat().st_size
            return {key: _read_npy(file, size, path.name, limits) for key in choose(["x"])}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise DataError(f"{path.name} is a damaged .npz file: {str(error)[:120]}") from error


def _read_npz(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], limits: DataLimits
) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = check_members(
            archive, path, max_bytes=limits.max_data_bytes, max_ratio=limits.max_data_ratio, error=DataError
        )
        for key in choose([name.removesuffix(".npy") for name in members if name.endswith(".npy")]):
            info = members[f"{key}.npy"]
            with archive.open(info) as file:
                arrays[key] = _read_npy(file, info.file_size, f"{path.name}, key {key[:80]!r}", limits)
    return arrays


def _read_npy(file: IO[bytes], num_bytes: int, where: str, limits: DataLimits) -> npt.NDArray[Any]:
    shape, fortran_order, dtype = _read_header(file, where)
    size = prod(shape) * dtype.itemsize
    if size > limits.max_data_bytes:
        raise DataError(f"{where}: it claims {size} bytes; the limit is {limits.said('max_data_bytes')}")
    if file.tell() + size != num_bytes:
        raise DataError(f"{where}: shape {shape} needs {size} bytes of data, the file holds {num_bytes - file.tell()}")
    content = file.read(size)
    if len(content) != size:
        raise DataError(f"{where}: it ends early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Format 1.0 only: numpy writes the later ones for structured arrays alone."""
    start = file.read(10)
    if len(start) < 10 or start[:6] != b"\x93NUMPY":
        raise DataError(f"{where}: this is no .npy or .npz file")
    (length,) = struct.unpack("<H", start[8:])
    if start[6:8] != b"\x01\x00" or length > MAX_HEADER_BYTES:
        raise DataError(f"{where}: only plain arrays in numpy's format 1.0 are read; save it again with numpy.savez")
    try:
        header = ast.literal_eval(file.read(length).decode("latin1"))
        shape, order, descr = header["shape"], header["fortran_order"], header["descr"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise DataError(f"{where}: its header is damaged") from None
    if descr == "|O":
        raise DataError(f"{where}: it holds Python objects, which are never unpickled; store plain numbers")
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|](f2|f4|f8|[iu][1248]|b1)", descr):
        raise DataError(f"{where}: its type {str(descr)[:40]!r} is no real number of 8 to 64 bits")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise DataError(f"{where}: its shape {str(shape)[:80]} is not made of natural numbers")
    return shape, bool(order), np.dtype(descr)
