"""Time the main job against the same work written by hand (duckdb_script.py), as whole processes, in turn.

Both read the same files. Before a time counts, every gold table is compared with what the script computed. What is
printed are ratios of ours to the script's, and what each of our steps took. Prefect is left out.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table as Grid

from lakehouse import catalog
from lakehouse.releases import release
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from lakehouse.table import DOUBLE, Layer, Table

HERE = Path(__file__).parent
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: seconds, seconds of CPU, MiB at their highest together."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--receipts", type=int, nargs="*", default=[110_000, 1_100_000], help="sizes of the sample")
    options.add_argument("--source", type=Path, help="a folder with products/ and transactions/, instead of samples")
    options.add_argument("--runs", type=int, default=3, help="counted runs of each, after one to warm up")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sources = [asked.source] if asked.source else [sampled(Path(scratch), size) for size in asked.receipts]
        for source in sources:
            measure(source, Path(scratch) / "work", asked.runs)


def sampled(scratch: Path, receipts: int) -> Path:
    """Write a sample of half a year; give its folder."""
    folder = scratch / f"sample-{receipts}"
    write_sample(folder, receipts=receipts, days=181)
    return folder


def measure(source: Path, work: Path, runs: int) -> None:
    """Run both in turn, compare what they made, print what they took."""
    home, script = work / "home", work / "script"
    pairs = []
    for turn in range(runs + 1):
        for made in ("tables", "exports", "logs"):
            remove(home / made)
        remove(script)
        ours = run_cost(source, home)
        theirs = cost(
            [sys.executable, str(HERE / "duckdb_script.py"), "--source", str(source), "--output", str(script)], home
        )
        compare(home, script)
        pairs += [(ours, theirs)] if turn else []
    show(source, home, pairs)
    shutil.rmtree(work)


def remove(path: Path) -> None:
    """Remove a folder or a link to one."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def run_cost(source: Path, home: Path) -> Cost:
    """Run the main job once, as a process of its own, without Prefect."""
    command = str(Path(sys.executable).with_name("lakehouse"))
    return cost([command, "run", "--no-prefect", "--source", str(source)], home)


def cost(command: list[str], home: Path) -> Cost:
    """Run a command to its end; errors: SystemExit with what it said when it fails."""
    started, peak = time.monotonic(), [0.0]
    before = os.times()
    environment = os.environ | {"LAKEHOUSE_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watch = threading.Thread(target=watched, args=(process, peak), daemon=True)
    watch.start()
    said = process.communicate()[0]
    wall = time.monotonic() - started
    watch.join()
    after = os.times()
    if process.returncode:
        raise SystemExit(said.decode(errors="replace"))
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu, peak[0])


def watched(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Note the most memory a process and its children hold together, in MiB."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(resident, tree(process.pid))) / 2**20)
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    """Give a process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(deeper for child in below for deeper in tree(int(child)))]


def resident(pid: int) -> int:
    """Give a process's resident memory in bytes; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def compare(home: Path, script: Path) -> None:
    """Hold every gold table to the script's, in the columns both have; errors: SystemExit naming the table."""
    storage = Storage(str(home / "tables"))
    newest = release.latest(storage)
    for table in catalog.tables(Layer.GOLD):
        ours = storage.dataset(table, newest.tables[table.qualified_name])
        theirs = duckdb.read_parquet(str(script / "tables" / f"{table.name}.parquet"))
        differing = differences(table, ours, theirs)
        if differing:
            raise SystemExit(f"{table.qualified_name} differs from the script's in {differing} rows")


def differences(table: Table, ours: object, theirs: duckdb.DuckDBPyRelation) -> int:
    """Count rows that only one has, or that differ by more than a float's last written digit or a millionth."""
    told = ("label", "description", "recommendations")
    shared = [c for c in table.columns if c.name in theirs.columns and c.name not in told]
    wrong = [
        f"not coalesce(abs(o.{c.name} - t.{c.name}) <= greatest(1.01e-{c.digits}, abs(t.{c.name}) * 1e-6), "
        f"o.{c.name} is null and t.{c.name} is null)"
        if c.type is DOUBLE
        else f"o.{c.name} is distinct from t.{c.name}"
        for c in shared
    ]
    keys = " and ".join(f"o.{key} is not distinct from t.{key}" for key in table.keys)
    with duckdb.connect() as database:
        database.register("ours", ours)
        database.register("theirs", theirs.to_arrow_table())
        query = f"select count(*) from ours o full join theirs t on {keys} where {' or '.join(wrong)}"
        return int(database.execute(query).fetchall()[0][0])


def show(source: Path, home: Path, pairs: list[tuple[Cost, Cost]]) -> None:
    """Print both costs and their ratios, and what our steps took in the last run."""
    out = Console()
    grid = Grid("", "ours", "script", "ratio", "smallest", "largest", title=f"{source.name}, {len(pairs)} runs")
    for name, unit in (("wall", "s"), ("cpu", "s"), ("peak", "MiB")):
        ours, theirs = ([getattr(pair[side], name) for pair in pairs] for side in (0, 1))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        middle = statistics.median
        figures = (middle(ratios), min(ratios), max(ratios))
        grid.add_row(
            name, f"{middle(ours):.1f} {unit}", f"{middle(theirs):.1f} {unit}", *(f"{figure:.2f}" for figure in figures)
        )
    out.print(grid)
    steps = Grid("step", "seconds", title="our steps, last run")
    (log,) = (home / "logs" / "prefect_runs").glob("*.jsonl")
    for event in map(json.loads, log.read_text().splitlines()):
        if event["event"] == "task_finished":
            steps.add_row(event["task_name"], f"{event['seconds']:.2f}")
    out.print(steps)


if __name__ == "__main__":
    main()
