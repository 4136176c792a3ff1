"""Run the main job twice in one process, as `backfill` does; print what the second run, with one more file, cost."""

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from flows.commands.run import run_directly
from flows.run.resources import kept_open
from lakehouse.parameters import new_parameters
from lakehouse.settings import load_settings
from tests.bench.bench import Cost, resident, tree


def main() -> None:
    """Run, deliver, run again; the cost is the last line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("source", type=Path, help="a folder with products/ and transactions/")
    options.add_argument("file", type=Path, help="what is delivered between the runs")
    asked = options.parse_args()
    settings, parameters = load_settings(), new_parameters()
    with kept_open(settings) as means:
        run_directly(settings, parameters, asked.source, False, means)
        shutil.move(asked.file, asked.source / "transactions")
        started, before = time.monotonic(), cpu_seconds()
        run_directly(settings, parameters, asked.source, False, means)
        wall, cpu = time.monotonic() - started, cpu_seconds() - before
        peak = sum(map(resident, tree(os.getpid()))) / 2**20
    print(json.dumps(asdict(Cost(wall, cpu, peak))))


def cpu_seconds() -> float:
    """Give what this process and those below it have used, the dead and the living."""
    ticks = 0
    for pid in tree(os.getpid()):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
