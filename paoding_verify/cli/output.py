"""What a command writes: found possible before the work starts, never over an input, whole or not at all."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from paoding_verify.auditing.bundle import Draft, refuse_occupied, reserved
from paoding_verify.cli.resuming import journal_of
from paoding_verify.cli.usage import INPUTS
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.result import AuditResult

__all__ = ["place", "prepare_files", "store", "write_folder", "write_whole"]


def prepare_files(args: argparse.Namespace, *paths: Path | None) -> None:
    """Finds out before the work starts whether these files can be written.

    Raises: ConfigError if a path is one of the inputs, a folder or a link, stands there already (without --force), or
    lies in a folder that cannot be written.
    """
    inputs = [Path(value).resolve() for name in INPUTS if (value := getattr(args, name, None))]
    wanted = [path for path in paths if path is not None]
    for k, path in enumerate(wanted):
        if path.resolve() in inputs or any(_same(path, other) for other in inputs):
            raise ConfigError(f"{path} is an input of this command: name another file to write")
        if path.resolve() in [other.resolve() for other in wanted[:k]]:
            raise ConfigError(f"{path} is to be written twice: name two files")
        if args.output.resolve() in path.resolve().parents:
            raise ConfigError(
                f"{path} lies in the folder {args.output}, which is written as a whole: name another place"
            )
        if path.resolve() == journal_of(args.output).resolve():
            raise ConfigError(f"{path} is where this command keeps finished parts until it ends: name another file")
        _refuse_existing(path, force=args.force)
        if not path.parent.is_dir():
            raise ConfigError(f"the folder {path.parent} does not exist: make it, or name another file than {path}")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise ConfigError(f"cannot write into the folder {path.parent}: {error.strerror}") from error


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigError(f"{path} is no plain file: name a file to write")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: name another file, or overwrite it with --force; nothing was overwritten")


def write_whole(files: Mapping[Path, bytes], *, force: bool) -> None:
    """Writes files so that each appears whole or not at all, whatever interrupts the writing.

    Raises: ConfigError if a file has appeared meanwhile (without `force`) or cannot be written.
    """
    drafts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            drafts[Path(name)] = path
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        for path in files:
            _refuse_existing(path, force=force)
        for draft, path in drafts.items():
            draft.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {', '.join(map(str, files))}: {error.strerror}") from error
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def write_folder(files: Iterable[tuple[str, str]], folder: Path) -> int:
    """Writes a new folder of texts, whole or not at all. Returns how many files it has.

    Raises: ConfigError if the folder exists and is not empty, or cannot be written.
    """
    target = refuse_occupied(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
            draft = Path(place) / "new"
            draft.mkdir()
            for name, text in files:
                (draft / name).write_bytes(text.encode())
            draft.replace(target)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}") from error
    return len(list(target.iterdir()))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def place(args: argparse.Namespace, path: Path | None) -> Iterator[Draft | None]:
    """A place for the result of certify and compare, held while they work: a folder's draft, or None for FILE.json.

    Raises: ConfigError if it cannot be written.
    """
    if path is None or path.suffix == ".json":
        prepare_files(args, path)
        yield None
        return
    with reserved(path) as draft:
        yield draft


def store(result: AuditResult, args: argparse.Namespace, draft: Draft | None) -> Path | None:
    """Writes FILE.json, or a bundle folder for any other name. Returns what was written."""
    from paoding_verify.cli.summary import result_json

    if args.output is None:
        return None
    if draft is not None:
        return draft.publish(result)
    write_whole({args.output: result_json(result).encode()}, force=args.force)
    path: Path = args.output
    return path
