"""A bundle in a ZIP archive, read so that every other program that unpacks the archive sees the same files.

A ZIP archive states its members twice, in front of each and in a directory at its end, and may hold bytes that neither
mentions. Programs differ in what they believe. Here both must agree, and together leave no byte of the archive over;
what is packed must end where its size says. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.6 to 4.3.16.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from paoding_verify.errors import DataError

__all__ = ["archived"]

HEADER = struct.Struct("<4sHHHHHLLLHH")
"""Signature, version, flags, method, time, date, CRC-32, packed size, size, length of name, length of extra field."""
END = 22
"""Bytes of the record that ends an archive without a comment."""
ENCRYPTED, DESCRIBED, UTF8 = 0x1, 0x8, 0x800
"""Flags: sizes follow the data; the name is in UTF-8."""
DESCRIPTORS = (12, 16, 20, 24)
"""Bytes that sizes may take behind the data."""
IN_EXTRA = 0xFFFFFFFF
"""Stands for a size that the extra field holds."""


def archived(path: Path, problems: list[str], max_bytes: int) -> dict[str, Callable[[], bytes]]:
    """The files in an archive of a bundle, or of the one folder that holds it, by name; what is odd is a problem.

    Raises: DataError if it is no archive, or unpacks to more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            infos = archive.infolist()
            starts: dict[int, int] = {}
            problems += _layout(file, archive, starts)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        raise DataError(f"{path} is no ZIP archive that can be read: {error}") from error
    if sum(info.file_size for info in infos) > max_bytes:
        raise DataError(f"{path} would unpack to more than {max_bytes >> 20} MiB")
    files = [info for info in infos if not info.is_dir()]
    inside = _top(files)
    found: dict[str, Callable[[], bytes]] = {}
    for info in infos:
        name, kind = info.filename.removeprefix(inside), stat.S_IFMT(info.external_attr >> 16)
        if name in found:
            problems.append(f"{name[:80]}: twice in the archive")
        elif kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG) or info.filename != info.orig_filename:
            problems.append(f"{name[:80]}: a link, or no regular file, which a bundle never holds")
        elif not info.is_dir():
            found[name] = partial(_unpacked, path, info, starts[info.header_offset])
        elif info.file_size:
            problems.append(f"{name[:80]}: a folder with content of its own")
    return found


def _top(files: list[zipfile.ZipInfo]) -> str:
    """The one folder that holds all files, with a slash; empty if there is none, or its name leads elsewhere."""
    tops = {info.filename.partition("/")[0] for info in files if "/" in info.filename}
    if len(tops) != 1 or not all("/" in info.filename for info in files):
        return ""
    top = tops.pop()
    return "" if top in ("", ".", "..") or set(top) & set(":\\") else top + "/"


def _layout(file: BinaryIO, archive: zipfile.ZipFile, starts: dict[int, int]) -> Iterator[str]:
    """Where the two accounts of an archive differ, or leave bytes over; `starts`: header -> where its data starts."""
    file.seek(-END, 2)
    if archive.comment or file.read(4) != b"PK\x05\x06":
        yield "the archive goes on behind its directory"
    place = 0
    gaps: tuple[int, ...] = (0,)
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        file.seek(info.header_offset)
        _, _, flags, method, _, _, checksum, packed, size, length, extra = HEADER.unpack(file.read(HEADER.size))
        name = file.read(length).decode("utf-8" if flags & UTF8 else "cp437", "replace")
        stated = (name, method, flags & ENCRYPTED, *(() if flags & DESCRIBED else (checksum, packed, size)))
        listed = (info.orig_filename, info.compress_type, 0, info.CRC, info.compress_size, info.file_size)
        if any(a not in (b, IN_EXTRA) for a, b in zip(stated, listed, strict=False)):
            yield f"{info.filename[:80]}: the archive says two things of it, or it is encrypted"
        if info.header_offset - place not in gaps:
            yield f"{info.filename[:80]}: the archive holds unnamed bytes in front of it"
        starts[info.header_offset] = info.header_offset + HEADER.size + length + extra
        place, gaps = starts[info.header_offset] + info.compress_size, DESCRIPTORS if flags & DESCRIBED else (0,)
    if archive.start_dir - place not in gaps:
        yield "the archive holds unnamed bytes in front of its directory"


def _unpacked(path: Path, info: zipfile.ZipInfo, start: int) -> bytes:
    """A member, all of it and nothing else; empty if that cannot be."""
    with path.open("rb") as file:
        file.seek(start)
        data, ended = file.read(info.compress_size), info.compress_type == zipfile.ZIP_STORED
    if info.compress_type == zipfile.ZIP_DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = stream.decompress(data, info.file_size + 1)
        except zlib.error:
            return b""
        ended = stream.eof and not stream.unused_data
    return data if ended and len(data) == info.file_size and zlib.crc32(data) == info.CRC else b""
