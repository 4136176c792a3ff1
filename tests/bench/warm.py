"""Run the main job twice in one process, the second time with one more file, and print what the second run cost."""

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from flows.conduct import run_directly
from lakehouse.parameters import validated
from lakehouse.settings import load_settings
from tests.bench.bench import Cost, resident, tree


def main() -> None:
    """Run, deliver, run again; the cost is the last line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("source", type=Path, help="a folder with products/ and transactions/")
    options.add_argument("file", type=Path, help="what is delivered between the runs")
    asked = options.parse_args()
    run_directly(load_settings(), validated(), asked.source, False)
    shutil.move(asked.file, asked.source / "transactions")
    started, before = time.monotonic(), os.times()
    run_directly(load_settings(), validated(), asked.source, False)
    wall, after = time.monotonic() - started, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print(json.dumps(asdict(Cost(wall, cpu, sum(map(resident, tree(os.getpid()))) / 2**20))))


if __name__ == "__main__":
    main()
