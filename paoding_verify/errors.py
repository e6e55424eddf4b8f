"""The whole error tree: every failure that a caller may want to tell apart.

Each class carries the exit code with which the command line ends, so that a new kind of failure is
decided in one place. A message says what was wrong, where, and what to do about it.

    PaodingError
    ├── InputError                bad usage or input                              exit 2
    │   ├── ModelError            a model file or architecture
    │   │   └── UnsupportedOpError
    │   ├── DataError             data files and arrays
    │   ├── RegionError           boxes, eps, domains
    │   ├── SpecError             VNN-LIB and other property files
    │   ├── ConfigError           options, configuration and policy files
    │   └── JournalError          the journal of an interrupted run
    ├── MissingComponentError     an optional component is not installed          exit 2
    ├── EngineError               a component failed while it worked              exit 4
    │   └── WorkerError           workers cannot be started, reached or used
    ├── SoundnessError            two pieces of evidence contradict each other    exit 4
    └── IntegrityError            a digest differs or the checker refuses a claim exit 5
"""

from typing import ClassVar

__all__ = [
    "FATAL",
    "ConfigError",
    "DataError",
    "EngineError",
    "InputError",
    "IntegrityError",
    "JournalError",
    "MissingComponentError",
    "ModelError",
    "PaodingError",
    "RegionError",
    "SoundnessError",
    "SpecError",
    "UnsupportedOpError",
    "WorkerError",
]


class PaodingError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 4


class InputError(PaodingError):
    """The caller's input or usage is wrong; nothing was written."""

    exit_code: ClassVar[int] = 2


class ModelError(InputError):
    """A model file or architecture cannot be used."""


class UnsupportedOpError(ModelError):
    """A model contains an operation outside the whitelist; the message names the node."""


class DataError(InputError):
    """A data file or array cannot be used."""


class RegionError(InputError):
    """A region is not a finite, non-empty box."""


class SpecError(InputError):
    """A property specification cannot be read."""


class ConfigError(InputError):
    """An option, configuration or policy is wrong."""


class JournalError(InputError):
    """The finished parts of a run cannot be kept, read or used; it concerns the whole run."""


class MissingComponentError(PaodingError):
    """An optional component is not installed; the message holds the command that installs it."""

    exit_code: ClassVar[int] = 2


class EngineError(PaodingError):
    """A search engine or worker failed; never reported as UNKNOWN."""


class WorkerError(EngineError):
    """Workers cannot be started, reached or used; it concerns the whole run."""


class SoundnessError(PaodingError):
    """Two pieces of evidence contradict each other: one of the engines is wrong."""


class IntegrityError(PaodingError):
    """A bundle does not hold what it says: a digest differs or a claim is not re-proved."""

    exit_code: ClassVar[int] = 5


FATAL = (MissingComponentError, SoundnessError, JournalError, WorkerError, ImportError)
"""What concerns a whole run when it happens on one claim."""
