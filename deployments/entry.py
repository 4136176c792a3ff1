"""Where the command begins and ends: how it is interrupted, and how its process leaves."""

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from flows.interrupts import take_interrupts


def main() -> NoReturn:
    """Run the command line."""
    was_interrupted = take_interrupts()
    try:
        from deployments.command_line import command  # here an interrupt is taken already

        command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        _leave(ended.code or 0)
    except BaseException:
        if not was_interrupted():
            raise
        _leave(130)  # whatever an interrupt was turned into on its way
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but for freeing all memory object by object: that takes most of a second."""
    for last in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        with suppress(KeyboardInterrupt):  # an interrupt ends the waiting; what was to be done is done
            last()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that was closed is None
        with suppress(OSError):  # what could not be written the command has told
            stream.flush()
    os._exit(code)
