"""Where the command begins and ends: how it is interrupted, and how its process leaves."""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from flows.commands.interrupts import INTERRUPTED, take_interrupts


def main() -> NoReturn:
    """Run the command line; exit code 130 when it ended at an interrupt, whatever that was turned into on its way."""
    was_interrupted = take_interrupts()
    try:
        from deployments.command_line import command  # here an interrupt is taken already

        command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        _leave(INTERRUPTED if ended.code and was_interrupted() else ended.code or 0)
    except BaseException as error:
        if not was_interrupted():
            raise
        if not isinstance(error, KeyboardInterrupt):
            print(f"Interrupted: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        _leave(INTERRUPTED)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but for freeing all memory object by object: that takes most of a second."""
    signal.signal(signal.SIGINT, _nothing)  # what there is to do last is done; an interrupt limits how long it takes
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that was closed is None
        with suppress(OSError):  # what could not be written the command has told
            stream.flush()
    os._exit(code)


def _nothing(*_: object) -> None:
    return None
