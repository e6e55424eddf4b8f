"""Plain data to JSON and back, driven by the types of the dataclasses alone.

Reading is strict, because files come from strangers: every field must be there with its declared type, nothing else
may be there, and numbers are finite. NaN and infinity are never written: a bound that is not finite is None. A class
may name properties in `DERIVED`: they are written in front of the fields, and a file must state what
follows from these. A class may set `OMITS_DEFAULTS`: fields that have their default value are left out, always.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
import types
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from paoding_verify.errors import DataError
from paoding_verify.evidence.certificate import NO_HINT, Split
from paoding_verify.evidence.splits import from_lists, to_lists

__all__ = ["derived_names", "dumps", "from_plain", "loads", "plain_names", "to_plain", "unique_keys"]

T = TypeVar("T")

_SCALARS = frozenset({str, int, float, bool, type(None)})
MAX_ENTRIES = 1 << 31
"""Entries of all tables of one file: few bytes may describe a large table."""
_ROOM = ContextVar("_ROOM", default=MAX_ENTRIES)
"""What is left of them in the file that is being read."""
_SPLIT_FIELDS = ("dimensions", "thresholds")
"""Of the plain form of a tree of bisections."""


def dumps(value: Any, *, indent: int | None = 2) -> str:
    """Deterministic JSON text: declared field order, two-space indent or none, trailing newline. Raises: DataError on
    NaN or infinity.
    """
    separators = None if indent else (",", ":")
    try:
        plain = to_plain(value)
        text = json.dumps(plain, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"a result holds a number that is not finite: {error}") from error
    # Lone surrogates (file names that are no UTF-8) become JSON escapes, so that the text can always be written.
    return text.encode("utf-8", "backslashreplace").decode()


def loads(cls: type[T], text: str | bytes, what: str) -> T:
    """Reads JSON into a dataclass. Raises: DataError naming `what` and the place that does not fit."""
    try:
        plain = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not valid JSON: {error}") from error
    token = _ROOM.set(MAX_ENTRIES)
    try:
        result: T = from_plain(cls, plain, what)
    finally:
        _ROOM.reset(token)
    return result


@cache
def _written_names(cls: type) -> tuple[str, ...]:
    return (*derived_names(cls), *plain_names(cls))


def plain_names(cls: type) -> tuple[str, ...]:
    """Fields of a dataclass that are written, in declared order."""
    return tuple(item.name for item in fields(cls) if item.metadata.get("plain", True))


def derived_names(cls: type) -> tuple[str, ...]:
    """Properties of a dataclass that are written although they follow from its fields."""
    found: tuple[str, ...] = getattr(cls, "DERIVED", ())
    return found


@cache
def _left_out(cls: type) -> list[tuple[str, Any]]:
    """Names and plain default values of the fields that are not written when they have them."""
    if not getattr(cls, "OMITS_DEFAULTS", False):
        return []
    made = ((item.name, item.default_factory()) for item in fields(cls) if item.default_factory is not MISSING)
    given = ((item.name, item.default) for item in fields(cls) if item.default is not MISSING)
    return [(name, to_plain(default)) for name, default in (*made, *given)]


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples, mappings, enums and arrays as dicts, lists, strings and numbers; fields marked
    `metadata={"plain": False}` are left out.
    """
    if type(value) in _SCALARS:  # most values are
        return value
    if isinstance(value, Split):
        return dict(zip(_SPLIT_FIELDS, to_lists(value), strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        plain = {name: to_plain(getattr(value, name)) for name in _written_names(type(value))}
        return {name: item for name, item in plain.items() if (name, item) not in _left_out(type(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _array_text(value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def from_plain(cls: Any, plain: Any, where: str) -> Any:
    """The inverse of `to_plain` for a declared type. Raises: DataError naming the place that does not fit."""
    if cls is Split:
        return _split(plain, where)
    if is_dataclass(cls):
        return _dataclass(cls, plain, where)
    origin, args = get_origin(cls), get_args(cls)
    if origin in (Union, types.UnionType):
        return _union(args, plain, where)
    if origin is tuple:
        return _tuple(args, plain, where)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(args, plain, where)
    if origin is np.ndarray:
        return _array(plain, where)
    if isinstance(cls, type) and issubclass(cls, Enum):
        if plain not in [member.value for member in cls]:
            raise DataError(f"{where}: {str(plain)[:40]!r} is none of {[m.value for m in cls]}")
        return cls(plain)
    if cls is float and type(plain) in (int, float):
        return float(plain) if abs(plain) <= sys.float_info.max else _misfit(where, "a finite number", plain)
    if cls in (int, bool, str) and type(plain) is cls:
        return plain
    return _misfit(where, getattr(cls, "__name__", str(cls)), plain)


def _dataclass(cls: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        _misfit(where, "an object", plain)
    hints, names, derived, omitted = _hints(cls), plain_names(cls), derived_names(cls), _left_out(cls)
    odd = sorted((set(plain) ^ {*names, *derived}) - {name for name, _ in omitted if name not in plain})
    if odd:
        raise DataError(f"{where}: these fields are missing or unknown: {', '.join(odd)[:200]}")
    value = cls(**{n: from_plain(hints[n], plain[n], f"{where}.{n}") for n in names if n in plain})
    for name, default in omitted:
        if name in plain and to_plain(getattr(value, name)) == default:
            raise DataError(f"{where}.{name}: it has its default value, which is never written")
    for name in derived:
        true = to_plain(getattr(value, name))
        if plain[name] != true:
            raise DataError(f"{where}.{name}: it says {str(plain[name])[:80]}, from the rest follows {true}")
    return value


def _split(plain: Any, where: str) -> Any:
    """A tree of bisections, from flat lists: nested objects could be deeper than Python calls may nest."""
    if not isinstance(plain, dict) or set(plain) != set(_SPLIT_FIELDS):
        _misfit(where, "a tree (dimensions, thresholds)", plain)
    dimensions = from_plain(tuple[int, ...], plain["dimensions"], f"{where}.dimensions")
    thresholds = from_plain(tuple[float, ...], plain["thresholds"], f"{where}.thresholds")
    try:
        return from_lists(dimensions, thresholds)
    except ValueError as error:
        raise DataError(f"{where}: no tree of bisections, {error}") from error


def _union(args: tuple[Any, ...], plain: Any, where: str) -> Any:
    if plain is None and type(None) in args:
        return None
    options = [arg for arg in args if arg is not type(None)]
    for option in options[:-1]:
        try:
            return from_plain(option, plain, where)
        except DataError:
            continue
    return from_plain(options[-1], plain, where)


def _tuple(args: tuple[Any, ...], plain: Any, where: str) -> Any:
    if not isinstance(plain, list):
        _misfit(where, "a list", plain)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(from_plain(args[0], item, f"{where}[{k}]") for k, item in enumerate(plain))
    if len(plain) != len(args):
        _misfit(where, f"a list of {len(args)}", plain)
    return tuple(from_plain(arg, item, f"{where}[{k}]") for k, (arg, item) in enumerate(zip(args, plain, strict=True)))


def _mapping(args: tuple[Any, ...], plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        _misfit(where, "an object", plain)
    result = {}
    for key, item in plain.items():
        result[_unkey(args[0], key, where)] = from_plain(args[1], item, f"{where}[{key[:40]!r}]")
    return result


def _array_text(array: np.ndarray[Any, Any]) -> str:
    """Rows and columns, then in base64 which of them hold anything but NO_HINT, and what they hold: tables of hints are
    sparse. An axis has one bit for every entry, or ("@") the numbers of those that are used, if these are shorter.
    """
    if array.dtype != np.uint8 or array.ndim != 2:
        raise TypeError(f"only tables of bytes have a plain form, not {array.dtype} of shape {array.shape}")
    used = [(array != NO_HINT).any(axis=axis) for axis in (1, 0)]
    sizes, marks = zip(*map(_axis, used), strict=True)
    data = b"".join((*marks, array[used[0]][:, used[1]].tobytes()))
    return f"{'x'.join(sizes)}:{base64.b64encode(data).decode()}"


def _axis(used: np.ndarray[Any, Any]) -> tuple[str, bytes]:
    """The size of an axis, and which entries are used."""
    bits, numbers = np.packbits(used), np.flatnonzero(used).astype(_number_type(len(used)))
    if numbers.nbytes + 2 < bits.nbytes:
        return f"{len(used)}@{len(numbers)}", numbers.tobytes()
    return str(len(used)), bits.tobytes()


def _number_type(count: int) -> np.dtype[Any]:
    """The shortest little-endian type for numbers below `count`."""
    return np.min_scalar_type(max(count - 1, 0)).newbyteorder("<")


def _array(plain: Any, where: str) -> Any:
    """The inverse of `_array_text`, of whose texts alone it reads any."""
    size = "([0-9]{1,8})(?:@([0-9]{1,8}))?"
    match = re.fullmatch(f"{size}x{size}:([A-Za-z0-9+/=]*)", plain) if isinstance(plain, str) else None
    if match is None:
        return _misfit(where, "a table (ROWSxCOLUMNS:base64)", plain)
    try:
        data = np.frombuffer(base64.b64decode(match[5], validate=True), dtype=np.uint8)
    except ValueError as error:
        raise DataError(f"{where}: invalid base64 ({error})") from error
    shape = int(match[1]), int(match[3])
    room = _ROOM.get() - math.prod(shape)
    used = []
    for count, few in zip(shape, (match[2], match[4]), strict=True):
        kind = _number_type(count)
        length = (count + 7) // 8 if few is None else int(few) * kind.itemsize
        if room < 0 or length > len(data):
            raise DataError(f"{where}: it does not describe a table of shape {shape}, or tables are too large")
        marks, data = data[:length], data[length:]
        bits = np.unpackbits(marks, count=count) if few is None else None
        used.append(marks.view(kind).astype(np.intp) if bits is None else np.flatnonzero(bits))
    _ROOM.set(room)
    table = np.full(shape, NO_HINT, dtype=np.uint8)
    if len(data) == len(used[0]) * len(used[1]) and all((u < n).all() for u, n in zip(used, shape, strict=True)):
        table[np.ix_(*used)] = data.reshape(len(used[0]), len(used[1]))
    if _array_text(table) != plain:
        raise DataError(f"{where}: its bytes do not fill a table of shape {shape} in the way they are written")
    return table


def _key(key: Any) -> str:
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _unkey(cls: Any, key: str, where: str) -> Any:
    if cls is str:
        return key
    parts = key.split(",")
    if not all(re.fullmatch("0|[1-9][0-9]{0,8}", part) for part in parts) or len(parts) != len(get_args(cls)):
        raise DataError(f"{where}: {key[:40]!r} is no pair of numbers")
    return tuple(int(part) for part in parts)


def _misfit(where: str, wanted: str, plain: Any) -> Any:
    raise DataError(f"{where}: expected {wanted}, got {type(plain).__name__} {str(plain)[:40]!r}")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these members, for json.loads. Raises: ValueError if a key occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not allowed")


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)
