"""-o of certify and compare: a JSON file, or a whole bundle."""

from __future__ import annotations

from pathlib import Path

from paoding_verify.auditing.bundle import refuse_occupied, write
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.result import AuditResult

__all__ = ["prepare", "store"]


def prepare(path: Path | None) -> None:
    """Finds out before the work starts that the result cannot be written. Raises: ConfigError."""
    if path is None:
        return
    if path.suffix != ".json":
        refuse_occupied(path)
    elif not path.parent.is_dir() or path.is_dir():
        raise ConfigError(f"cannot write the file {path}: its folder does not exist, or it is a folder itself")


def store(result: AuditResult, path: Path | None) -> Path | None:
    """Writes FILE.json, or a bundle folder for any other name. Returns what was written."""
    from paoding_verify.cli.summary import result_json

    if path is None:
        return None
    if path.suffix != ".json":
        return write(result, path)
    path.write_text(result_json(result), encoding="utf-8")
    return path
