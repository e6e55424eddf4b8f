"""-o of certify and compare: a JSON file, or a whole bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from paoding_verify.auditing.bundle import refuse_occupied, write
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.result import AuditResult

__all__ = ["prepare", "store", "write_whole"]


def prepare(path: Path | None) -> None:
    """Finds out before the work starts that the result cannot be written. Raises: ConfigError."""
    if path is None:
        return
    if path.suffix != ".json":
        refuse_occupied(path)
    elif not path.parent.is_dir() or path.is_dir():
        raise ConfigError(f"cannot write the file {path}: its folder does not exist, or it is a folder itself")


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Writes files so that each appears whole or not at all, whatever interrupts the writing."""
    drafts = {path.with_name(f".{path.name}.{os.getpid()}.part"): path for path in files}
    try:
        for draft, path in drafts.items():
            draft.write_bytes(files[path])
        for draft, path in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def store(result: AuditResult, path: Path | None) -> Path | None:
    """Writes FILE.json, or a bundle folder for any other name. Returns what was written."""
    from paoding_verify.cli.summary import result_json

    if path is None:
        return None
    if path.suffix != ".json":
        return write(result, path)
    path.write_text(result_json(result), encoding="utf-8")
    return path
