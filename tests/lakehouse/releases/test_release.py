"""Releases: what readers see, what a run that died leaves, who wins, and the way back."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.errors import ForeignWrite, LeaseLost, NotFound, NothingPublished, StorageFailed
from lakehouse.releases import lease, release
from lakehouse.releases.lease import Lease
from lakehouse.releases.release import Base, Release, Snapshot
from lakehouse.silver import categories, product_categories
from lakehouse.storage.tables import Storage

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
NAMES = categories.TABLE


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "tables"))


@pytest.fixture(autouse=True)
def _dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every holder be a process that is gone: the next run takes the lease over without waiting."""
    boot, space, *_ = lease.this_process().split(" ")
    monkeypatch.setattr(lease, "this_process", lambda: f"{boot} {space} 1 -1")


def begin(storage: Storage, run_id: str) -> Base:
    """Begin a run, under the lease."""
    return release.begin(storage, run_id, taken(storage, run_id))


def taken(storage: Storage, run_id: str) -> Lease:
    return lease.take(storage, run_id, "test", seconds=600, wait_seconds=0, tell=pytest.fail)


def name(storage: Storage, *names: str, run_id: str = "a run") -> int:
    """Write category names; give the version."""
    rows = [{"category_id": number, "category_name": name} for number, name in enumerate(names, 1)]
    return storage.write(NAMES, pa.Table.from_pylist(rows, NAMES.arrow_schema).to_reader(), run_id)


def released(base: Base, **changed: Any) -> Release:
    """Make the release that follows a base; `changed` wins."""
    last = base.release
    number = last.release_id + 1 if last else 1
    facts = {
        "release_id": number,
        "parent": last.release_id if last else None,
        "run_id": "a run",
        "run_key": "a key",
        "created_at": NOW,
        "published_at": NOW,
        "tables": base.versions,
        "groups": {"summary": number},
        "inputs_hash": "inputs",
        "digests": {"gold.daily_sales": "0-0"},
        "parameters": {"n_clusters": "4"},
        "code_version": "code",
        "engine": "sail",
        "verified": True,
    }
    return Release(**{**facts, **changed})


def publish(storage: Storage, *names: str) -> Release:
    """Do a run that writes category names and publishes them."""
    base = begin(storage, "a run")
    versions = base.versions | {NAMES.qualified_name: name(storage, *names)}
    published = released(base, tables=versions)
    release.commit(storage, published, base)
    return published


def seen(storage: Storage) -> list[str]:
    """Give the category names readers see."""
    names: list[str] = Snapshot(storage, release.latest(storage)).rows("silver.categories")["category_name"].to_pylist()
    return sorted(names)


def test_before_the_first_release_there_is_nothing(storage: Storage) -> None:
    assert release.history(storage) == []
    with pytest.raises(NothingPublished, match=r"There is no release in .* yet\. `lakehouse run` makes the first\."):
        release.latest(storage)


def test_a_release_is_read_as_it_was_written(storage: Storage) -> None:
    first, second = publish(storage, "BREAD"), publish(storage, "BREAD", "MILK")
    assert release.history(storage) == [first, second]
    assert release.latest(storage) == second
    assert release.at(storage, 1) == first
    assert second.parent == 1


def test_the_groups_of_a_release_are_in_order(storage: Storage) -> None:
    base = begin(storage, "a run")
    release.commit(storage, released(base, groups={"summary": 1, "analytics": 1, "clustering": 1}), base)
    assert list(release.latest(storage).groups) == ["analytics", "clustering", "summary"]


def test_a_release_that_is_not_there_is_told_with_those_that_are(storage: Storage) -> None:
    publish(storage, "BREAD")
    with pytest.raises(NotFound, match=r"There is no release '7'\. There is: 1\."):
        release.at(storage, 7)
    with pytest.raises(NotFound, match=r"There is no table in the release 'gold\.nothing'\."):
        Snapshot(storage, release.latest(storage)).rows("gold.nothing")


def test_the_newest_release_is_the_last_of_all(storage: Storage) -> None:
    assert release.newest(storage) is None
    begin(storage, "a run that publishes nothing")
    assert release.newest(storage) is None
    for name in ("BREAD", "MILK"):
        published = publish(storage, name)
        assert release.newest(storage) == published == release.history(storage)[-1]


def test_readers_see_the_release_while_newer_versions_are_there(storage: Storage) -> None:
    publish(storage, "BREAD")
    begin(storage, "the next run")
    name(storage, "HALF", "WRITTEN")
    assert seen(storage) == ["BREAD"]


def test_a_run_that_was_killed_is_undone_by_the_next(storage: Storage) -> None:
    published = publish(storage, "BREAD")
    begin(storage, "killed")
    name(storage, "HALF")
    left = name(storage, "HALF", "WRITTEN")
    base = begin(storage, "the next run")
    assert base.versions["silver.categories"] == left + 1
    assert storage.rows(NAMES, left + 1)["category_name"].to_pylist() == ["BREAD"]
    unchanged = product_categories.TABLE.qualified_name
    assert base.versions[unchanged] == published.tables[unchanged]


