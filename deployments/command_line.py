"""The whole command: what takes longest to import is begun before anything else is imported.

It is in this room because only here all of it is known: flows give most of it, this room the rest.
"""

import gc
import sys
from itertools import pairwise
from pathlib import Path

from lakehouse.deferred import deferred, unused
from lakehouse.errors import LakehouseError
from lakehouse.settings import load_settings
from quality.suites.worker import start_ahead


def command() -> None:
    """Run the command line; a run that will check has its checks imported meanwhile, in a process of their own."""
    gc.set_threshold(50_000)  # what a run makes is data: looking for cycles every 700 objects finds none
    if sys.argv[1:2] == ["run"] and not {"--no-checks", "--help"} & set(sys.argv) and looks_new(sys.argv):
        start_ahead()
    deferred("duckdb")  # few commands need it
    unused("scipy.stats")  # k-means is not made of it, but of a package that is
    from deployments.commands import COMMANDS  # after the process of the checks is on its way
    from flows.commands.cli import app, main

    for one in COMMANDS:
        app.command()(one)
    main()


def looks_new(arguments: list[str]) -> bool:
    """Guess from the times of files whether something came since the last exports: a wrong guess costs time only."""
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
