"""Where the command begins and ends: how it is interrupted, what is begun first, and how its process leaves.

What takes longest to import is begun before anything else is imported. It is in this room because only here all of it
is known: flows give most of it, this room the rest.
"""

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from flows.commands.interrupts import INTERRUPTED, take_interrupts


def main() -> NoReturn:
    """Run the command line; exit code 130 when it ended at an interrupt, whatever that was turned into on its way."""
    code = 1  # of an error that Python tells
    atexit.register(lambda: _leave(code))  # what is registered first is called last
    was_interrupted, said = take_interrupts(), ""
    try:
        command()
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        code = ended.code or 0
    except BaseException as error:
        if not was_interrupted():
            raise
        if not isinstance(error, KeyboardInterrupt):
            said = f": {' '.join(str(error).split()) or type(error).__name__}"
    finally:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _nothing)  # what is done last is short, and limited all the same
    if code and was_interrupted():
        code = INTERRUPTED
        if sys.stderr is not None:  # as it is where it was closed
            with suppress(OSError):
                print(f"Interrupted{said or '.'}", file=sys.stderr)
    sys.exit(code)


def command() -> None:
    """Run the command line; a run that will check has its checks imported meanwhile, in a process of their own."""
    from quality.suites.worker import start_ahead  # all imports are here, where an interrupt is taken already

    gc.set_threshold(50_000)  # what a run makes is data: looking for cycles every 700 objects finds none
    if sys.argv[1:2] == ["run"] and not {"--no-checks", "--help"} & set(sys.argv) and looks_new(sys.argv):
        start_ahead()
    from deployments.commands import COMMANDS  # after the process of the checks is on its way
    from flows.commands import cli

    for one in COMMANDS:
        cli.app.command()(one)
    cli.main()


def looks_new(arguments: list[str]) -> bool:
    """Guess from the times of files whether something came since the last exports: a wrong guess costs time only."""
    from lakehouse.errors import LakehouseError
    from lakehouse.settings import load_settings

    try:
        settings = load_settings()
        named = [given for option, given in pairwise(arguments) if option == "--source"]
        landing = Path(named[-1] if named else settings.data_path)
        last = settings.exports.lstat().st_ctime
        folders = [folder for name in ("transactions", "products") if (folder := landing / name).is_dir()]
        changed = max(path.stat().st_ctime for folder in folders for path in (folder, *folder.glob("*")))
    except FileNotFoundError:
        return True
    except (LakehouseError, OSError, ValueError):  # the command says what is wrong
        return False
    return changed >= last or settings.transactions_source == "postgres"


def _leave(code: int) -> NoReturn:
    """End without freeing all memory object by object: that took 8 % more CPU time of a run (median of nine pairs)."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that was closed is None
        with suppress(OSError):  # what could not be written the command has told
            stream.flush()
    os._exit(code)


def _nothing(*_: object) -> None:
    return None
