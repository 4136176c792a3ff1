"""`lakehouse.open`: the front door for whoever reads releases, and the page that explains it."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

import lakehouse
from lakehouse import catalog
from lakehouse.engine.session import Engine
from lakehouse.errors import LakehouseError, NotFound, NothingPublished, NotKept, StorageFailed, WrongUse
from lakehouse.releases import reader, retention
from lakehouse.releases.pins import Change
from lakehouse.releases.reader import ReleaseReader
from lakehouse.releases.release import Snapshot
from lakehouse.releases.retention import Rule
from lakehouse.sources.sample import write_sample
from lakehouse.storage import durable
from lakehouse.storage.tables import Storage
from tests.conftest import run_lakehouse
from tests.rows import digest_of

PROJECT = Path(__file__).parents[3]
ASKED: dict[str, Any] = {"enable_quality_checks": False, "min_rows_threshold": 0, "min_support": 0.05}
LATER = Change("a run", "somebody", datetime.now(UTC) + timedelta(days=2))
LAST_ONE = Rule(daily=1, monthly=0)
EXPIRED = r"Release 1 was not kept and cannot be read any more\. Choose one of: 2\."


class Shop(NamedTuple):
    """A home with two releases, the second of which has a receipt more; nobody changes it."""

    home: Path
    landing: Path

    @property
    def root(self) -> Path:
        return self.home / "tables"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("landing") / "files")
    write_sample(made.landing, receipts=400, days=40)
    run_lakehouse(made.home, made.landing, **ASKED)
    (made.landing / "transactions" / "900_Tran.csv").write_text("2024-02-03|900|7|1 2 3\n")
    run_lakehouse(made.home, made.landing, **ASKED)
    return made


@pytest.fixture
def copy(shop: Shop, tmp_path: Path) -> Path:
    """The root of a lakehouse of the test's own."""
    return shutil.copytree(shop.root, tmp_path / "tables")


def names_of(opened: ReleaseReader) -> list[str]:
    return [table.name for table in opened.tables()] + opened.logs()


def fresh_digests(opened: ReleaseReader) -> dict[str, str]:
    return {name: digest_of(catalog.entry(name).table, opened.arrow(name)) for name in opened.release.digests}


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))


