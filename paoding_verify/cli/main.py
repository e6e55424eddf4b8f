"""Entry point: parse, run a verb, turn errors into one sentence and an exit code."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from paoding_verify.cli.parser import build_parser
from paoding_verify.cli.usage import refuse_contradictions
from paoding_verify.cli.workers import limit_this_process, without_run_options
from paoding_verify.errors import MissingComponentError, PaodingError

__all__ = ["main"]

INTERNAL_ERROR = 4
BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; users see a traceback only with --debug."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    args.command_line = shlex.join(["paoding-verify", *without_run_options(arguments)])
    if not args.debug:
        _calm_libraries()
    # Before any engine is loaded. Sums depend on how many threads share them, and the many small products of bounds
    # get slower with each: one thread, unless the caller wants more.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with _stoppable():
            refuse_contradictions(args)
            limit_this_process(args)
            return int(args.run(args))
    except PaodingError as error:
        return _fail(args.debug, str(error), error.exit_code)
    except ImportError as error:
        return _fail(args.debug, *_missing(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout at exit
        return BROKEN_PIPE
    except KeyboardInterrupt as error:
        return _fail(args.debug, str(error) or "interrupted; nothing was written", INTERRUPTED)
    except OSError as error:
        return _fail(args.debug, f"cannot read or write {error.filename or 'a file'}: {error.strerror}", BAD_INPUT)
    except MemoryError as error:
        what = str(error) or "the model or the data do not fit"
        return _fail(
            args.debug, f"out of memory ({what}): raise --memory-limit, or use a larger machine", INTERNAL_ERROR
        )
    except Exception as error:  # whatever a library raises, a user gets a sentence
        words = f"internal error, {type(error).__name__}: {error} (run again with --debug for the traceback)"
        return _fail(args.debug, words, INTERNAL_ERROR)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Lets a request to end, or a lost terminal, interrupt the work as Ctrl-C does, so that nothing is left behind."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    changed = [number for number in found if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _fail(debug: bool, message: str, code: int) -> int:
    """Prints the sentence; with --debug the traceback as well. To be called while the exception is handled."""
    if debug:
        import traceback

        traceback.print_exc()
    print(f"paoding-verify: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _missing(error: ImportError) -> tuple[str, int]:
    """Sentence and exit code for a component that is not installed, or for a module of ours that is broken."""
    from paoding_verify.cli.verbs.doctor import install_command

    command = install_command(error.name or "")
    if command is None:
        return (
            f"internal error, {type(error).__name__}: {error} (run again with --debug for the traceback)",
            INTERNAL_ERROR,
        )
    words = f"{error}; install it with: {command} (`paoding-verify doctor` says what else is missing)"
    return words, MissingComponentError.exit_code


def _calm_libraries() -> None:
    """Warnings and log lines of the engines are for developers: silent without --debug."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
