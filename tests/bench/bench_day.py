"""Time what one more day costs: in a process of its own, in one that ran before, against building everything anew.

For each length of history the receipts are delivered as a file per day. Timed, in this order: a day on top of the
history, a correction of a day in the middle, a run with nothing new, each as a process of its own; then, in a process
that has just taken the correction back, the next day; then everything built anew. Before a time counts, the digests of
both must be equal. The exponents say how the cost of a day grows with the history: 0 is not at all, 1 is in proportion.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from lakehouse.sources.sample import write_sample
from tests.bench.bench import Cost, run_cost
from tests.flows.command import digests

FULL = "everything anew"
STEPS = ("one more day", "one more day, warm", "correction", "nothing new", FULL)


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--days", type=int, nargs="+", default=[30, 90, 180, 365], help="lengths of history")
    options.add_argument("--per-day", type=int, default=6_000, help="receipts a day")
    asked = options.parse_args()
    found = {}
    for days in sorted(set(asked.days)):
        with tempfile.TemporaryDirectory() as scratch:
            found[days] = measured(Path(scratch), days, asked.per_day)
        show(days, found[days], asked.per_day)
    if len(found) > 1:
        show_growth(found)


def measured(scratch: Path, days: int, per_day: int) -> dict[str, Cost]:
    """Time the steps for a history of so many days."""
    landing, home, other = scratch / "landing", scratch / "home", scratch / "anew"
    files = by_day(scratch, landing, days + 2, per_day)
    first, then = (held_back(file, scratch) for file in files[days:])
    run_cost(landing, home)
    shutil.move(first, landing / "transactions")
    day = run_cost(landing, home)
    middle, corrected = files[days // 2], scratch / "corrected"
    lines = middle.read_bytes().splitlines(keepends=True)
    corrected.write_bytes(b"".join(lines[: -len(lines) // 10]))
    as_delivered = held_back(middle, scratch)
    shutil.move(corrected, middle)
    correction, nothing = run_cost(landing, home), run_cost(landing, home)
    shutil.move(as_delivered, middle)
    warm = warm_cost(landing, home, then)
    full = run_cost(landing, other)
    if digests(home) != digests(other):
        raise SystemExit(f"{days} days: days and corrections gave other digests than everything anew")
    return dict(zip(STEPS, (day, warm, correction, nothing, full), strict=True))


def held_back(file: Path, scratch: Path) -> Path:
    """Take a file out of the landing."""
    return Path(shutil.move(file, scratch / file.name))


def warm_cost(landing: Path, home: Path, file: Path) -> Cost:
    """Run in a process that ran before, with one more file; errors: SystemExit with what it said when it fails."""
    command = [sys.executable, "-m", "tests.bench.warm", str(landing), str(file)]
    environment = os.environ | {"LAKEHOUSE_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def by_day(scratch: Path, landing: Path, days: int, per_day: int) -> list[Path]:
    """Write a sample as a file per day; give the files, the first day's first."""
    write_sample(scratch / "sample", receipts=days * per_day, days=days, stores=4)
    shutil.copytree(scratch / "sample" / "products", landing / "products")
    (landing / "transactions").mkdir()
    lines: dict[bytes, list[bytes]] = defaultdict(list)
    for file in sorted((scratch / "sample" / "transactions").iterdir()):
        for line in file.read_bytes().splitlines():
            if line[:2] == b"20" and line.count(b"|") == 3:
                lines[line[:10]].append(line)
    sold = sorted(day for day in lines if len(lines[day]) > per_day // 10)
    for day in sold:
        (landing / "transactions" / f"{day.decode()}.csv").write_bytes(b"\n".join(lines[day]) + b"\n")
    return sorted((landing / "transactions").iterdir())


def show(days: int, costs: dict[str, Cost], per_day: int) -> None:
    """Print what each step took, and its share of everything built anew."""
    full = costs[FULL]
    grid = Grid("", "seconds", "share", "CPU seconds", "share", title=f"{days} days of {per_day} receipts")
    for step in STEPS:
        cost = costs[step]
        shares = (f"{cost.wall / full.wall:.0%}", f"{cost.cpu / full.cpu:.0%}")
        grid.add_row(step, f"{cost.wall:.1f}", shares[0], f"{cost.cpu:.1f}", shares[1])
    Console(width=100).print(grid)


def show_growth(found: dict[int, dict[str, Cost]]) -> None:
    """Print how the cost of a day grows from the shortest to the longest history."""
    (first, early), (last, late) = min(found.items()), max(found.items())
    for step in STEPS[:2]:
        wall, cpu = (
            math.log(getattr(late[step], name) / getattr(early[step], name)) / math.log(last / first)
            for name in ("wall", "cpu")
        )
        grows = f"{step.capitalize()}: the time grows with the history to the power of {wall:.2f}"
        Console(width=100).print(f"{grows}, the CPU time to the power of {cpu:.2f}.")


if __name__ == "__main__":
    main()
