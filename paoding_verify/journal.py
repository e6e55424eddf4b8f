r"""A file of finished parts, from which an interrupted run goes on: `Memo` in an append-only file.

Every record is on the disk before the work goes on. Whatever ends a run - an interruption, a kill, a power cut, a full
disk - costs at most the record that was being written: a torn or damaged end is cut off. A journal belongs to one run:
its first record names everything that the results depend on, and each record's digest covers all records before it, so
that none can be moved, left out or taken from another journal unnoticed. One process at a time has it.

    paoding_verify journal 1\n
    <bytes of the payload> <hex SHA-256 of the previous digest and the payload>\n<payload>\n      again and again
    payload: JSON {"key", "value", "arrays"}\n, then the arrays' elements, little-endian, one after another

A journal is read by whoever goes on, so it must be a plain file that the user owns and nobody else can write. Sizes are
checked before anything is allocated, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import JournalError
from paoding_verify.memo import Record

__all__ = ["Journal", "kept_in"]

MAGIC = b"paoding_verify journal 1\n"
MAX_RECORD_BYTES = 1 << 28
"""A longer record is neither written (the work it stands for would be repeated) nor read."""
_HEADER = re.compile(rb"(\d{1,15}) ([0-9a-f]{64})\n")
_MAX_HEADER = 15 + 1 + 64 + 1
_DTYPES = ("<f4", "<f8", "<i8", "|u1", "|b1")
_ARRAY = "#"
"""The one key of what stands for an array in a value; its number is the value."""
IDENTITY = "identity"


@dataclass(frozen=True)
class _Place:
    """Where a payload stands in the file."""

    offset: int
    length: int


class Journal:
    """Finished parts of one run; a `memo.Memo`. Made by `kept_in`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Reads what is whole in the file and cuts off the rest. Raises: JournalError if it is no journal."""
        self.path = path
        self._descriptor = descriptor
        self._places: dict[str, _Place] = {}
        self._end, self._digest = 0, ""
        self._scan()
        os.ftruncate(descriptor, self._end)

    def __len__(self) -> int:
        """Finished parts."""
        return len(self._places) - (IDENTITY in self._places)

    def recall(self, key: str) -> Record | None:
        """The record stored last under this key; None: there is none. Raises: JournalError if it is malformed."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            return _decode(os.pread(self._descriptor, place.length, place.offset))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise JournalError(f"{self.path} is damaged: {str(error)[:120]}; remove it and begin anew") from error

    def store(self, key: str, record: Record) -> None:
        """Appends the record; it is on the disk when this returns. Raises: JournalError if it cannot be written."""
        payload = _encode(key, record)
        if len(payload) > MAX_RECORD_BYTES:
            return
        digest = _chained(self._digest, payload)
        start = self._end or len(MAGIC)
        header = b"%d %s\n" % (len(payload), digest.encode())
        try:
            self._append(b"".join([b"" if self._end else MAGIC, header, payload, b"\n"]))
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            raise JournalError(
                f"cannot write {self.path}: {error.strerror}; what was finished before is kept in it: make room, then "
                "run the same command with --resume"
            ) from error
        self._places[key] = _Place(start + len(header), len(payload))
        self._end, self._digest = start + len(header) + len(payload) + 1, digest

    def begin(self, identity: Mapping[str, str]) -> None:
        """Forgets everything; the file belongs to this run from now on."""
        os.ftruncate(self._descriptor, 0)
        self._places, self._end, self._digest = {}, 0, ""
        self.store(IDENTITY, identity)

    def differences(self, identity: Mapping[str, str]) -> list[str]:
        """What is not as in the run to which the file belongs, by name, sorted."""
        mine = self.recall(IDENTITY) or {}
        return sorted(name for name in {*mine, *identity} if mine.get(name) != identity.get(name))

    def _append(self, frame: bytes) -> None:
        written = 0
        while written < len(frame):
            written += os.pwrite(self._descriptor, frame[written:], self._end + written)
        os.fsync(self._descriptor)

    def _scan(self) -> None:
        size = os.fstat(self._descriptor).st_size
        start = os.pread(self._descriptor, len(MAGIC), 0)
        if start != MAGIC:
            if MAGIC.startswith(start):  # cut short while it was made
                return
            raise JournalError(f"{self.path} is no journal of this version: remove it, or name another output")
        end, digest = len(MAGIC), ""
        while header := _HEADER.match(os.pread(self._descriptor, _MAX_HEADER, end)):
            offset, length = end + len(header[0]), int(header[1])
            if length > min(MAX_RECORD_BYTES, size - offset - 1):
                break
            payload = os.pread(self._descriptor, length + 1, offset)
            if payload[length:] != b"\n" or _chained(digest, payload[:length]) != header[2].decode():
                break
            self._places[_key(self.path, payload)] = _Place(offset, length)
            digest, end = header[2].decode(), offset + length + 1
        if digest:
            self._end, self._digest = end, digest


