"""A limit of memory that the operating system keeps: what goes beyond fails where it is asked for."""

from __future__ import annotations

import sys

from paoding_verify.errors import ConfigError

__all__ = ["limit_memory"]


def limit_memory(megabytes: int | None) -> None:
    """Limits this process's address space to so many MiB, unless a smaller limit stands; None: leaves it as it is.

    An allocation beyond fails as MemoryError or as the engine's own exception; it costs what was being worked on.
    Raises: ConfigError if the system knows no such limit.
    """
    if megabytes is None:
        return
    if sys.platform == "win32":
        raise ConfigError("this system has no limit of memory for a process: leave --memory-limit out")
    import resource

    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    asked = min(megabytes << 20, *limits) if limits else megabytes << 20
    resource.setrlimit(resource.RLIMIT_AS, (asked, asked))
