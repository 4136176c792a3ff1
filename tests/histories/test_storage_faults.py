"""A storage that fails at each step, is full, or is slow: the last release stays, or the right one is published."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.report.events import Events
from flows.report.recorded import plain_step, run_recorded
from flows.run.changes import find_changes
from flows.run.steps import run_medallion
from lakehouse import catalog
from lakehouse.engine.building import digest_of
from lakehouse.errors import GroupFailed, LakehouseError, LeaseLost, StorageFailed
from lakehouse.releases import release
from lakehouse.releases.release import Release
from lakehouse.storage import durable
from lakehouse.table import Layer
from tests.file_systems import mounted
from tests.histories.share import APART
from tests.histories.steps import Run
from tests.histories.world import FIRST, SHORT, Digests, Kept, World, _gathered
from tests.waiting import HANG_SECONDS

MORE = {"transactions/b.csv": b"2024-02-29|1|3|1 5\n2024-01-10|2|3|4\n2024-01-10|1|C|4\n"}
LARGE = b"".join(b"2024-02-%02d|1|%d|%d\n" % (1 + n % 28, n, 1 + n % 9) for n in range(40_000))
ENOUGH = 30  # steps of a run
ALWAYS = {"take the lease", "write ops.ledger", "write gold.sales_totals", "publish", "swap exports"}
GROUP = {t.qualified_name: t.group for t in catalog.tables(Layer.GOLD)}


class Fault:
    """Fail at a durable step with what the system says; `stays`: and at every later one. Learn the steps there are."""

    def __init__(self, at: str, moment: str, stays: bool) -> None:
        self.at, self.moment, self.stays = at, moment, stays
        self.seen: dict[str, None] = {}
        self.has_failed = False

    def __call__(self, step: str, moment: str) -> None:
        if step == "heartbeat":  # these come when they come
            return
        self.seen[step] = None
        is_first = (step, moment, self.has_failed) == (self.at, self.moment, False)
        self.has_failed |= is_first
        if is_first or (self.stays and self.has_failed):
            raise OSError(28, "No space left on device")


def failing(world: World, fault: Fault) -> LakehouseError | None:
    """Run under a fault; give what the run says: an error that is not one of the lakehouse's own is raised."""
    durable.watch(fault)
    try:
        world.main(seconds=SHORT)
    except LakehouseError as told:
        return told
    finally:
        durable.watch(durable.nobody)
    return None


def newest(world: World) -> Release:
    return release.latest(world.storage)


def begun(folder: Path, kept: Kept) -> World:
    """Make a lakehouse with a release, to which more was delivered."""
    world = World(folder, kept, FIRST)
    world.take(Run())
    for path, content in MORE.items():
        world.put(path, content)
    return world


def hold_right(world: World, first: Release, right: Digests, told: LakehouseError | None) -> None:
    """Hold the newest release to the right digests; the groups it says failed, to the tables they had."""
    seen = newest(world)
    assert seen.release_id == first.release_id + 1
    assert {n: digest_of(world.storage, catalog.entry(n).table, seen.tables[n]) for n in right} == seen.digests
    failed = set(told.failures) if isinstance(told, GroupFailed) else set()
    for name, digest in right.items():
        if GROUP[name] in failed:
            assert (seen.digests[name], seen.groups[GROUP[name] or ""]) == (first.digests[name], first.release_id)
        else:
            assert seen.digests[name] == digest, name


@pytest.mark.parametrize("apart", [APART, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(7_200)])])
@pytest.mark.parametrize(("moment", "stays"), [("before", True), ("after", False)])
def test_a_storage_that_fails_at_any_step_publishes_nothing_wrong(
    moment: str, stays: bool, apart: int, tmp_path: Path, kept: Kept
) -> None:
    begin = 0 if stays else apart // 2
    world = begun(tmp_path / "world", kept)
    home, saved, first = world.settings.lakehouse_home, tmp_path / "saved", newest(world)
    shutil.copytree(home, saved, symlinks=True)
    undisturbed = begun(tmp_path / "undisturbed", kept)
    nothing = Fault("", "", stays=False)
    assert failing(undisturbed, nothing) is None
    right = undisturbed.digests((Layer.GOLD,))
    steps, tried = list(nothing.seen), set()
    for number, step in enumerate(steps):  # grows: a run that failed leaves something to restore
        if number % apart != begin and step not in ALWAYS:
            continue
        fault = Fault(step, moment, stays)
        told = failing(world, fault)
        steps += [seen for seen in fault.seen if seen not in steps]
        tried |= {step} if fault.has_failed else set()
        if told is not None:
            assert ("\n" in str(told), str(told)[-1], told.exit_code) == (False, ".", 1), str(told)
        assert told is not None or newest(world) != first, f"it said nothing of {step}"
        if newest(world) != first:
            hold_right(world, first, right, told)
            world.main()
            assert world.digests((Layer.GOLD,)) == right, step
            shutil.rmtree(home)
            shutil.copytree(saved, home, symlinks=True)
    assert tried >= ALWAYS
    assert len(tried) > ENOUGH // apart
    world.main()
    assert world.digests((Layer.GOLD,)) == right


