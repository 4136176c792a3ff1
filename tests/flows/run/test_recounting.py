"""Rows lost at rest, long after they were delivered: the next run of any kind finds them and publishes nothing."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.run.steps import run_group
from lakehouse import catalog
from lakehouse.errors import BadInput, Blocked
from lakehouse.releases import release
from lakehouse.releases.lease import Lease
from lakehouse.releases.release import Base
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.conftest import run_lakehouse

Change = Callable[[pa.Table, Storage, Base], pa.Table]
PLAIN = {"enable_quality_checks": False, "min_rows_threshold": 1, "max_quarantine_pct": 50}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a landing, and a home with its release."""
    folder = tmp_path_factory.mktemp("delivered")
    write_sample(folder / "landing", receipts=400, days=10)
    run_lakehouse(folder / "home", folder / "landing", **PLAIN)
    return folder


@pytest.fixture
def begins_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Change], None]:
    """Let the next run begin on tables of which one is changed."""
    whole = release.begin

    def begins_on(name: str, change: Change) -> None:
        def begin(storage: Storage, run_id: str, lease: Lease) -> Base:
            base = whole(storage, run_id, lease)
            table, version = catalog.entry(name).table, base.versions[name]
            rows = storage.rows(table, version)
            changed = change(rows, storage, base)
            assert changed.num_rows < rows.num_rows
            return replace(base, versions=base.versions | {name: storage.write(table, changed.to_reader(), run_id)})

        monkeypatch.setattr(release, "begin", begin)

    return begins_on


@pytest.fixture
def damage(begins_on: Callable[[str, Change], None]) -> Callable[[str, str], None]:
    """Let the next run begin on tables of which one has lost a row of a file."""

    def damage(name: str, path: str) -> None:
        def without_one(rows: pa.Table, storage: Storage, base: Base) -> pa.Table:
            known = storage.rows(catalog.entry("ops.sources").table, base.versions["ops.sources"]).to_pylist()
            source_id = next(row["source_id"] for row in known if row["path"] == path)
            at = rows["source_id"].to_pylist().index(source_id)
            return rows.take([n for n in range(rows.num_rows) if n != at])

        begins_on(name, without_one)

    return damage


@pytest.fixture
def forget(begins_on: Callable[[str, Change], None]) -> Callable[[str], None]:
    """Let the next run begin on a ledger that knows nothing of a file."""
    return lambda path: begins_on("ops.ledger", lambda rows, *_: rows.filter(pc.not_equal(rows["path"], path)))


TABLES = ("bronze.transactions", "silver.receipts", "ops.quarantine")


@pytest.mark.parametrize("name", TABLES)
def test_a_run_that_takes_in_another_file_finds_what_an_old_one_lost(
    name: str, delivered: Path, damage: Callable[[str, str], None]
) -> None:
    landing = delivered / "landing" / "transactions" / "105_Tran.csv"
    landing.write_text("2024-01-04|105|7|1 2 3\n")
    damage(name, "transactions/102_Tran.csv")
    with pytest.raises(Blocked) as blocked:
        run_lakehouse(delivered / "home", delivered / "landing", **PLAIN)
    landing.unlink()
    assert all("transactions/102_Tran.csv" in reason for reason in blocked.value.reasons)
    assert len(release.history(Storage(str(delivered / "home" / "tables")))) == 1


def test_a_run_that_takes_in_nothing_finds_it_too(delivered: Path, damage: Callable[[str, str], None]) -> None:
    damage("silver.receipts", "transactions/103_Tran.csv")
    with pytest.raises(Blocked, match=r"transactions/103_Tran\.csv add up from bronze to silver"):
        run_lakehouse(delivered / "home", delivered / "landing", **PLAIN, n_clusters=3)


def test_a_single_group_finds_it_too(
    delivered: Path, damage: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage("bronze.transactions", "transactions/104_Tran.csv")
    monkeypatch.setattr("tests.conftest.run_medallion", partial(run_group, "summary"))
    with pytest.raises(Blocked, match=r"transactions/104_Tran\.csv add up from landing to bronze"):
        run_lakehouse(delivered / "home", delivered / "landing", **PLAIN)


def test_a_source_the_ledger_forgot_is_counted_again(delivered: Path, forget: Callable[[str], None]) -> None:
    forget("transactions/102_Tran.csv")
    added = delivered / "landing" / "transactions" / "106_Tran.csv"
    added.write_text("2024-01-04|106|7|1 2 3\n")
    facts = run_lakehouse(delivered / "home", delivered / "landing", **PLAIN)
    added.unlink()
    assert "transactions/102_Tran.csv" in {row.path for row in facts.ledger}


def test_a_source_that_can_be_counted_no_more_is_named(delivered: Path, forget: Callable[[str], None]) -> None:
    forget("transactions/103_Tran.csv")
    gone = delivered / "landing" / "transactions" / "103_Tran.csv"
    content = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(BadInput, match=r"^transactions/103_Tran\.csv: it cannot be counted: .*withdraw it"):
            run_lakehouse(delivered / "home", delivered / "landing", **PLAIN, n_clusters=2)
    finally:
        gone.write_bytes(content)
