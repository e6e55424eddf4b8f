"""Zip archives from strangers: what they claim is checked before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from paoding_verify.errors import InputError

__all__ = ["RATIO_FLOOR", "check_members"]

RATIO_FLOOR = 16 * 2**20
"""Bytes that an archive may unpack to whatever its ratio: constant images and zero weights compress a lot."""
MAX_MEMBERS = 100_000


def check_members(
    archive: zipfile.ZipFile, path: Path, *, max_bytes: int, max_ratio: float, error: type[InputError]
) -> dict[str, zipfile.ZipInfo]:
    """Members by name, after the archive's directory was found harmless: few, unique, not encrypted, stored or
    deflated, and no more than `max_bytes` once unpacked, nor `max_ratio` times the packed size (above RATIO_FLOOR).

    `zipfile` never unpacks more of a member than its directory claims, so that these checks hold for what is read.
    Raises: `error` that names the archive and the member.
    """
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise error(f"{path.name} holds {len(infos)} members; at most {MAX_MEMBERS} are read")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in members:
            raise error(f"{path.name} holds the member {info.filename[:80]!r} twice")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise error(f"{path.name}: the member {info.filename[:80]!r} is encrypted or packed by an unusual method")
        members[info.filename] = info
    unpacked = sum(info.file_size for info in infos)
    packed = max(1, min(sum(info.compress_size for info in infos), path.stat().st_size))
    if unpacked > max_bytes:
        raise error(
            f"{path.name} unpacks to {unpacked} bytes; the limit is {max_bytes}: raise it if you trust the file"
        )
    if unpacked > RATIO_FLOOR and unpacked > max_ratio * packed:
        raise error(
            f"{path.name} unpacks from {packed} to {unpacked} bytes, more than {max_ratio:g} times its size: "
            "raise the ratio limit if you trust the file"
        )
    return members
