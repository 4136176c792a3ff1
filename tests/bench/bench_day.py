"""Time what one more day costs: warm history, cold process, against building everything anew.

For each length of history the receipts are delivered as a file per day. Timed, each as a whole process: the full build
of history and day, the day on top of the history, a correction of a day in the middle, and a run with nothing new. The
day must end with the digests of the full build before its time counts. The exponent says how the cost of a day grows
with the history: 0 is not at all, 1 is in proportion.
"""

import argparse
import math
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from lakehouse.sample import write_sample
from tests.bench.bench import Cost, run_cost
from tests.flows.command import digests

STEPS = ("full build", "one more day", "correction", "nothing new")


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--days", type=int, nargs="+", default=[30, 90, 180, 365], help="lengths of history")
    options.add_argument("--per-day", type=int, default=6_000, help="receipts a day")
    asked = options.parse_args()
    found = {}
    for days in sorted(asked.days):
        with tempfile.TemporaryDirectory() as scratch:
            found[days] = measured(Path(scratch), days, asked.per_day)
    show(found, asked.per_day)


def measured(scratch: Path, days: int, per_day: int) -> dict[str, Cost]:
    """Time the four for a history of so many days, and one day more."""
    landing, home, other = scratch / "landing", scratch / "home", scratch / "anew"
    last = by_day(scratch, landing, days + 1, per_day)
    held_back = scratch / last.name
    shutil.move(last, held_back)
    run_cost(landing, home)
    shutil.move(held_back, last)
    day = run_cost(landing, home)
    full = run_cost(landing, other)
    if digests(home) != digests(other):
        raise SystemExit(f"{days} days: the day on top of the history gave other digests than everything anew")
    middle = sorted((landing / "transactions").iterdir())[days // 2]
    lines = middle.read_bytes().splitlines(keepends=True)
    middle.write_bytes(b"".join(lines[: -len(lines) // 10]))
    return dict(zip(STEPS, (full, day, run_cost(landing, home), run_cost(landing, home)), strict=True))


def by_day(scratch: Path, landing: Path, days: int, per_day: int) -> Path:
    """Write a sample as a file per day; give the last day's."""
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
    return landing / "transactions" / f"{sold[-1].decode()}.csv"


def show(found: dict[int, dict[str, Cost]], per_day: int) -> None:
    """Print seconds, shares of the full build, and how the cost of a day grows."""
    grid = Grid("history", *STEPS, title=f"{per_day} receipts a day: seconds, and share of the full build")
    for days, costs in found.items():
        full = costs["full build"].wall
        grid.add_row(f"{days} days", *(f"{costs[s].wall:.1f} s  {costs[s].wall / full:.0%}" for s in STEPS))
    out = Console(width=110)
    out.print(grid)
    if len(found) > 1:
        (first, early), (last, late) = min(found.items()), max(found.items())
        growth = math.log(late["one more day"].wall / early["one more day"].wall) / math.log(last / first)
        out.print(f"The cost of one more day grows with the history to the power of {growth:.2f}.")


if __name__ == "__main__":
    main()
