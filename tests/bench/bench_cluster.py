"""Run the main job on the cluster's services, as processes on this machine, and embedded; print what each took.

The receipts land in MinIO, a Prefect worker runs the deployment, Spark computes with the memory the stack gives it.
Before a time counts, the digests of both must be equal. Checks are left out on both sides.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from infra.stack.process import members, running
from infra.stack.stack import NAMES
from lakehouse.sources.sample import write_sample
from tests.bench.bench import cost, resident, tree
from tests.flows.command import digests
from tests.stack.cluster import FLOW, Cluster, cluster

PLAIN = {"enable_quality_checks": "false"}
COMMAND = (str(Path(sys.executable).with_name("lakehouse")), "run", "--no-prefect", "--no-checks", "--source")
KINDS = {
    "CoarseGrainedExecutorBackend": "an executor",
    "SparkConnectServer": "the driver",
    "pyspark.daemon": "a Python worker of Spark",
    "quality.suites.worker": "the process of the checks",
    "prefect.engine": "the flow",
}


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--receipts", type=int, default=5_000_000, help="of a sample of a year")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        measure(Path(scratch), asked.receipts)


def measure(scratch: Path, receipts: int) -> None:
    """Run both, compare what they made, print what they took."""
    source, home = scratch / "sample", scratch / "embedded"
    write_sample(source, receipts=receipts, days=365)
    embedded = cost([*COMMAND, str(source)], home)
    with cluster(scratch / "cluster") as started:
        started.lakehouse("load", "--source", source)
        for file in sorted((source / "transactions").iterdir()):
            started.deliver(file)
        with watched(started) as peaks:
            began = time.monotonic()
            started.run(FLOW, PLAIN)
            wall = time.monotonic() - began
        found = {row["table"]: row["digest"] for row in started.answer("digest")}
    if found != digests(home):
        raise SystemExit("the cluster's gold has other digests than the embedded one")
    show(receipts, wall, embedded.wall, peaks | {"embedded, whole": embedded.peak})


@contextmanager
def watched(started: Cluster) -> Iterator[dict[str, float]]:
    """Note the most memory, in MiB, that each service and what it started hold, each process by itself."""
    peaks: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for name in NAMES:
                for pid in processes(name, started.plan.folder):
                    kind = f"{name}: {kind_of(pid)}"
                    peaks[kind] = max(peaks.get(kind, 0.0), resident(pid) / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def processes(name: str, folder: Path) -> set[int]:
    """Give a service's processes: those of its group, and what they began in groups of their own."""
    found = running(name, folder)
    return {below for pid in members(found.pid) for below in tree(pid)} if found else set()


def kind_of(pid: int) -> str:
    """Say what a process is."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "itself"
    return next((said for word, said in KINDS.items() if word in command), "itself")


def show(receipts: int, wall: float, embedded: float, peaks: dict[str, float]) -> None:
    """Print the times, their ratio, and who held how much memory."""
    console = Console(width=100)
    console.print(
        f"{receipts:,} receipts: {wall:.0f} s on the cluster, {embedded:.0f} s embedded: {wall / embedded:.1f}"
    )
    grid = Grid("process", "most memory, MiB")
    for name, peak in sorted(peaks.items()):
        grid.add_row(name, f"{peak:,.0f}")
    console.print(grid)


if __name__ == "__main__":
    main()
