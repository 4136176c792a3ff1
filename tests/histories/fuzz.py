"""Random histories for as long as one is told: `make fuzz ARGS="--minutes 10"`; a history that fails is printed."""

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from lakehouse.engine.session import start
from lakehouse.settings import load_settings
from quality.suites.worker import Worker
from tests.histories.lives import Memory, lived_through
from tests.histories.steps import History, histories
from tests.histories.world import Kept

ROUND = 50  # histories under one seed


def lived(kept: Kept, memory: Memory, folder: Path, number: int, end: float) -> int:
    """Let histories of one seed happen until a time has come; give how many did."""
    count = 0

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def hold(history: History) -> None:
        nonlocal count
        if time.monotonic() > end:
            return
        count += 1
        print(f"\r{memory.said()}, seed {number}, history {count}  ", end="", file=sys.stderr, flush=True)
        try:
            lived_through(history, folder / str(count), kept, memory, is_compared=True)
        except BaseException:
            print(f"\nThis failed, and is made smaller:\n{history}", file=sys.stderr, flush=True)
            raise
        finally:
            shutil.rmtree(folder / str(count), ignore_errors=True)

    hold()
    return count


def main() -> None:
    """Let histories happen; exit code 1, with the smallest one that fails, when one did."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10, help="how long")
    options.add_argument("--seed", type=int, help="begin with this seed; a random one otherwise")
    asked = options.parse_args()
    number = asked.seed if asked.seed is not None else secrets.randbelow(1 << 32)
    end, total, memory = time.monotonic() + 60 * asked.minutes, 0, Memory()
    with tempfile.TemporaryDirectory() as scratch, Worker() as worker:
        engine = start(load_settings(lakehouse_home=Path(scratch), engine_partitions=1))
        while time.monotonic() < end:
            total += lived(Kept(engine, worker), memory, Path(scratch) / "histories", number, end)
            number += 1
        engine.stop()
    print(f"\n{total} histories, {memory.said()}: all right.", file=sys.stderr)


if __name__ == "__main__":
    main()
