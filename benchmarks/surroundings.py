"""Where a benchmark ran: what every table and every JSON of a benchmark names. Library for the scripts beside it."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

import paoding_verify

__all__ = ["code_digest", "data_folder", "describe", "files_digest", "surroundings"]

_PACKAGES = ("numpy", "scipy", "torch", "auto_LiRPA", "onnxruntime", "torch-pruning")


def surroundings() -> dict[str, str | int | float | dict[str, str]]:
    """Machine, threads and versions."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "python": platform.python_version(),
        "paoding_verify": paoding_verify.__version__,
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def describe(found: dict[str, str | int | float | dict[str, str]]) -> str:
    """The same in two lines of text."""
    versions = found["versions"]
    packages = (
        ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    )
    return (
        f"{found['machine']}; load {found['load_at_start']}; torch threads {found['torch_threads']}, OMP_NUM_THREADS "
        f"{found['omp_num_threads']}\nPython {found['python']}, paoding_verify {found['paoding_verify']}, {packages}"
    )


def code_digest(modules: Iterable[str], within: Iterable[str]) -> str:
    """Twelve digits that change with the source of these modules, and with that of all modules they import, directly or
    not, whose names begin with one of `within`.
    """
    found: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _source(name)
            waiting += [other for other in _imported(found[name]) if other.startswith(tuple(within))]
    digest = hashlib.sha256(b"".join(name.encode() + found[name] for name in sorted(found)))
    return digest.hexdigest()[:12]


def files_digest(patterns: Iterable[str]) -> str:
    """Twelve digits that change with the source of the package's files that match; patterns as "pruning/*.py"."""
    root = Path(paoding_verify.__file__).parent
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _source(module: str) -> bytes:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the module {module} has no source to tell its version by")
    return Path(spec.origin).read_bytes()


def _imported(source: bytes) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def data_folder() -> Path | None:
    """Folder of the real models and data: PAODING_VERIFY_DATA, or ../shared/data beside the repository; None if it is
    missing.
    """
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    folder = Path(os.environ.get("PAODING_VERIFY_DATA", default)).resolve()
    return folder if folder.is_dir() else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
