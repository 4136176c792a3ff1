"""Faults of the world around a run: a file cut short while it is read, a clock that jumps back."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import flows.report.facts
import flows.run.attempt
import flows.run.request
from lakehouse.errors import Blocked
from lakehouse.releases import release
from lakehouse.releases.retention import Rule, retention_reasons
from lakehouse.storage import durable
from tests.histories.steps import Run
from tests.histories.world import FIRST, Kept, World

PATH = "transactions/b.csv"
FIRST_LINES = b"2024-02-29|1|3|1 5\n2024-01-10|2|3|4\n"
WHOLE = FIRST_LINES + b"2024-01-10|1|C|4\n2024-03-31|1|2|2\n"


@pytest.fixture
def world(tmp_path: Path, kept: Kept) -> World:
    """A lakehouse with a release, to which a file was delivered."""
    world = World(tmp_path, kept, FIRST)
    world.take(Run())
    world.put(PATH, WHOLE)
    return world


@pytest.mark.parametrize(
    ("step", "checks"),
    [
        ("take the lease", False),
        ("write ops.sources", False),
        ("write bronze.transactions", False),
        ("write ops.ledger", False),
        ("write ops.ledger", True),
    ],
)
@pytest.mark.parametrize("length", [len(FIRST_LINES), 0])
def test_a_file_cut_short_while_it_is_read_is_never_half_taken_in(
    step: str, checks: bool, length: int, world: World
) -> None:
    is_cut = False

    def cut(begun: str, moment: str) -> None:
        nonlocal is_cut
        if (begun, moment, is_cut) == (step, "before", False):
            is_cut = True
            os.truncate(world.folder / PATH, length)

    whole, before = world.shop.taking_in(world.landing), release.latest(world.storage)
    durable.watch(cut)
    blocked: list[Blocked] = []
    try:
        world.main(checks)
    except Blocked as told:
        blocked.append(told)
    finally:
        durable.watch(durable.nobody)
    assert is_cut
    if blocked:
        assert release.latest(world.storage) == before
        assert (blocked[0].exit_code, PATH in str(blocked[0]), "\n" in str(blocked[0])) == (3, True, False)
    else:
        world.published.append(whole)
    world.hold()
    world.put(PATH, WHOLE[:length])
    world.settle()


def test_a_clock_that_jumps_back_changes_neither_the_order_of_releases_nor_the_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release.latest(world.storage)

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(time.time(), UTC) - timedelta(days=40)

    def back(step: str, moment: str) -> None:
        if (step, moment) == ("write ops.ledger", "after"):
            for module in (flows.run.request, flows.run.attempt, flows.report.facts):
                monkeypatch.setattr(module, "datetime", Earlier)

    durable.watch(back)
    try:
        world.take(Run())
    finally:
        durable.watch(durable.nobody)
    second = release.latest(world.storage)
    assert second.release_id == first.release_id + 1
    assert second.published_at < first.published_at
    world.put(PATH, WHOLE + b"2024-03-31|1|2|2\n")
    world.take(Run(twice=True))
    world.settle()
    third = release.latest(world.storage)
    assert (third.release_id, third.created_at < first.created_at) == (first.release_id + 2, True)
    assert {r.release_id: reasons for r, reasons in retention_reasons(world.storage, Rule(1, 1))}[third.release_id][
        0
    ] == "newest"
