"""Releases over the years: what is kept reads and rebuilds, what is not says so, and what changed is told."""

import errno
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.audit.differences import FigureChange, ParameterChange, PeriodChange, differences
from flows.audit.origins import FILE, LINES
from flows.audit.rebuild import Part, Rebuilt, _has_same_decisions, parts_of, recompute, scratch_home
from flows.commands import comparing, keeping, reading
from flows.report.recorded import run_decision
from flows.run.decisions import DecisionReason, fix
from lakehouse import catalog
from lakehouse.errors import Blocked, LeaseTaken, NotFound, NothingPublished, NotKept, StorageFailed, WrongUse
from lakehouse.ops import corrections
from lakehouse.ops import retention as kept_table
from lakehouse.parameters import new_parameters
from lakehouse.releases import release, retention
from lakehouse.releases.lease import take
from lakehouse.releases.pins import Change, read_pins
from lakehouse.releases.release import Release, Snapshot
from lakehouse.releases.retention import Rule
from lakehouse.settings import Settings, load_settings
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from lakehouse.table import BIGINT, INT
from tests.conftest import run_lakehouse
from tests.flows.command import digests, lakehouse

DAYS = ("2024-01-10", "2024-02-10", "2024-03-01", "2024-03-01", "2024-03-02", "2024-03-03")
RULE = Rule(daily=3, monthly=2)
KEPT = [1, 2, 4, 5, 6]
ASKED: dict[str, Any] = {"enable_quality_checks": False, "min_rows_threshold": 0, "min_support": 0.05}
LATER = Change("a run", "somebody", datetime.now(UTC) + timedelta(days=2), "the audited one")


class House(NamedTuple):
    """A home with six releases, of which the rule and a pin keep five; nobody changes it."""

    home: Path
    landing: Path
    removed: retention.Vacuumed

    @property
    def storage(self) -> Storage:
        return Storage(str(self.home / "tables"))

    def at(self, number: int) -> Snapshot:
        return Snapshot(self.storage, release.at(self.storage, number))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Deliver a file more each time, correct one, and lose one; let a run be killed; then vacuum."""
    home, landing = tmp_path_factory.mktemp("house"), tmp_path_factory.mktemp("landing") / "files"
    write_sample(landing, receipts=400, days=40)
    files = landing / "transactions"
    with pytest.MonkeyPatch.context() as patch:
        for number, day in enumerate(DAYS, 1):
            if number > 1:
                (files / f"{number}00_Tran.csv").write_text(f"2024-02-0{number}|{number}00|7|1 2 3\n")
            if number == 4:
                (files / "200_Tran.csv").write_text("2024-02-02|200|7|1 2 3 4\n2024-02-09|200|8|5\n")
            patch.setattr("flows.run.attempt.datetime", clock_at(day))
            run_lakehouse(home, landing, **ASKED, n_clusters=5 if number == 6 else 4)
    (files / "300_Tran.csv").unlink()
    before = "import os, lakehouse.releases.release as module\nmodule.commit = lambda *_: os.kill(os.getpid(), 9)\n"
    more = tmp_path_factory.mktemp("more") / "files"
    shutil.copytree(landing, more)
    (more / "transactions" / "900_Tran.csv").write_text("2024-02-09|900|7|1 2 3\n")
    killed = lakehouse(home, "run", "--source", more, "--no-prefect", "--no-checks", before=before)
    assert killed.returncode == -9
    storage = Storage(str(home / "tables"))
    retention.pin(storage, 1, LATER)
    return House(home, landing, retention.vacuum(storage, RULE, LATER))


def clock_at(day: str) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromisoformat(f"{day}T06:00:00+00:00").astimezone(tz)

    return Clock


def files_in(home: Path) -> dict[Path, int]:
    """Give the files of a home and when each was written, but for PostgreSQL's, which writes when it likes."""
    parts = [part for part in home.iterdir() if part.name != "postgres"]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*"))]
    return {file: file.stat().st_mtime_ns for file in files if file.is_file()}


def settings_of(house: House) -> Settings:
    return load_settings(lakehouse_home=house.home)


def rebuilt(house: House, opened: Snapshot) -> Rebuilt:
    with scratch_home(settings_of(house), None) as home:
        return recompute(settings_of(house), opened, home, lambda _, work, **__: work())


def test_the_rule_and_the_pin_keep_five_of_six(house: House) -> None:
    listed = retention.retention_reasons(house.storage, RULE)
    assert {r.release_id: reasons for r, reasons in listed} == {
        1: ["pinned"],
        2: ["monthly"],
        3: ["expired"],
        4: ["daily"],
        5: ["daily"],
        6: ["newest", "daily", "monthly"],
    }
    assert house.removed.expired == [3]


