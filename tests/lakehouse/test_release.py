"""Releases: what readers see, what a run that died leaves, who wins, and the way back."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse import release
from lakehouse.errors import NotFound, NothingPublished, StorageFailed
from lakehouse.ops import releases
from lakehouse.release import Base, Release, Snapshot
from lakehouse.silver import categories, product_categories
from lakehouse.storage import Storage

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
NAMES = categories.TABLE


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "tables"))


def name(storage: Storage, *names: str) -> int:
    """Write category names; give the version."""
    rows = [{"category_id": number, "category_name": name} for number, name in enumerate(names, 1)]
    return storage.write(NAMES, pa.Table.from_pylist(rows, NAMES.arrow_schema).to_reader(), "a run")


def released(base: Base, **changed: Any) -> Release:
    """Make the release that follows a base; `changed` wins."""
    last = base.release
    facts = {
        "release_id": last.release_id + 1 if last else 1,
        "parent": last.release_id if last else None,
        "run_id": "a run",
        "run_key": "a key",
        "created_at": NOW,
        "published_at": NOW,
        "tables": base.versions,
        "groups": {"summary": 1},
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
    base = release.begin(storage, "a run")
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


def test_a_release_that_is_not_there_is_told_with_those_that_are(storage: Storage) -> None:
    publish(storage, "BREAD")
    with pytest.raises(NotFound, match=r"There is no release '7'\. There is: 1\."):
        release.at(storage, 7)
    with pytest.raises(NotFound, match=r"There is no table in the release 'gold\.nothing'\."):
        Snapshot(storage, release.latest(storage)).rows("gold.nothing")


def test_readers_see_the_release_while_newer_versions_are_there(storage: Storage) -> None:
    publish(storage, "BREAD")
    release.begin(storage, "the next run")
    name(storage, "HALF", "WRITTEN")
    assert seen(storage) == ["BREAD"]


def test_a_run_that_was_killed_is_undone_by_the_next(storage: Storage) -> None:
    published = publish(storage, "BREAD")
    release.begin(storage, "killed")
    name(storage, "HALF")
    left = name(storage, "HALF", "WRITTEN")
    base = release.begin(storage, "the next run")
    assert base.versions["silver.categories"] == left + 1
    assert storage.rows(NAMES, left + 1)["category_name"].to_pylist() == ["BREAD"]
    unchanged = product_categories.TABLE.qualified_name
    assert base.versions[unchanged] == published.tables[unchanged]


def test_a_first_run_that_was_killed_leaves_nothing(storage: Storage) -> None:
    release.begin(storage, "killed")
    left = name(storage, "HALF", "WRITTEN")
    base = release.begin(storage, "the next run")
    assert base.release is None
    assert storage.count(NAMES, base.versions["silver.categories"]) == 0
    assert base.versions["silver.categories"] == left + 1


def test_a_run_killed_while_it_began_is_begun_again(storage: Storage) -> None:
    publish(storage, "BREAD")
    name(storage, "HALF")
    once = release.begin(storage, "killed")
    again = release.begin(storage, "the next run")
    assert storage.rows(NAMES, again.versions["silver.categories"])["category_name"].to_pylist() == ["BREAD"]
    assert again.log_version == once.log_version


def test_nothing_is_restored_where_nothing_was_left(storage: Storage) -> None:
    published = publish(storage, "BREAD")
    assert release.begin(storage, "the next run").versions == published.tables


def test_a_release_on_a_log_that_moved_is_refused(storage: Storage) -> None:
    publish(storage, "BREAD")
    late = release.begin(storage, "late")
    publish(storage, "MILK")
    with pytest.raises(StorageFailed, match=rf"^Could not append to {storage.uri(releases.TABLE)}: .*\.$"):
        release.commit(storage, released(late), late)
    assert [r.release_id for r in release.history(storage)] == [1, 2]
    assert seen(storage) == ["MILK"]


def test_of_two_that_publish_at_once_one_wins(storage: Storage) -> None:
    base = release.begin(storage, "both")
    ready, lost = threading.Barrier(2), []

    def commit(run_id: str) -> None:
        ready.wait()
        try:
            release.commit(storage, released(base, run_id=run_id), base)
        except StorageFailed as error:
            lost.append(str(error))

    threads = [threading.Thread(target=commit, args=(run_id,)) for run_id in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 1
    assert len(release.history(storage)) == 1


def test_rolling_back_publishes_the_older_release_as_the_newest(storage: Storage) -> None:
    first = publish(storage, "BREAD")
    publish(storage, "MILK")
    back = release.roll_back(storage, 1, "rollback", NOW)
    assert (back.release_id, back.parent, back.tables, back.digests) == (3, 2, first.tables, first.digests)
    assert seen(storage) == ["BREAD"]
    assert len(release.history(storage)) == 3


def test_a_run_after_a_rollback_stands_on_the_older_release(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    release.roll_back(storage, 1, "rollback", NOW)
    base = release.begin(storage, "the next run")
    assert storage.rows(NAMES, base.versions["silver.categories"])["category_name"].to_pylist() == ["BREAD"]
    assert publish(storage, "EGGS").release_id == 4
    assert seen(storage) == ["EGGS"]


def test_an_unknown_release_is_not_rolled_back_to(storage: Storage) -> None:
    publish(storage, "BREAD")
    with pytest.raises(NotFound):
        release.roll_back(storage, 2, "rollback", NOW)
    assert len(release.history(storage)) == 1
