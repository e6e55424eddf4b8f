"""What a worker does: one stage for some claims, from plain data to plain data.

A parcel names its cascade by a digest. A worker that has not seen it says so, and is given it with the next parcel: a
network travels once to each worker. One unit at a time is worked on in a process, because the engines share state.
"""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from functools import cache
from math import isfinite
from time import monotonic
from typing import Any

from paoding_verify.errors import FATAL, WorkerError
from paoding_verify.versions import code_digest, component_versions

__all__ = ["Done", "Failed", "Parcel", "Wanted", "own_setting", "work"]


@dataclass(frozen=True)
class Parcel:
    """One unit of work."""

    digest: str
    """Hex SHA-256 of the pickled cascade."""
    recipe: bytes | None
    """The pickled cascade; None: the worker is asked whether it has it."""
    stage: str
    jobs: tuple[Any, ...]
    limit_s: float
    """Seconds until the budget of the run is spent; may be infinite."""
    setting: tuple[str, ...]
    """What must be equal here: code, versions, threads."""


@dataclass(frozen=True)
class Done:
    """The claims after the stage."""

    jobs: tuple[Any, ...]


@dataclass(frozen=True)
class Wanted:
    """The worker does not know the cascade."""


@dataclass(frozen=True)
class Failed:
    """The stage failed; nothing is known about its claims."""

    reason: str
    """`TYPE: message` of the exception."""


_LOCK = threading.Lock()
_known: dict[str, Any] = {}


def own_setting() -> tuple[str, ...]:
    """Code, versions and number of threads of this process: what results depend on beside their inputs."""
    import torch

    return (*_versions(), f"{torch.get_num_threads()} threads")


@cache
def _versions() -> tuple[str, ...]:
    return (f"code {code_digest()[:16]}", *(f"{name} {number}" for name, number in component_versions().items()))


def work(parcel: Parcel) -> Done | Wanted | Failed:
    """Takes the claims of a parcel through its stage.

    Raises: WorkerError if this process computes with other code, versions or threads than the one that asks; and what
    concerns the whole run.
    """
    with _LOCK:
        _same_setting(parcel.setting)
        cascade = _cascade(parcel)
        if cascade is None:
            return Wanted()
        for job in parcel.jobs:
            job.until_s = monotonic() + parcel.limit_s if isfinite(parcel.limit_s) else parcel.limit_s
        try:
            cascade.perform(parcel.stage, list(parcel.jobs))
        except FATAL:
            raise
        except Exception as error:  # exceptions of libraries do not always survive pickling
            return Failed(f"{type(error).__name__}: {error}")
        return Done(parcel.jobs)


def _same_setting(asked: tuple[str, ...]) -> None:
    import torch

    torch.set_num_threads(int(asked[-1].split()[0]))
    odd = sorted(set(asked) ^ set(own_setting()))
    if odd:
        raise WorkerError(
            f"a worker differs in {', '.join(odd)}: workers need the same code and versions as the command, so that "
            "results do not depend on them"
        )


def _cascade(parcel: Parcel) -> Any:
    """The cascade of a parcel; None: it has to be sent. One is kept."""
    if parcel.digest not in _known and parcel.recipe is not None:
        for old in _known.values():
            old.close()
        _known.clear()
        _known[parcel.digest] = pickle.loads(parcel.recipe)  # noqa: S301 - from the process that commands this one
    return _known.get(parcel.digest)