def test_importing_the_package_loads_no_library_and_reading_starts_no_engine(shop: Shop) -> None:
    asked = f"""
import sys, lakehouse
assert not {{"pyarrow", "pyspark", "deltalake", "duckdb", "pandas"}} & set(sys.modules)
with lakehouse.open({str(shop.root)!r}) as opened:
    opened.duckdb().sql("select * from gold.sales_totals").fetchall()
    opened.pandas("gold.daily_sales")
assert "pysail" not in sys.modules
from pyspark.sql import SparkSession
assert SparkSession.getActiveSession() is None
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", asked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_table_and_log_is_the_same_in_arrow_pandas_and_duckdb(shop: Shop) -> None:
    with lakehouse.open(shop.root) as opened:
        assert {t.qualified_name for t in catalog.tables()} - set(names_of(opened)) == {
            "ops.retention"
        }  # nobody vacuumed
        database = opened.duckdb()
        for name in names_of(opened):
            rows = opened.arrow(name)
            asked = database.sql(f"select * from {name}").to_arrow_table()
            assert in_order(asked.to_pylist()) == in_order(rows.to_pylist()), name
            frame = opened.pandas(name)
            assert (list(frame.columns), len(frame)) == (rows.column_names, rows.num_rows), name
            assert opened.dataset(name).to_table().equals(rows), name
        rows_of = {table.name: table.rows for table in opened.tables()}
        assert rows_of == {name: opened.arrow(name).num_rows for name in rows_of}


def test_a_release_is_what_it_was_published_as(shop: Shop) -> None:
    for number in (1, 2):
        opened = lakehouse.open(shop.root, number)
        assert opened.release.release_id == number
        assert fresh_digests(opened) == opened.release.digests
        assert repr(opened) == f"<release {number} of {shop.root}>"


def test_two_releases_are_open_at_once(shop: Shop) -> None:
    with lakehouse.open(shop.root, 1) as before, lakehouse.open(shop.root) as after:
        asked = "select receipts, units from gold.sales_totals"
        (was,), (now,) = before.duckdb().sql(asked).fetchall(), after.duckdb().sql(asked).fetchall()
        assert (now[0] - was[0], now[1] - was[1]) == (1, 3)
        assert before.arrow("gold.daily_sales") != after.arrow("gold.daily_sales")
        assert [row for row in before.arrow("ops.releases").to_pylist() if row["release_id"] == 2]  # a log is as it is


def test_frames_of_pandas_have_dates_and_times_and_maps(shop: Shop) -> None:
    opened = lakehouse.open(shop.root)
    days = opened.pandas("gold.daily_sales").set_index("sold_on")["units"]
    assert days.resample("MS").sum().sum() == opened.arrow("gold.sales_totals")["units"][0].as_py()
    releases = opened.pandas("ops.releases").sort_values("release_id")
    assert isinstance(releases["published_at"].dtype, pd.DatetimeTZDtype)
    assert releases["tables"].iloc[-1] == opened.release.tables


def test_a_place_is_a_folder_a_link_or_what_the_settings_say(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(shop.root)
    monkeypatch.chdir(shop.home)
    opened = [lakehouse.open("tables"), lakehouse.open(tmp_path / "link"), lakehouse.open(str(shop.root))]
    monkeypatch.setenv("LAKEHOUSE_HOME", str(shop.home))
    opened.append(lakehouse.open())
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(shop.root))
    opened.append(lakehouse.open(release=np.int64(2)))  # type: ignore[arg-type]  # as out of a frame
    monkeypatch.chdir(tmp_path)  # what was opened stays open
    assert {one.arrow("gold.sales_totals")["receipts"][0].as_py() for one in opened} == {401}
    assert {one.release.release_id for one in opened} == {2}


def test_only_the_files_that_are_needed_are_read(copy: Path) -> None:
    opened = lakehouse.open(copy)
    for file in (copy / "silver" / "receipts" / "month=2024-01").glob("*.parquet"):
        file.unlink()
    february = pc.field("month") == "2024-02"
    found = opened.dataset("silver.receipts").to_table(columns=["units"], filter=february)
    asked = opened.duckdb().sql("select units from silver.receipts where month = '2024-02'").fetchall()
    assert sorted(found["units"].to_pylist()) == sorted(units for (units,) in asked) != []


def test_at_every_step_of_a_run_one_release_is_seen_whole(shop: Shop, tmp_path: Path) -> None:
    home, landing = tmp_path / "home", tmp_path / "landing"
    shutil.copytree(shop.root, home / "tables")
    shutil.copytree(shop.landing, landing)
    (landing / "transactions" / "901_Tran.csv").write_text("2024-02-04|901|8|1 2\n")
    held = lakehouse.open(home / "tables")
    seen: list[tuple[str, int, bool, int]] = []
    one_by_one = threading.Lock()

    def look(step: str, moment: str) -> None:
        with one_by_one:
            opened = lakehouse.open(home / "tables")
            is_whole = fresh_digests(opened) == opened.release.digests
            seen.append((f"{moment} {step}", opened.release.release_id, is_whole, len(held.arrow("silver.receipts"))))

    durable.watch(look)
    try:
        run_lakehouse(home, landing, **ASKED)
    finally:
        durable.watch(durable.nobody)
    numbers = [number for _, number, _, _ in seen]
    assert (numbers[0], numbers[-1], numbers) == (2, 3, sorted(numbers))
    assert [moment for moment, *_, is_whole, _ in seen if not is_whole] == []
    assert {count for *_, count in seen} == {401}


def test_of_a_release_that_expired_every_way_in_is_one_sentence(copy: Path, sail: Engine) -> None:
    held, storage = lakehouse.open(copy, 1), Storage(str(copy))
    with held, pytest.raises(NotKept, match=EXPIRED), lakehouse.open(copy, 1) as opened:
        database, rows = opened.duckdb(), opened.dataset("gold.sales_totals")
        retention.vacuum(storage, LAST_ONE, LATER)
        with pytest.raises(duckdb.Error):
            database.sql("select * from gold.sales_totals").fetchall()
        rows.to_table()
    asked: list[Callable[[], object]] = [
        lambda: held.arrow("gold.sales_totals"),
        lambda: held.pandas("gold.sales_totals"),
        lambda: held.dataset("gold.sales_totals"),
        lambda: held.spark(sail.session, "gold.sales_totals"),
        held.tables,
        held.duckdb,
        lambda: lakehouse.open(copy, 1),
    ]
    for ask in asked:
        with pytest.raises(NotKept, match=EXPIRED):
            ask()
    assert lakehouse.open(copy).arrow("gold.sales_totals").num_rows == 1
    with pytest.raises(ZeroDivisionError), held:  # an error of another kind stays what it is
        _ = 1 / 0


def test_a_query_that_fails_on_a_release_that_expired_says_that_it_did(copy: Path) -> None:
    with pytest.raises(NotKept, match=EXPIRED), lakehouse.open(copy, 1) as opened:
        database = opened.duckdb()
        retention.vacuum(Storage(str(copy)), LAST_ONE, LATER)
        database.sql("select * from gold.sales_totals").fetchall()
    with pytest.raises(duckdb.Error, match="nowhere"), lakehouse.open(copy) as opened:
        opened.duckdb().sql("select * from nowhere")


def test_connections_are_closed_with_the_reader(shop: Shop) -> None:
    with lakehouse.open(shop.root) as opened:
        one, other = opened.duckdb(), opened.duckdb()
        other.close()
        assert one.sql("select count(*) from gold.daily_sales").fetchall() == [(40,)]
    with pytest.raises(duckdb.ConnectionException):
        one.sql("select 1")


def test_times_in_duckdb_are_in_utc(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    with lakehouse.open(shop.root) as opened:
        (found,) = opened.duckdb().sql("select timestamptz '2024-01-01 00:30:00+00' :: date").fetchall()
    assert found == (date(2024, 1, 1),)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ((7,), NotFound, r"There is no release '7'\. There is: 1, 2\."),
        ((-1,), NotFound, r"There is no release '-1'\."),
        (("1",), WrongUse, r"release is '1': it must be the number of a release, or None for the newest\."),
        ((1.0,), WrongUse, r"release is 1\.0: it must be the number of a release"),
    ],
)
def test_a_release_that_never_was_is_told_with_those_that_are(
    shop: Shop, asked: tuple[Any, ...], error: type[LakehouseError], said: str
) -> None:
    with pytest.raises(error, match=said):
        lakehouse.open(shop.root, *asked)


def test_a_name_that_is_no_table_is_told_with_those_that_are(shop: Shop, sail: Engine) -> None:
    opened = lakehouse.open(shop.root)
    asked: list[Callable[[str], object]] = [opened.arrow, opened.pandas, opened.dataset]
    asked.append(lambda name: opened.spark(sail.session, name))
    for ask in asked:
        for name in ("gold.nothing", "product_sales", "ops.retention"):
            with pytest.raises(
                NotFound, match=rf"There is no table '{name}'\. There is: .*gold\.product_sales, .*ops\.runs"
            ):
                ask(name)


def test_a_table_that_the_code_has_no_more_is_left_out(shop: Shop) -> None:
    snapshot = lakehouse.open(shop.root).snapshot
    made = replace(snapshot.release, tables=snapshot.release.tables | {"gold.of_other_code": 3})
    opened = ReleaseReader(Snapshot(snapshot.storage, made))
    assert names_of(opened) == names_of(lakehouse.open(shop.root))
    with pytest.raises(NotFound, match=r"There is no table 'gold\.of_other_code'\."):
        opened.arrow("gold.of_other_code")
    with opened.duckdb() as database:
        assert database.sql("select count(*) from gold.daily_sales").fetchall() == [(40,)]


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("nowhere/tables", NothingPublished, "There is no such folder: the tables are in LAKEHOUSE_ROOT, by default"),
        ("file", NothingPublished, "That is no folder: the tables are in LAKEHOUSE_ROOT, by default"),
        ("empty", NothingPublished, r"There is no release in .*empty yet\. `lakehouse run` makes the first\."),
        ("home", NothingPublished, r"It is a home: its tables are in .*home/tables\."),
        ("100%", WrongUse, "it must be a path without"),
        ("", WrongUse, "root is '': it must be a folder, or an address like s3://bucket/prefix"),
        ("gs://bucket/tables", WrongUse, "it must be a folder, or an address like s3://bucket/prefix"),
    ],
)
def test_a_place_without_a_release_is_a_sentence_and_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[LakehouseError], said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "home" / "tables" / "ops").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=said):
        lakehouse.open(place)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "never"))
    with pytest.raises(NothingPublished, match=r"never/tables yet\. `lakehouse run` makes the first\."):
        lakehouse.open()
    assert sorted(tmp_path.rglob("*")) == before


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def scrambled(file: Path) -> None:
    file.write_bytes(b"\0\xff{" * 200)


@pytest.mark.parametrize("harm", [Path.unlink, cut_short, scrambled], ids=["gone", "cut short", "scrambled"])
@pytest.mark.parametrize("part", ["_delta_log/00000000000000000001.json", "*.parquet"], ids=["log", "data"])
def test_a_damaged_table_is_one_sentence_and_the_others_are_read(
    copy: Path, part: str, harm: Callable[[Path], None]
) -> None:
    files = list((copy / "gold" / "product_sales").glob(part))
    assert files
    for file in files:
        harm(file)
    opened = lakehouse.open(copy)
    for ask in (opened.arrow, opened.pandas):
        with pytest.raises(StorageFailed) as told:
            ask("gold.product_sales")
        assert re.match(r"Could not read \S+/gold/product_sales: ", str(told.value))
        assert "an earlier release may be whole" in str(told.value)
        assert "<unknown>" not in str(told.value)
    assert opened.arrow("gold.daily_sales").num_rows == 40


@pytest.mark.parametrize("harm", [cut_short, scrambled])
def test_a_damaged_log_of_releases_is_one_sentence(copy: Path, harm: Callable[[Path], None]) -> None:
    harm(max((copy / "ops" / "releases" / "_delta_log").glob("*.json")))
    with pytest.raises(StorageFailed, match="Could not open .*/ops/releases"):
        lakehouse.open(copy)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_place_that_may_not_be_read_is_not_taken_for_an_empty_one(copy: Path) -> None:
    copy.chmod(0)
    try:
        with pytest.raises(StorageFailed, match="Could not open .*: .*Permission denied"):
            lakehouse.open(copy)
    finally:
        copy.chmod(0o700)


def test_a_session_of_spark_or_sail_reads_the_release_and_not_the_newest(shop: Shop, engine: Engine) -> None:
    opened = lakehouse.open(shop.root, 1)
    for name in ("gold.sales_totals", "gold.segment_profiles", "ops.sources", "ops.releases"):
        table = catalog.entry(name).table
        frame = opened.spark(engine.session, name)
        assert frame.columns == table.arrow_schema.names
        assert in_order(frame.toArrow().to_pylist()) == in_order(opened.arrow(name).to_pylist()), name
    receipts = opened.spark(engine.session, "silver.receipts")
    assert (receipts.count(), receipts.where("store_id = 900").count()) == (400, 0)


def test_where_a_path_has_spaces_sail_finds_a_release_by_a_link(shop: Shop, sail: Engine, tmp_path: Path) -> None:
    spaced = shutil.copytree(shop.root, tmp_path / "of the shop")
    with pytest.raises(StorageFailed, match="Sail finds no table under a path with spaces.*by a link that has none"):
        lakehouse.open(spaced).spark(sail.session, "gold.sales_totals")
    (tmp_path / "link").symlink_to(spaced)
    assert lakehouse.open(tmp_path / "link").spark(sail.session, "gold.sales_totals").count() == 1


def test_where_a_path_has_spaces_spark_finds_a_release(shop: Shop, spark: Engine, tmp_path: Path) -> None:
    spaced = shutil.copytree(shop.root, tmp_path / "of the shop")
    assert lakehouse.open(spaced).spark(spark.session, "gold.sales_totals").count() == 1


def test_a_session_that_finds_no_file_says_so_at_once(copy: Path, engine: Engine) -> None:
    opened = lakehouse.open(copy)
    shutil.rmtree(copy / "gold" / "sales_totals" / "_delta_log")
    with pytest.raises(StorageFailed, match="Could not open .*/gold/sales_totals: .*Check that the engine") as told:
        opened.spark(engine.session, "gold.sales_totals")
    assert "\n" not in str(told.value)


@contextmanager
def in_place_of_a_user(shop: Shop, folder: Path) -> Iterator[None]:
    """Be in a folder, with the home of the shop as the settings' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(shop.home))
        patch.chdir(folder)
        yield


