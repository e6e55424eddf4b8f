"""The files of a bundle, read without trusting any of them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from paoding_verify.checker.zipped import archived
from paoding_verify.errors import DataError
from paoding_verify.evidence.codec import unique_keys
from paoding_verify.evidence.members import BOXES, MANIFEST, SIGNATURE
from paoding_verify.evidence.result import SCHEMA_VERSION
from paoding_verify.network.graph import Array, Shape

__all__ = ["read_boxes", "read_members"]

MAX_MEMBER_BYTES = 1 << 31
"""Largest file of a bundle that is read, and most that an archive may unpack to."""

Reader = Callable[[], bytes]


def read_members(place: Path, problems: list[str]) -> dict[str, bytes]:
    """Every file that the manifest names and that has the digest and size it states; what differs becomes a problem.

    place: a folder, or a ZIP archive of one. Links are never followed; files that the manifest does not name are
    problems, but for a signature, and so are names that leave the folder.
    Raises: DataError if the place or its manifest cannot be read at all.
    """
    if place.is_dir():
        present = _folder(place, problems)
    elif place.is_file():
        present = archived(place, problems, MAX_MEMBER_BYTES)
    else:
        raise DataError(f"{place} is no folder and no archive: give what an audit wrote, or a ZIP file of it")
    if MANIFEST not in present:
        raise DataError(f"{place} has no {MANIFEST}: it is no bundle, or not all of one")
    listed = _manifest(present[MANIFEST]())
    own = {MANIFEST, SIGNATURE}
    problems += [f"{name[:80]}: not named in the manifest" for name in sorted(present.keys() - listed.keys() - own)]
    found = {}
    for name, entry in listed.items():
        data = present[name]() if name in present and name not in own else None
        if data is None:
            problems.append(f"{name[:80]}: named in the manifest, but not in the bundle")
        elif hashlib.sha256(data).hexdigest() != entry.get("sha256") or len(data) != entry.get("bytes"):
            problems.append(f"{name}: its SHA-256 digest or size is not the one in the manifest")
        else:
            found[name] = data
    if SIGNATURE in present:
        found[SIGNATURE] = present[SIGNATURE]()
    return found


def _folder(folder: Path, problems: list[str]) -> dict[str, Reader]:
    """Regular files below a folder, by their names with forward slashes."""
    found = {}
    for place, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                problems.append(f"{relative}: a link, which a bundle never holds")
            elif path.is_file() and path.stat().st_size <= MAX_MEMBER_BYTES:
                found[relative] = path.read_bytes
            elif not path.is_dir():
                problems.append(f"{relative}: not a regular file, or too large")
    return found


def _manifest(data: bytes) -> dict[str, dict[str, Any]]:
    try:
        plain = json.loads(data, object_pairs_hook=unique_keys)
        members = plain["members"]
        if set(plain) != {"schema_version", "members"} or plain["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it is not of version {SCHEMA_VERSION}")
        if not all(isinstance(entry, dict) and set(entry) == {"sha256", "bytes"} for entry in members.values()):
            raise TypeError("an entry is not a digest and a size")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{MANIFEST} is damaged: {error}") from error
    return dict(members)


def read_boxes(data: bytes, count: int, shape: Shape) -> tuple[Array, Array, Array]:
    """Lower, upper and anchors (count, *shape) as float64. Nothing is unpacked that has not the size it must have.

    Raises: DataError if an array is missing or is not what it must be.
    """
    wanted = {"lower": "<f8", "upper": "<f8", "anchor": "<f4"}
    arrays = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for key, dtype in wanted.items():
                info = archive.getinfo(f"{key}.npy")
                body = count * prod(shape) * np.dtype(dtype).itemsize
                if not body <= info.file_size <= body + 4096:
                    raise DataError(f"{BOXES}: {key} is not of shape {(count, *shape)}")
                array = np.load(io.BytesIO(archive.read(info)), allow_pickle=False)
                if array.dtype != np.dtype(dtype) or array.shape != (count, *shape):
                    raise DataError(f"{BOXES}: {key} is not of shape {(count, *shape)} and type {dtype}")
                arrays.append(array.astype(np.float64))
    except (KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{BOXES} is damaged: {str(error)[:120]}") from error
    return _triple(arrays)


def _triple(arrays: Sequence[Array]) -> tuple[Array, Array, Array]:
    lower, upper, anchor = arrays
    return lower, upper, anchor
