"""Writes a result as a folder: report, machine-readable twins, and everything the checker needs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from paoding_verify.auditing.components import component_list
from paoding_verify.errors import ConfigError, EngineError
from paoding_verify.evidence.codec import loads
from paoding_verify.evidence.members import COMPONENTS, MANIFEST, RESULT, TIMINGS
from paoding_verify.evidence.result import SCHEMA_VERSION, AuditResult

__all__ = ["Draft", "refuse_occupied", "reserved", "write"]


def write(result: AuditResult, folder: str | Path) -> Path:
    """The bundle stands complete in `folder`, or nothing does. Returns the folder.

    Everything but timings.json is a function of the result without its timings, and of what is installed. The folder
    appears by one rename.
    Raises: ConfigError if the folder exists and is not empty, or cannot be written.
    """
    with reserved(folder) as draft:
        return draft.publish(result)


@dataclass(frozen=True)
class Draft:
    """A place that was found writable before the work that fills it."""

    target: Path
    """Where the bundle will stand; absolute."""

    def publish(self, result: AuditResult) -> Path:
        """Writes the bundle and moves it to its place. Returns that place. What killed runs left of the same bundle,
        unfinished, is removed.

        Raises: ConfigError if it cannot be written; EngineError if it cannot be moved: it then stands complete in a
        hidden folder beside, which the message names.
        """
        prefix = f".{self.target.name}.draft-"
        _sweep(self.target.parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.target.parent))
        try:
            with _held(folder):
                _fill(folder, _members(result))
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise ConfigError(f"cannot write the bundle {self.target}: {error}") from error
            raise
        try:
            os.replace(folder, self.target)
        except OSError as error:
            folder = folder.replace(self.target.with_name(f".{self.target.name}.whole-{folder.name[-8:]}"))
            raise EngineError(
                f"the bundle cannot be moved to {self.target} ({error.strerror}); it stands complete in {folder}"
            ) from error
        _sync_folder(self.target.parent)
        return self.target


@contextmanager
def reserved(folder: str | Path) -> Iterator[Draft]:
    """A place for a bundle, found writable at once; folders made for it are gone afterwards if nothing stands in them.

    Nothing is left beside the place while the work goes on, so that a kill leaves nothing behind either.
    Raises: ConfigError if `folder` is a link, the working folder or not empty, or if its parent cannot be written.
    """
    from paoding_verify.report import html  # noqa: F401 - what is missing is found out before the work, not after

    target = refuse_occupied(Path(folder))
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        _remove_empty(made)
        raise ConfigError(f"cannot write into {target.parent}: {error.strerror}") from error
    try:
        yield Draft(target)
    finally:
        _remove_empty(made)


@contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Shows other processes that the draft is being written; ends with the process, however that ends.

    Raises: OSError if another process holds it. Systems without such locks keep what killed runs leave.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path, prefix: str) -> None:
    """Removes drafts that no process holds."""
    if sys.platform == "win32":
        return
    for draft in sorted(path for path in parent.iterdir() if path.name.startswith(prefix)):
        with suppress(OSError), _held(draft):
            shutil.rmtree(draft)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def refuse_occupied(folder: Path) -> Path:
    """The absolute place of a bundle.

    Raises: ConfigError if a bundle cannot appear there, or would overwrite something.
    """
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link: name the folder itself")
    target = folder.resolve()
    if target == Path.cwd() or target.is_mount():
        raise ConfigError(f"{folder} cannot be replaced by a bundle: name a new folder, for example {folder / 'out'}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(
            f"{folder} exists and is not empty: name another folder or remove it; nothing was overwritten"
        )
    return target


def _members(result: AuditResult) -> dict[str, bytes]:
    """Every file of the bundle; the manifest, which names all others with digest and size, comes last."""
    from paoding_verify.report.render import audit_json, render_all, timings_json

    members = dict(result.files)
    times = timings_json(result)
    result = loads(AuditResult, audit_json(result), "the result")  # as its readers see it: 1 becomes 1.0
    texts = {**render_all(result), RESULT: audit_json(result), TIMINGS: times, COMPONENTS: component_list()}
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