def test_the_examples_of_the_docstrings_run(shop: Shop, tmp_path: Path) -> None:
    finder = doctest.DocTestFinder()
    examples = [one for place in (lakehouse, reader) for one in finder.find(place) if one.examples]
    assert {one.name.rpartition(".")[2] for one in examples} >= {"open", "tables", "dataset", "duckdb"}
    with in_place_of_a_user(shop, tmp_path):
        for example in examples:
            said: list[str] = []
            doctest.DocTestRunner().run(example, out=said.append)
            assert said == []


def examples_in(page: Path) -> list[str]:
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return blocks


def said_by(code: str, shop: Shop, folder: Path) -> str:
    """Run code as a user with the home of the shop; give what it prints."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "LAKEHOUSE_HOME": str(shop.home)}
    asked = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(asked, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_page_run_in_order(shop: Shop, tmp_path: Path) -> None:
    examples = examples_in(PROJECT / "docs" / "reading.md")
    assert len(examples) > 5
    said = said_by("".join(examples), shop, tmp_path)
    assert re.match(r"2 2\d{3}-", said)
    assert "Row(store_id=900, count=1)" in said
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_readme_runs(shop: Shop, tmp_path: Path) -> None:
    (example,) = [one for one in examples_in(PROJECT / "README.md") if "lakehouse.open()" in one]
    assert "product_id" in said_by(example, shop, tmp_path)