def test_of_a_group_that_fails_no_table_is_published_that_ends_later(tmp_path: Path, kept: Kept) -> None:
    world = begun(tmp_path, kept)
    first, has_failed, is_late = newest(world), threading.Event(), threading.Event()

    def one_late(step: str, moment: str) -> None:
        match step, moment:
            case "write gold.category_store_distribution", "before":
                has_failed.set()
                raise OSError(28, "No space left on device")
            case "write gold.daily_sales", "before":
                assert has_failed.wait(HANG_SECONDS)
                time.sleep(0.5)  # meanwhile the group is given up, if nobody waits for this table
            case "write gold.daily_sales", "after":
                is_late.set()
            case "write gold.sales_totals", "before":
                assert is_late.wait(HANG_SECONDS)

    durable.watch(one_late)
    try:
        with pytest.raises(GroupFailed, match="analytics"):
            world.main()
    finally:
        durable.watch(durable.nobody)
    seen = newest(world)
    assert seen.groups == dict.fromkeys(first.groups, seen.release_id) | {"analytics": first.release_id}
    analytics = [name for name, group in GROUP.items() if group == "analytics"]
    assert {n: seen.digests[n] for n in analytics} == {n: first.digests[n] for n in analytics}
    held = {n: digest_of(world.storage, catalog.entry(n).table, seen.tables[n]) for n in GROUP}
    assert held == seen.digests


def with_trouble(world: World, trouble: Exception) -> None:
    """Run, with trouble around the group analytics as soon as its tables are begun."""
    request = world._order(False)
    events = Events(request.settings.logs, request.flow, request.run_id, Console(file=StringIO()))
    plain = plain_step(events)

    def step(name: str, work: Callable[[], Any], **others: Any) -> Any:
        if name == "gold analytics":
            raise trouble
        return plain(name, work, **others)

    job = partial(run_medallion, look=partial(find_changes, gather=_gathered), resources=world.kept.resources)
    run_recorded(request, events, step, job, lambda _: None)


def test_of_a_group_that_takes_too_long_no_table_is_published(tmp_path: Path, kept: Kept) -> None:
    """Its tables are built on meanwhile, and may be there before the release is."""
    world = begun(tmp_path, kept)
    first = newest(world)
    with pytest.raises(GroupFailed, match="analytics: it takes too long"):
        with_trouble(world, TimeoutError("it takes too long"))
    seen = newest(world)
    assert seen.groups == dict.fromkeys(first.groups, seen.release_id) | {"analytics": first.release_id}
    analytics = [name for name, group in GROUP.items() if group == "analytics"]
    assert {n: seen.tables[n] for n in analytics} == {n: first.tables[n] for n in analytics}
    assert {n: seen.digests[n] for n in analytics} == {n: first.digests[n] for n in analytics}
    assert {n: digest_of(world.storage, catalog.entry(n).table, seen.tables[n]) for n in GROUP} == seen.digests


def test_trouble_around_a_group_that_is_well_fails_the_run(tmp_path: Path, kept: Kept) -> None:
    world = begun(tmp_path, kept)
    first = newest(world)
    with pytest.raises(ConnectionError, match="nobody answers"):
        with_trouble(world, ConnectionError("nobody answers"))
    assert newest(world) == first


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    with mounted(tmp_path / "small", "8m") as folder:
        yield folder


@pytest.mark.parametrize("left", [0, 64, 256, 700])
def test_a_full_storage_keeps_the_last_release_and_goes_on_when_there_is_room(
    left: int, small: Path, tmp_path: Path, kept: Kept
) -> None:
    world = begun(tmp_path / "world", kept)
    home = world.settings.lakehouse_home
    shutil.move(home, small / "home")
    home.symlink_to(small / "home")
    world.put("transactions/c.csv", LARGE)
    first = newest(world)
    room = shutil.disk_usage(small).free - left * 1024
    (small / "filler").write_bytes(bytes(room))
    with pytest.raises(StorageFailed) as told:
        world.main()
    assert "\n" not in str(told.value)
    assert newest(world) == first
    world.hold(may_lag=True)
    (small / "filler").unlink()
    (home.parent / "transactions" / "c.csv").unlink()
    del world.landing["transactions/c.csv"]
    world.settle()


def test_a_run_whose_storage_was_slower_than_its_lease_publishes_nothing(tmp_path: Path, kept: Kept) -> None:
    world = begun(tmp_path / "world", kept)
    is_over, is_slow = threading.Event(), threading.Event()
    others: list[BaseException] = []

    def slow(step: str, moment: str) -> None:
        if (step, moment) == ("write silver.receipts", "before") and not is_slow.is_set():
            is_slow.set()
            other.start()
            assert is_over.wait(HANG_SECONDS)
        elif step == "heartbeat" and is_slow.is_set():
            is_over.wait(HANG_SECONDS)

    def run_other() -> None:
        try:
            world.main()
        except BaseException as error:  # noqa: BLE001  told by the test
            others.append(error)
        finally:
            is_over.set()

    other = threading.Thread(target=run_other)
    durable.watch(slow)
    try:
        with pytest.raises(LeaseLost, match="lost the lease"):
            world.main(seconds=SHORT)
    finally:
        durable.watch(durable.nobody)
        other.join()
    assert others == []
    world.published.append(world.shop.taking_in(world.landing))
    world.hold()
    world.settle()