@pytest.mark.parametrize("number", KEPT)
def test_every_kept_release_reads_and_rebuilds_after_a_vacuum(number: int, house: House) -> None:
    opened = house.at(number)
    assert digests(house.home, number) == opened.release.digests
    before = files_in(house.home)
    found = rebuilt(house, opened)
    assert found.different == []
    assert {c.table for c in found.tables if c.is_equal} == set(opened.release.digests)
    assert found.other_code == []
    lost = {"transactions/200_Tran.csv": number < 4, "transactions/300_Tran.csv": number >= 3}
    from_bronze = sorted(path for path, is_lost in lost.items() if is_lost and number > 1)
    assert sorted(origin.path for origin in found.origins if origin.taken_from == LINES) == from_bronze
    assert {origin.taken_from for origin in found.origins} <= {FILE, LINES}
    assert files_in(house.home) == before


def test_a_lakehouse_of_a_cluster_is_rebuilt_here(house: House) -> None:
    """A Spark elsewhere would not see the scratch folder."""
    settings = settings_of(house).model_copy(update={"spark_remote": "sc://127.0.0.1:1"})
    opened = house.at(1)
    with scratch_home(settings, None) as home:
        assert recompute(settings, opened, home, lambda _, work, **__: work()).different == []


def test_nothing_is_left_of_what_no_kept_release_needs(house: House) -> None:
    releases = [house.at(number).release for number in KEPT]
    for table in catalog.released_tables():
        versions = {kept.tables[table.qualified_name] for kept in releases}
        named = {file for version in versions for file in house.storage.dataset(table, version).files}
        folder = Path(house.storage.uri(table))
        left = {str(file.relative_to(folder)) for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}
        assert left == named, table.qualified_name
    assert "silver.receipts" in house.removed.files


def test_a_release_that_was_not_kept_says_so_wherever_it_is_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Release 3 was not kept and cannot be read any more. Choose one of: 1, 2, 4, 5, 6."
    done = lakehouse(house.home, "rollback", 3)
    assert (done.returncode, done.stderr.strip()) == (2, said)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(house.home))
    for ask in (lambda: reading.query("select 1", 3), lambda: comparing.rebuild(3), lambda: comparing.diff(1, 3)):
        with pytest.raises(NotKept) as refused:
            ask()
        assert str(refused.value) == said
    reading.releases(as_json=True)
    listed = {row["release_id"]: row["kept_as"] for row in json.loads(capsys.readouterr().out)}
    assert listed[3] == ["expired"]
    assert "pinned" in listed[1]


