"""Random histories of a small lakehouse: after every run it is what its files and decisions say."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.histories.lives import Memory, lived_through
from tests.histories.share import ALL, FEW, SEEDS
from tests.histories.steps import Again, Deliver, Fix, History, Kill, Run, Step, Withdraw, histories
from tests.histories.world import Kept

LONG = (pytest.mark.long, pytest.mark.timeout(7_200))
# A seed, and how many histories are made of it; the first of each is the simplest there is.
MADE = [(number, FEW // 3) for number in (3, 10, 23)]
MADE_LONG = [pytest.param(number, ALL // SEEDS, marks=LONG) for number in range(SEEDS)]


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


def each(number: int, count: int, live: Callable[[History], None]) -> None:
    """Make so many histories of a seed, always the same ones, and let them happen; one that fails is made smaller."""

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def hold(history: History) -> None:
        live(history)

    hold()


@pytest.mark.parametrize(("number", "count"), MADE + MADE_LONG)
def test_after_every_run_it_is_what_its_files_and_decisions_say(
    number: int, count: int, kept: Kept, memory: Memory, tmp_path: Path
) -> None:
    seen = 0

    def live(history: History) -> None:
        nonlocal seen
        seen += 1
        try:
            lived_through(history, tmp_path / str(seen), kept, memory, is_compared=seen % 3 == 0)
        finally:
            shutil.rmtree(tmp_path / str(seen), ignore_errors=True)

    each(number, count, live)


def test_what_is_always_tried_has_every_kind_of_step() -> None:
    made: list[History] = []
    for number, count in MADE:
        each(number, count, made.append)
    steps = [step for history in made for step in history.steps]
    assert {type(step) for step in steps} == set(get_args(Step))
    assert {(step.twice, step.checks) for step in steps if isinstance(step, Run)} >= {(True, False), (False, True)}
    assert {step.moment for step in steps if isinstance(step, Kill)} == {"before", "after"}
    assert {step.line is None for step in steps if isinstance(step, Fix)} == {True, False}
    assert {history.begins_empty for history in made} == {True, False}