@contextmanager
def kept_in(path: Path, identity: Mapping[str, str], *, resume: bool, anew: bool = False) -> Iterator[Journal]:
    """The journal at `path` for a run, which holds it alone; gone after the run, and kept if the run ended by an
    exception after the first finished part.

    `identity` names everything that the results depend on, with digests or values. With `resume` the run goes on where
    the file stands, if there is one; else a file with finished parts is refused, unless everything is to begin `anew`.
    Raises: JournalError if another process has the file, if it belongs to another run or is no journal, if it cannot be
    written, or if an interrupted run would be lost.
    """
    with _locked(path) as descriptor:
        journal = Journal(path, descriptor)
        going_on = resume and len(journal) > 0
        if going_on and (odd := journal.differences(identity)):
            raise JournalError(
                f"{path} belongs to another run, with other {', '.join(odd)}: run the command it belongs to, or "
                "begin anew with --force and without --resume"
            )
        if len(journal) and not (resume or anew):
            raise JournalError(
                f"{path} holds {len(journal)} finished parts of an interrupted run: go on with --resume, or begin anew "
                "with --force"
            )
        try:
            if not going_on:
                journal.begin(identity)
                _sync_folder(path.parent)
            yield journal
        except BaseException:
            if not len(journal):
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor of the file, made if need be, open for this process alone."""
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise JournalError(f"cannot open the journal {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise JournalError(
                f"{path} is no plain file, and the journal of this run belongs there: name another output"
            )
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise JournalError(
                f"{path} belongs to another user, or others can write it, so that it cannot be trusted: remove it"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"another process is working on {path.stem}: wait for it, or name another output"
            ) from None
        if not path.exists() or not os.path.samestat(status, path.stat()):
            raise JournalError(f"another process has just finished with {path}: look at its output, then run again")
        yield descriptor
    finally:
        os.close(descriptor)


def _chained(previous: str, payload: bytes) -> str:
    return hashlib.sha256(previous.encode() + payload).hexdigest()


def _encode(key: str, record: Record) -> bytes:
    arrays: list[npt.NDArray[Any]] = []
    value = _plain(record, arrays)
    head = {"key": key, "value": value, "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}
    return b"".join([json.dumps(head).encode(), b"\n", *(a.tobytes() for a in arrays)])


def _plain(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """The value with numbers for its arrays, which are appended to `arrays`."""
    if isinstance(value, np.ndarray):
        if value.dtype.str not in _DTYPES:
            raise TypeError(f"arrays of {value.dtype} are not kept")
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping):
        if _ARRAY in value:
            raise TypeError(f"the key {_ARRAY!r} stands for arrays")
        return {key: _plain(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, arrays) for item in value]
    return value


def _head(payload: bytes) -> dict[str, Any]:
    """The JSON line of a payload. Raises: ValueError."""
    head = json.loads(payload[: payload.index(b"\n")])
    if not isinstance(head, dict) or set(head) != {"key", "value", "arrays"} or not isinstance(head["key"], str):
        raise ValueError("a record is not made of key, value and arrays")
    return head


def _key(path: Path, payload: bytes) -> str:
    """The key of a record. Raises: JournalError if the payload has none, although its digest fits."""
    try:
        return str(_head(payload)["key"])
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path} is damaged: {str(error)[:120]}; remove it and begin anew") from error


def _decode(payload: bytes) -> Record:
    """Raises: ValueError, TypeError, KeyError or RecursionError on anything that `_encode` does not write."""
    head, offset = _head(payload), payload.index(b"\n") + 1
    arrays = []
    for dtype, shape in head["arrays"]:
        if dtype not in _DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"no array has the type {str(dtype)[:20]} and the shape {str(shape)[:40]}")
        size = prod(shape) * np.dtype(dtype).itemsize
        if size > len(payload) - offset:
            raise ValueError(f"an array of shape {shape} is larger than its record")
        arrays.append(np.frombuffer(payload[offset : offset + size], dtype).reshape(shape))
        offset += size
    if offset != len(payload) or not isinstance(head["value"], dict):
        raise ValueError("a record has bytes that belong to no array, or is no mapping")
    filled: Record = _filled(head["value"], arrays)
    return filled


def _filled(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            number = value[_ARRAY]
            if type(number) is not int or not 0 <= number < len(arrays):
                raise ValueError("a record names an array that it does not hold")
            return arrays[number]
        return {key: _filled(item, arrays) for key, item in value.items()}
    return [_filled(item, arrays) for item in value] if isinstance(value, list) else value


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
