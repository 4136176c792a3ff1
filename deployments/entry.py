"""Where the command begins and ends: what takes longest to import is begun before anything else is imported.

It is in this room because only here the whole command is known: flows give most of it, this room the rest.
"""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn

from lakehouse.deferred import deferred
from quality.worker import start_ahead


def main() -> NoReturn:
    """Run the command line; a run that checks has its checks imported meanwhile, in a process of their own."""
    gc.set_threshold(50_000)  # what a run makes is data: looking for cycles every 700 objects finds none
    if sys.argv[1:2] == ["run"] and not {"--no-checks", "--help"} & set(sys.argv):
        start_ahead()
    deferred("duckdb", "scipy.stats")  # few commands need the one, k-means does not use the other
    from deployments.commands import COMMANDS  # after the process of the checks is on its way
    from flows.cli import app
    from flows.cli import main as command

    for one in COMMANDS:
        app.command()(one)

    try:
        command()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        _leave(ended.code or 0)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but for freeing all memory object by object: that takes most of a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