def test_pins_by_command_say_who_and_why_and_wait_for_the_writer(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(house.home / "tables", tmp_path / "tables")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("LEASE_WAIT_SECONDS", "0")
    storage = Storage(str(tmp_path / "tables"))
    keeping.pin(4, why="the bank asked")
    keeping.unpin(1)
    assert read_pins(storage).pinned == {4}
    version = storage.version(kept_table.TABLE)
    assert version is not None
    rows = storage.rows(kept_table.TABLE, version).sort_by("change_id").to_pylist()
    assert [(r["release_id"], r["state"], r["why"]) for r in rows[-2:]] == [
        (4, "pinned", "the bank asked"),
        (1, "unpinned", None),
    ]
    assert all(r["who"] for r in rows)
    with take(storage, "another run", "test", 60, 0, pytest.fail):
        for change in (keeping.vacuum, lambda: keeping.pin(2), lambda: keeping.unpin(4)):
            with pytest.raises(LeaseTaken):
                change()
        keeping.vacuum(dry_run=True)
        assert "readable any more" not in capsys.readouterr().out
        for name in ("KEEP_DAILY", "KEEP_MONTHLY"):
            monkeypatch.setenv(name, "0")
        keeping.vacuum(dry_run=True)
        assert (
            "What expired would not be readable any more: by KEEP_DAILY=0 and KEEP_MONTHLY=0" in capsys.readouterr().out
        )


def test_every_log_that_is_named_can_be_asked(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(house.home / "tables", tmp_path / "tables")
    shutil.rmtree(tmp_path / "tables" / "ops" / "retention")  # as before the first pin or vacuum
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    reading.tables()
    named = capsys.readouterr().out.rpartition("too: ")[2].strip(".\n").split(", ")
    assert {"ops.releases", "ops.runs"} <= set(named)
    for log in named:
        reading.query(f"select count(*) from {log}")


def test_a_rebuild_of_a_release_by_other_code_says_so(house: House) -> None:
    opened = house.at(1)
    assert rebuilt(house, replace(opened, release=replace(opened.release, code_version="older"))).other_code == [
        "older"
    ]


def test_a_rebuild_that_differs_names_the_tables_and_can_be_kept(house: House, tmp_path: Path) -> None:
    before = """
import lakehouse.gold.summary.product_sales as module
whole = module.build
def build(days, categories):
    return whole(days, categories).selectExpr('product_id', 'category_id', 'units', 'receipts + 1 as receipts')
module.build = build
"""
    done = lakehouse(house.home, "rebuild", "-r", 1, "--keep", tmp_path / "kept", "--json", before=before)
    assert done.returncode == 1
    assert "Release 1 was published with other digests of: gold.product_sales." in " ".join(done.stderr.split())
    assert '"different": [\n  "gold.product_sales"\n ]' in done.stdout
    assert digests(tmp_path / "kept") != digests(house.home, 1)


def test_what_a_killed_rebuild_left_is_removed_a_day_later(tmp_path: Path) -> None:
    old, young = tmp_path / "rebuild-old", tmp_path / "rebuild-young"
    for folder, days in ((old, 2), (young, 0)):
        (folder / "tables").mkdir(parents=True)
        at = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(folder, (at, at))
    notes = tmp_path / "rebuild-notes.txt"
    notes.touch()
    os.utime(notes, (0, 0))
    with scratch_home(load_settings(lakehouse_home=tmp_path), None) as scratch:
        assert set(tmp_path.iterdir()) == {young, notes, scratch}
    assert set(tmp_path.iterdir()) == {young, notes}


def test_a_rebuild_without_a_place_to_work_in_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("flows.audit.rebuild.TemporaryDirectory", refused)
    with (
        pytest.raises(StorageFailed, match="Could not make .*: Read-only file system"),
        scratch_home(load_settings(lakehouse_home=tmp_path), None),
    ):
        pass


def test_a_line_that_bronze_lost_blocks_the_rebuild(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Snapshot.rows

    def lossy(self: Snapshot, name: str, *given: Any, **named: Any) -> Any:
        rows = whole(self, name, *given, **named)
        return rows.slice(1) if name == "bronze.transactions" else rows

    monkeypatch.setattr(Snapshot, "rows", lossy)
    with pytest.raises(Blocked, match=r"the rows of transactions/200_Tran\.csv add up from landing to bronze"):
        rebuilt(house, house.at(2))


def test_corrected_lines_are_rebuilt_as_corrected(house: House, tmp_path: Path) -> None:
    shutil.copytree(house.home / "tables", tmp_path / "tables")
    copy, newest = house._replace(home=tmp_path), house.at(6)
    paths = {row["source_id"]: row["path"] for row in newest.rows("ops.sources").to_pylist()}
    refused = newest.rows("ops.quarantine", filters=pc.field("rule") == "bad_date").to_pylist()[0]
    where = (paths[refused["source_id"]], refused["line_number"])
    ana = DecisionReason("Ana", "read from the till roll")
    run_decision("workbench", settings_of(copy), lambda request: fix(request, *where, "2024-02-05|101|17|4 9 9", ana))
    corrected = copy.at(7)
    assert corrected.release.digests["gold.sales_totals"] != newest.release.digests["gold.sales_totals"]
    found = rebuilt(copy, corrected)
    assert found.different == []
    assert all(compared.is_equal for compared in found.tables)


def made(number: int, inputs: str = "same", groups: dict[str, int] | None = None, **parameters: str) -> Release:
    at = datetime(2024, 3, 1, tzinfo=UTC)
    of = groups or dict.fromkeys(("clustering", "summary"), number)
    return Release(number, None, "run", "key", at, at, {}, of, inputs, {}, parameters, "code", "sail", True)


def test_groups_are_rebuilt_with_the_parameters_they_were_made_with() -> None:
    first, second = made(1, n_clusters="4"), made(2, groups={"clustering": 2, "summary": 1}, n_clusters="5")
    ungated = {"enable_quality_checks": False, "max_quarantine_pct": 100}
    assert parts_of(second, {"clustering": second, "summary": first}, lambda _: True) == [
        Part(new_parameters(n_clusters=4, **ungated), ("summary",)),
        Part(new_parameters(n_clusters=5, **ungated), ("clustering",)),
    ]


def test_a_group_of_other_sources_is_not_rebuilt() -> None:
    first, second = made(1, "fewer"), made(2, groups={"clustering": 1, "summary": 2})
    makers = {"clustering": first, "summary": second}
    assert [part.groups for part in parts_of(second, dict.fromkeys(makers, second), lambda _: False)] == [()]
    assert [part.groups for part in parts_of(second, makers, lambda _: True)] == [("summary",)]


def test_decisions_that_were_restored_are_the_same(tmp_path: Path) -> None:
    """A run that was killed after it wrote some raised the version of the table, and no more."""
    storage, table = Storage(str(tmp_path)), corrections.TABLE
    decided = {c.name: 1 if c.type in (BIGINT, INT) else "fix" for c in table.columns} | {
        "decided_at": datetime.now(UTC)
    }
    storage.create(table, "a run")
    one = storage.write(table, pa.Table.from_pylist([decided], table.arrow_schema).to_reader(), "a run")
    none = storage.write(table, table.arrow_schema.empty_table().to_reader(), "a run that was killed")
    again = storage.restore(table, one, "the next run")
    first, killed, restored = (
        replace(made(1), tables={table.qualified_name: version}) for version in (one, none, again)
    )
    assert _has_same_decisions(Snapshot(storage, restored), first)
    assert not _has_same_decisions(Snapshot(storage, restored), killed)


def test_a_difference_names_tables_days_and_figures(house: House) -> None:
    found = differences(house.at(1), house.at(2))
    assert found.days == [PeriodChange("2024-02-02", *before_and_after(house, "2024-02-02"))]
    assert [(m.period, m.receipts_after - m.receipts_before, m.units_after - m.units_before) for m in found.months] == [
        ("2024-02", 1, 3)
    ]
    changed = {change.table: change for change in found.tables}
    receipts = changed["silver.receipts"]
    assert (receipts.rows_after - receipts.rows_before, receipts.only_before, receipts.only_after) == (1, 0, 1)
    assert (receipts.changed, receipts.periods) == (0, ["2024-02-02"])
    assert changed["gold.daily_sales"].periods == ["2024-02-02"]
    assert changed["gold.monthly_sales"].changed == 1
    assert "silver.categories" not in changed
    assert [(t.figure, t.by) for t in found.totals if t.figure in ("receipts", "units")] == [
        ("receipts", 1),
        ("units", 3),
    ]
    assert found.made_with == []


def before_and_after(house: House, day: str) -> tuple[int, ...]:
    of_day = pc.field("sold_on") == date.fromisoformat(day)
    rows = [house.at(number).rows("silver.sales_days", filters=of_day).to_pylist()[0] for number in (1, 2)]
    return tuple(row[figure] for figure in ("receipts", "units") for row in rows)


def test_a_correction_shows_rows_that_went_and_came(house: House) -> None:
    there, back = differences(house.at(2), house.at(4)), differences(house.at(4), house.at(2))
    (receipts,) = [change for change in there.tables if change.table == "silver.receipts"]
    assert (receipts.only_before, receipts.only_after) == (1, 4)
    assert [(t.figure, t.by) for t in back.totals] == [(t.figure, -t.by) for t in there.totals]
    assert FigureChange("receipts", *(sum_of(house, n) for n in (4, 2)), -3) in back.totals


def sum_of(house: House, number: int) -> int:
    found: int = house.at(number).rows("gold.sales_totals")["receipts"][0].as_py()
    return found


def test_other_parameters_are_told_and_equal_releases_hold_nothing(house: House) -> None:
    assert ParameterChange("n_clusters", "4", "5") in differences(house.at(5), house.at(6)).made_with
    same = differences(house.at(6), house.at(6))
    assert (same.tables, same.days, same.months, same.totals, same.made_with) == ([], [], [], [], [])


def test_a_table_that_one_release_lacks_is_empty_there(house: House) -> None:
    opened = house.at(1)
    tables = {name: v for name, v in opened.release.tables.items() if name != "gold.daily_sales"}
    older = replace(opened, release=replace(opened.release, tables=tables, digests={}))
    (change,) = differences(older, opened).tables
    assert (change.table, change.rows_before, change.only_after) == ("gold.daily_sales", 0, change.rows_after)


def test_what_is_not_there_is_refused(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(house.home))
    for ask in (lambda: comparing.diff(1, 99), lambda: comparing.rebuild(99), lambda: keeping.pin(99)):
        with pytest.raises(NotFound, match="There is no release '99'"):
            ask()
    with pytest.raises(WrongUse, match="--why is '': it must be a text in one line that is not empty"):
        keeping.pin(1, why="")
    with pytest.raises(NotFound, match="There is no pinned release '2'"):
        keeping.unpin(2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(WrongUse, match="a folder that is empty or not there yet"):
        comparing.rebuild(1, keep=tmp_path / "full")


def test_negative_numbers_to_keep_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_DAILY", "KEEP_MONTHLY"):
        with monkeypatch.context() as patch, pytest.raises(WrongUse, match=f"{name} is '-1'"):
            patch.setenv(name, "-1")
            keeping.vacuum()


def test_before_the_first_release_vacuum_finds_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeping.vacuum(dry_run=True, as_json=True)
    with pytest.raises(NothingPublished):
        comparing.rebuild()
    assert not home.exists()
    keeping.vacuum(as_json=True)
    assert capsys.readouterr().out.count('"expired": [],\n "files": 0') == 2
