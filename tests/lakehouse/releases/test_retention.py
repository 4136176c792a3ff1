"""Which releases are kept, and what vacuum leaves of the others."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import NotFound, NotKept, StorageFailed
from lakehouse.releases import lease, release
from lakehouse.releases.pins import Change, read_pins
from lakehouse.releases.release import Release, Snapshot
from lakehouse.releases.retention import Rule, kept_releases, pin, retention_reasons, unpin, vacuum
from lakehouse.silver import categories, receipts
from lakehouse.storage.durable import nobody, watch
from lakehouse.storage.tables import Storage
from tests.lakehouse.releases.test_release import NAMES, begin, name, publish, released, seen, taken

NOW = datetime(2024, 6, 30, 12, tzinfo=UTC)
EVER = Rule(daily=30, monthly=12)
LATER = Change("a run", "somebody", datetime.now(UTC) + timedelta(days=2))


def dated(number: int, day: datetime, version: int | None = None) -> Release:
    """Make a release of a day that names one table's version, its own number unless said."""
    tables = {NAMES.qualified_name: number if version is None else version}
    nothing = cast(release.Base, SimpleNamespace(release=None, versions={}))
    return released(nothing, release_id=number, published_at=day, tables=tables, groups={"summary": number})


def days_back(*ages: int) -> list[Release]:
    return [dated(number, NOW - timedelta(days=age)) for number, age in enumerate(ages, 1)]


histories = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 6), st.integers(1, 12)), max_size=12).map(
    lambda drawn: [
        replace(dated(n, NOW - timedelta(days=age), version), groups={"summary": n, "analytics": min(n, maker)})
        for n, (age, version, maker) in enumerate(drawn, 1)
    ]
)
rules = st.builds(Rule, daily=st.integers(0, 6), monthly=st.integers(0, 4))


def test_the_last_release_of_each_day_and_month_is_kept() -> None:
    found = kept_releases(days_back(61, 60, 31, 1, 1, 0, 0), frozenset(), Rule(daily=2, monthly=2))
    assert found == {3: ["monthly"], 5: ["daily"], 7: ["newest", "daily", "monthly"]}


def test_days_without_a_release_are_not_counted() -> None:
    assert list(kept_releases(days_back(400, 300, 200, 100), frozenset(), Rule(daily=3, monthly=0))) == [2, 3, 4]


def test_the_newest_is_kept_even_when_the_clock_went_back() -> None:
    found = kept_releases(days_back(2, 1, 9), frozenset(), Rule(daily=1, monthly=0))
    assert found == {2: ["daily"], 3: ["newest"]}


def test_a_release_whose_versions_a_kept_one_names_is_kept_too() -> None:
    first, second = days_back(5, 3)
    again = replace(first, release_id=3, published_at=NOW, groups={})
    found = kept_releases([first, second, again], frozenset(), Rule(0, 0))
    assert found == {1: ["shared"], 3: ["newest"]}


def test_the_releases_that_made_the_groups_of_a_kept_one_are_kept_too() -> None:
    first, second, third, fourth = days_back(5, 4, 3, 1)
    third = replace(third, groups={"summary": 1, "analytics": 3})
    fourth = replace(fourth, groups={"summary": 3, "analytics": 4, "clustering": 9})
    found = kept_releases([first, second, third, fourth], frozenset(), Rule(0, 0))
    assert found == {1: ["group"], 3: ["group"], 4: ["newest"]}


@given(histories, rules, st.frozensets(st.integers(1, 12), max_size=3))
def test_newest_and_pinned_are_always_kept(history: list[Release], rule: Rule, pinned: frozenset[int]) -> None:
    found = set(kept_releases(history, pinned, rule))
    numbers = [r.release_id for r in history]
    assert found >= (pinned & set(numbers)) | set(numbers[-1:])
    assert found <= set(numbers)


@given(histories, rules)
def test_as_many_days_and_months_are_kept_as_the_rule_says(history: list[Release], rule: Rule) -> None:
    found = kept_releases(history, frozenset(), rule)
    for reason, most, form in (("daily", rule.daily, "%Y-%m-%d"), ("monthly", rule.monthly, "%Y-%m")):
        periods = [r.published_at.strftime(form) for r in history if reason in found.get(r.release_id, [])]
        assert sorted(periods) == sorted({r.published_at.strftime(form) for r in history})[::-1][:most][::-1]


@given(histories, rules, st.frozensets(st.integers(1, 12), max_size=3))
def test_what_is_kept_stays_kept_when_the_others_are_gone(
    history: list[Release], rule: Rule, pinned: frozenset[int]
) -> None:
    found = kept_releases(history, pinned, rule)
    left = [r for r in history if r.release_id in found]
    assert kept_releases(left, pinned, rule) == found


