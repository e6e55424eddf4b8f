"""Writes a result as a folder: report, machine-readable twins, and everything the checker needs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.members import MANIFEST, RESULT, TIMINGS
from paoding_verify.evidence.result import SCHEMA_VERSION, AuditResult

__all__ = ["refuse_occupied", "write"]


def write(result: AuditResult, folder: str | Path) -> Path:
    """The bundle stands complete in `folder`, or nothing does. Returns the folder.

    Everything but timings.json is a function of the result without its timings. The folder appears by one rename.
    Raises: ConfigError if the folder exists and is not empty, or cannot be written.
    """
    target = Path(folder)
    refuse_occupied(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"cannot write into {target.parent}: {error}") from error
    try:
        _fill(draft, _members(result))
        os.replace(draft, target)
        _sync_folder(target.parent)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise ConfigError(f"cannot write the bundle {target}: {error}") from error
        raise
    return target


def refuse_occupied(target: Path) -> None:
    """Raises: ConfigError if something is there that a bundle would overwrite."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(
            f"{target} exists and is not empty: name another folder or remove it; nothing was overwritten"
        )


def _members(result: AuditResult) -> dict[str, bytes]:
    """Every file of the bundle; the manifest, which names all others with digest and size, comes last."""
    from paoding_verify.report.render import audit_json, render_all, timings_json

    members = dict(result.files)
    times = timings_json(result)
    result = loads(AuditResult, audit_json(result), "the result")  # as its readers see it: 1 becomes 1.0
    texts = {**render_all(result), RESULT: audit_json(result), TIMINGS: times}
    members |= {name: text.encode() for name, text in texts.items()}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "members": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in sorted(members.items())
        },
    }
    members[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    return members


def _fill(draft: Path, members: Mapping[str, bytes]) -> None:
    for name, data in members.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    draft.chmod(0o777 & ~mask)  # mkdtemp makes folders that only their owner can read


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, where the system lets folders be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