def test_a_first_run_that_was_killed_leaves_nothing(storage: Storage) -> None:
    begin(storage, "killed")
    left = name(storage, "HALF", "WRITTEN")
    base = begin(storage, "the next run")
    assert base.release is None
    assert storage.count(NAMES, base.versions["silver.categories"]) == 0
    assert base.versions["silver.categories"] == left + 1


def test_a_run_killed_while_it_began_is_begun_again(storage: Storage) -> None:
    publish(storage, "BREAD")
    name(storage, "HALF")
    begin(storage, "killed")
    again = begin(storage, "the next run")
    assert storage.rows(NAMES, again.versions["silver.categories"])["category_name"].to_pylist() == ["BREAD"]


def test_nothing_is_restored_where_nothing_was_left(storage: Storage) -> None:
    published = publish(storage, "BREAD")
    assert begin(storage, "the next run").versions == published.tables


def test_a_run_whose_lease_was_taken_over_cannot_publish(storage: Storage) -> None:
    publish(storage, "BREAD")
    late = begin(storage, "late")
    publish(storage, "MILK")
    with pytest.raises(LeaseLost, match=r"This run lost the lease on .*: test a run took it over\."):
        release.commit(storage, released(late, run_id="late"), late)
    assert [r.release_id for r in release.history(storage)] == [1, 2]
    assert seen(storage) == ["MILK"]


def test_a_late_write_of_a_dead_run_never_slips_into_a_release(storage: Storage) -> None:
    publish(storage, "BREAD")
    base = begin(storage, "a run")
    foreign = name(storage, "LATE", run_id="dead")
    versions = base.versions | {NAMES.qualified_name: name(storage, "MILK")}
    told = rf"Version {foreign} of silver\.categories was written by dead, not by this run"
    with pytest.raises(ForeignWrite, match=told):
        release.commit(storage, released(base, tables=versions), base)
    assert seen(storage) == ["BREAD"]


def test_a_table_that_does_not_open_is_not_published(storage: Storage) -> None:
    publish(storage, "BREAD")
    base = begin(storage, "a run")
    Path(storage.uri(NAMES), "_delta_log", "00000000000000000000.json").unlink()
    with pytest.raises(StorageFailed, match="Could not read .*/silver/categories"):
        release.commit(Storage(storage.root), released(base), base)
    assert len(release.history(storage)) == 1


def test_a_table_whose_log_is_gone_is_not_made_anew_in_its_place(storage: Storage) -> None:
    publish(storage, "Bread")
    log = Path(storage.uri(NAMES), "_delta_log")
    away = log.rename(log.parent.with_name("away"))
    later = Storage(storage.root)
    with pytest.raises(StorageFailed, match="Could not restore .*/categories"):
        begin(later, "another run")
    assert not log.exists()
    away.rename(log)
    assert begin(Storage(storage.root), "another run").versions[NAMES.qualified_name] == 1


def test_of_two_that_publish_at_once_one_wins(storage: Storage) -> None:
    first = begin(storage, "one")
    believed = replace(first.lease.holder, epoch=first.lease.epoch + 1)  # on the same version of the log
    second = Base(first.release, Lease(storage, believed, first.lease._version), first.versions)
    ready, lost = threading.Barrier(2), []

    def commit(base: Base, key: str) -> None:
        ready.wait()
        try:
            release.commit(storage, released(base, run_key=key), base)
        except LeaseLost as error:
            lost.append(str(error))

    threads = [threading.Thread(target=commit, args=pair) for pair in ((first, "one"), (second, "other"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 1
    assert len(release.history(storage)) == 1


def test_a_group_is_told_of_by_the_release_that_made_it(storage: Storage) -> None:
    publish(storage, "BREAD")
    base = begin(storage, "a run")
    versions = base.versions | {NAMES.qualified_name: name(storage, "MILK")}
    release.commit(storage, released(base, tables=versions, groups={"summary": 1, "analytics": 2}), base)
    opened = release.by_group(Snapshot(storage, release.latest(storage)))
    assert {group: one.rows("silver.categories")["category_name"].to_pylist() for group, one in opened.items()} == {
        "summary": ["BREAD"],
        "analytics": ["MILK"],
    }


def test_rolling_back_publishes_the_older_release_as_the_newest(storage: Storage) -> None:
    first = publish(storage, "BREAD")
    publish(storage, "MILK")
    back = release.roll_back(storage, 1, taken(storage, "rollback"), NOW)
    assert (back.release_id, back.parent, back.tables, back.digests) == (3, 2, first.tables, first.digests)
    assert seen(storage) == ["BREAD"]
    assert len(release.history(storage)) == 3


def test_a_run_after_a_rollback_stands_on_the_older_release(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    release.roll_back(storage, 1, taken(storage, "rollback"), NOW)
    base = begin(storage, "the next run")
    assert storage.rows(NAMES, base.versions["silver.categories"])["category_name"].to_pylist() == ["BREAD"]
    assert publish(storage, "EGGS").release_id == 4
    assert seen(storage) == ["EGGS"]


def test_an_unknown_release_is_not_rolled_back_to(storage: Storage) -> None:
    publish(storage, "BREAD")
    with pytest.raises(NotFound):
        release.roll_back(storage, 2, taken(storage, "rollback"), NOW)
    assert len(release.history(storage)) == 1