@given(histories, rules, st.integers(0, 3), st.integers(0, 3))
def test_a_wider_rule_keeps_no_less(history: list[Release], rule: Rule, days: int, months: int) -> None:
    wider = Rule(rule.daily + days, rule.monthly + months)
    assert set(kept_releases(history, frozenset(), rule)) <= set(kept_releases(history, frozenset(), wider))


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Whoever holds its lease is a process that is gone: the next run takes it over without waiting."""
    boot, space, *_ = lease.this_process().split(" ")
    monkeypatch.setattr(lease, "this_process", lambda: f"{boot} {space} 1 -1")
    return Storage(str(tmp_path / "tables"))


def files_of(storage: Storage) -> set[Path]:
    return {file for file in Path(storage.uri(NAMES)).rglob("*") if file.is_file() and "_delta_log" not in file.parts}


def names_at(storage: Storage, number: int) -> list[str]:
    rows = Snapshot(storage, release.at(storage, number)).rows(NAMES.qualified_name)
    return sorted(rows["category_name"].to_pylist())


def test_vacuum_leaves_what_kept_releases_need_and_says_the_others_were_not_kept(storage: Storage) -> None:
    for number in range(1, 5):
        publish(storage, f"NAME {number}")
    pin(storage, 2, Change("a run", "somebody", NOW, "the audited one"))
    planned = vacuum(storage, Rule(0, 0), LATER, dry_run=True)
    before = files_of(storage)
    assert [reasons for _, reasons in retention_reasons(storage, Rule(0, 0))] == [[], ["pinned"], [], ["newest"]]
    done = vacuum(storage, Rule(0, 0), LATER)
    assert done == planned
    assert done.expired == [1, 3]
    assert {Path(storage.uri(NAMES)) / file for file in done.files[NAMES.qualified_name]} == before - files_of(storage)
    assert (names_at(storage, 2), seen(storage)) == (["NAME 2"], ["NAME 4"])
    with pytest.raises(NotKept, match=r"Release 3 was not kept and cannot be read any more\. Choose one of: 2, 4\."):
        release.at(storage, 3)
    assert [r.release_id for r in release.history(storage)] == [1, 2, 3, 4]
    assert vacuum(storage, Rule(0, 0), LATER).files == {}
    publish(storage, "NAME 5")
    assert seen(storage) == ["NAME 5"]


def test_an_expired_release_does_not_come_back_with_a_wider_rule(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    vacuum(storage, Rule(0, 0), LATER)
    assert [reasons for _, reasons in retention_reasons(storage, EVER)] == [["expired"], ["newest", "daily", "monthly"]]
    with pytest.raises(NotKept):
        pin(storage, 1, LATER)
    with pytest.raises(NotKept):
        release.roll_back(storage, 1, taken(storage, "a run"), NOW)


def test_a_dry_run_changes_nothing(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    before = {file: file.read_bytes() for file in Path(storage.root).rglob("*") if file.is_file()}
    found = vacuum(storage, Rule(0, 0), LATER, dry_run=True)
    assert found.expired == [1]
    assert found.files
    assert {file: file.read_bytes() for file in Path(storage.root).rglob("*") if file.is_file()} == before


def test_what_killed_runs_left_is_removed_a_day_later(storage: Storage) -> None:
    publish(storage, "BREAD")
    needed = files_of(storage)
    name(storage, "WRITTEN", "BY A RUN THAT DIED BEFORE ITS RELEASE")
    folder = Path(storage.uri(NAMES))
    (folder / "part-never-committed.parquet").write_bytes(b"PAR1")
    (folder / "part-half-written.parquet#1").write_bytes(b"PA")
    left = files_of(storage)
    vacuum(storage, EVER, Change("a run", "somebody", datetime.now(UTC)))
    assert files_of(storage) == left
    vacuum(storage, EVER, LATER)
    assert files_of(storage) == needed
    assert seen(storage) == ["BREAD"]
    begin(storage, "the next run")
    assert seen(storage) == ["BREAD"]


@pytest.mark.parametrize("cut_at", ["append to ops.retention", "remove a file of silver.categories"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_vacuum_that_was_cut_off_is_finished_by_the_next(cut_at: str, moment: str, storage: Storage) -> None:
    for word in ("BREAD", "MILK", "SALT"):
        publish(storage, word)
    needed = {
        Path(file).name for file in storage.dataset(NAMES, release.latest(storage).tables["silver.categories"]).files
    }

    def cut(step: str, at: str) -> None:
        if (step, at) == (cut_at, moment):
            raise InterruptedError(step)

    watch(cut)
    try:
        with pytest.raises((InterruptedError, StorageFailed), match=cut_at):
            vacuum(storage, Rule(0, 0), LATER)
    finally:
        watch(nobody)
    assert seen(storage) == ["SALT"]
    vacuum(storage, Rule(0, 0), LATER)
    assert {file.name for file in files_of(storage)} == needed
    assert read_pins(storage).expired == {1, 2}
    assert seen(storage) == ["SALT"]


def test_a_young_file_beside_old_ones_stays(storage: Storage) -> None:
    publish(storage, "BREAD")
    folder = Path(storage.uri(NAMES))
    for age, file in ((3, "old.parquet"), (0, "young.parquet")):
        (folder / file).write_bytes(b"PAR1")
        at = (datetime.now(UTC) - timedelta(days=age)).timestamp()
        os.utime(folder / file, (at, at))
    done = vacuum(storage, EVER, Change("a run", "somebody", datetime.now(UTC)))
    assert done.files == {NAMES.qualified_name: {"old.parquet": 4}}


def test_checksums_go_with_their_file(storage: Storage) -> None:
    publish(storage, "BREAD")
    (needed,) = files_of(storage)
    for file in (needed, needed.with_name("gone.parquet")):
        file.with_name(f".{file.name}.crc").write_bytes(b"crc")
    vacuum(storage, EVER, LATER)
    assert files_of(storage) == {needed, needed.with_name(f".{needed.name}.crc")}


def test_files_in_partitions_are_told_apart_too(storage: Storage) -> None:
    base = begin(storage, "a run")
    facts = {"line_number": 1, "store_id": 1, "customer_id": 1, "products": [1], "units": 1, "source_id": 1}
    for month in ("2024-01", "2024-02"):
        rows = [facts | {"month": month, "sold_on": datetime.fromisoformat(f"{month}-03").date()}]
        version = storage.write(
            receipts.TABLE, pa.Table.from_pylist(rows, receipts.TABLE.arrow_schema).to_reader(), "a run"
        )
    versions = base.versions | {receipts.TABLE.qualified_name: version}
    release.commit(storage, released(base, tables=versions), base)
    done = vacuum(storage, EVER, LATER)
    assert [file.split("/")[0] for file in done.files["silver.receipts"]] == ["month=2024-01"]
    left = Snapshot(storage, release.latest(storage)).rows("silver.receipts")
    assert left["month"].to_pylist() == ["2024-02"]


def test_before_the_first_release_only_what_nobody_needs_goes(storage: Storage) -> None:
    assert vacuum(storage, EVER, LATER) == vacuum(storage, EVER, LATER, dry_run=True)
    begin(storage, "a run")
    name(storage, "NEVER PUBLISHED")
    assert list(vacuum(storage, EVER, LATER).files) == [categories.TABLE.qualified_name]
    publish(storage, "BREAD")
    assert seen(storage) == ["BREAD"]


def test_logs_of_runs_and_releases_are_never_touched(storage: Storage) -> None:
    for word in ("BREAD", "MILK", "SALT"):
        publish(storage, word)
    pin(storage, 1, LATER)
    vacuum(storage, Rule(0, 0), LATER)
    assert [r.release_id for r in release.history(storage)] == [1, 2, 3]
    assert read_pins(storage).pinned == {1}
    assert read_pins(storage).expired == {2}


def test_a_release_outlives_checkpoints_of_its_log_by_years(storage: Storage) -> None:
    publish(storage, "BREAD")
    log = Path(storage.uri(NAMES)) / "_delta_log"
    for word in ("MILK", "SALT"):
        name(storage, word)
    DeltaTable(storage.uri(NAMES)).create_checkpoint()
    years_ago = time.time() - 9 * 365 * 86_400
    for entry in log.iterdir():
        os.utime(entry, (years_ago, years_ago))
    for _ in range(100):  # so many make delta-rs write a checkpoint, and remove older entries of the log
        name(storage, "WATER")
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2
    assert names_at(storage, 1) == ["BREAD"]


def test_a_pin_outlives_a_rollback_and_ends_with_unpin(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    pin(storage, 2, LATER)
    release.roll_back(storage, 1, taken(storage, "a run"), NOW)
    assert read_pins(storage).pinned == {2}
    unpin(storage, 2, LATER)
    assert read_pins(storage).pinned == frozenset()


def test_the_last_decision_holds_whatever_the_clock_says(storage: Storage) -> None:
    publish(storage, "BREAD")
    pin(storage, 1, LATER)
    unpin(storage, 1, replace(LATER, at=NOW))
    assert read_pins(storage).pinned == frozenset()


def test_pins_of_what_is_not_there_are_refused(storage: Storage) -> None:
    publish(storage, "BREAD")
    with pytest.raises(NotFound, match=r"There is no release '7'\. There is: 1\."):
        pin(storage, 7, LATER)
    with pytest.raises(NotFound, match=r"There is no pinned release '1'\.$"):
        unpin(storage, 1, LATER)


def test_a_kept_version_that_does_not_open_stops_before_anything_is_removed(storage: Storage) -> None:
    publish(storage, "BREAD")
    publish(storage, "MILK")
    before = files_of(storage)
    version = release.at(storage, 2).tables[NAMES.qualified_name]
    (Path(storage.uri(NAMES)) / "_delta_log" / f"{version:020}.json").write_text("no commit")
    with pytest.raises(StorageFailed):
        vacuum(storage, Rule(0, 0), LATER)
    assert files_of(storage) == before
    assert read_pins(storage).expired == frozenset()
