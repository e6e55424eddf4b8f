"""The process that `pool` starts: calls functions that come over a channel until the channel is closed."""

from __future__ import annotations

import logging
import sys
import warnings
from multiprocessing.connection import Connection
from pickle import PicklingError

from paoding_verify.memory import limit_memory

__all__ = ["serve"]


def serve(channel: Connection) -> None:
    """Answers every (function, arguments, keywords) with (True, value) or (False, exception)."""
    import torch  # noqa: F401 - what does not fit into the memory given is found out before there is work

    channel.send("ready")
    while True:
        try:
            request = channel.recv()
        except EOFError:  # the parent has ended, however it did
            return
        try:
            function, args, kwargs = request
            answer = True, function(*args, **kwargs)
        except Exception as error:  # the parent decides what becomes of it
            answer = False, error
        try:
            channel.send(answer)
        except (PicklingError, TypeError, AttributeError) as error:
            channel.send((False, RuntimeError(f"what a worker found cannot be sent: {error}")))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    limit_memory(int(sys.argv[2]) or None)
    serve(Connection(int(sys.argv[1])))
