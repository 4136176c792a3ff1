"""Random histories of a small lakehouse: after every run it is what its files and decisions say."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.histories.lives import Memory, lived_through
from tests.histories.share import HISTORIES
from tests.histories.steps import Again, Deliver, History, Run, Step, Withdraw, histories
from tests.histories.world import Kept

SHARDS = 8


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory()


FOUND: dict[str, tuple[Step, ...]] = {
    "a file that came again under another name, and nothing else": (
        Again("transactions/a.csv", "transactions/b.csv", moves=True),
        Run(),
        Deliver("transactions/b.csv", b"2024-01-10|1|1|3\n"),
    ),
    "a file that cannot be read, and nothing else": (Deliver("transactions/b.csv", b""), Run()),
    "a file that cannot be read, and then one that can": (
        Deliver("transactions/b.csv", b""),
        Run(),
        Deliver("transactions/b.csv", b"2024-01-10|1|1|3\n"),
    ),
    "a file that cannot be read, and other parameters": (Deliver("transactions/b.csv", b""), Run(checks=True)),
    "the only file withdrawn, and its tables held to their checks": (
        Withdraw("transactions/a.csv"),
        Run(checks=True),
        Deliver("transactions/b.csv", b"2024-01-10|1|7|4 x\n"),
        Run(checks=True),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once_stays_right(name: str, kept: Kept, memory: Memory, tmp_path: Path) -> None:
    lived_through(History(False, FOUND[name]), tmp_path / "history", kept, memory, is_compared=True)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_after_every_run_it_is_what_its_files_and_decisions_say(
    shard: int, kept: Kept, memory: Memory, tmp_path: Path
) -> None:
    seen = 0

    @seed(shard)
    @settings(
        max_examples=HISTORIES // SHARDS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def hold(history: History) -> None:
        nonlocal seen
        seen += 1
        try:
            lived_through(history, tmp_path / str(seen), kept, memory, is_compared=seen % 3 == 0)
        finally:
            shutil.rmtree(tmp_path / str(seen), ignore_errors=True)

    hold()
