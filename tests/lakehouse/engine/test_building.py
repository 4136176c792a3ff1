"""Builds that are run and committed: versions, scope, who commits, and what a failure takes with it."""

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from lakehouse import catalog
from lakehouse.bronze import transactions
from lakehouse.catalog import Entry
from lakehouse.engine.building import (
    MISREAD,
    BuildContext,
    Building,
    Scope,
    Written,
    condition,
    digest_of,
    refresh,
    urgent_first,
)
from lakehouse.engine.session import Engine
from lakehouse.errors import BadInput, BrokenContract, BuildFailed, InputFailed
from lakehouse.frames.kernels import map_batches
from lakehouse.gold.analytics import daily_sales, monthly_sales
from lakehouse.gold.summary import product_sales
from lakehouse.kernels.growth import Grown
from lakehouse.ops import corrections, sources
from lakehouse.parameters import Parameters
from lakehouse.silver import customers, product_categories, receipts, sales_days
from lakehouse.storage.tables import Storage
from lakehouse.table import STRING, Column, Table
from tests.rows import Row, arrow_rows

ENTRY = catalog.entry
DAYS = "silver.sales_days"


def receipt(sold_on: str, customer_id: int, units: int = 1) -> Row:
    on = date.fromisoformat(sold_on)
    return {"month": sold_on[:7], "sold_on": on, "customer_id": customer_id, "units": units, "line_number": customer_id}


@pytest.fixture
def context(engine: Engine, tmp_path: Path) -> BuildContext:
    storage = Storage(str(tmp_path / "tables"))
    versions = {t.qualified_name: storage.create(t, "r1") for t in (receipts.TABLE, sales_days.TABLE)}
    return BuildContext(engine, storage, Parameters(), "r2", versions)


def given(context: BuildContext, table: Table, rows: Iterable[Row]) -> None:
    """Write the rows of an input."""
    context.storage.create(table, "r1")
    made = arrow_rows(table, rows).to_reader()
    context.versions[table.qualified_name] = context.storage.write(table, made, "r1")


def days(context: BuildContext) -> list[tuple[date, int]]:
    rows = context.storage.rows(sales_days.TABLE, context.versions[DAYS]).to_pylist()
    return sorted((row["sold_on"], row["receipts"]) for row in rows)


def test_a_table_is_built_of_the_versions_at_hand(context: BuildContext) -> None:
    given(context, receipts.TABLE, [receipt("2024-01-05", 1), receipt("2024-01-05", 2)])
    at_hand = context.versions["silver.receipts"]
    given(context, receipts.TABLE, [])
    context.versions["silver.receipts"] = at_hand
    written = refresh(context, ENTRY(DAYS))
    assert (written.version, written.rows, written.digest) == (1, 1, None)
    assert context.versions[DAYS] == 1
    assert days(context) == [(date(2024, 1, 5), 2)]


def test_an_input_may_lack_a_column_that_is_declared_by_now(context: BuildContext) -> None:
    given(context, receipts.TABLE, [receipt("2024-01-05", 1)])
    ticket = Column("ticket", STRING, "The ticket's number.", nullable=True)
    newer = replace(receipts.TABLE, columns=(*receipts.TABLE.columns, ticket))
    refresh(context, replace(ENTRY(DAYS), table=replace(sales_days.TABLE, inputs={"receipts": newer})))
    assert days(context) == [(date(2024, 1, 5), 1)]


def test_a_failure_is_told_when_nothing_asked_for_is_being_written_any_more(context: BuildContext) -> None:
    given(context, receipts.TABLE, [receipt("2024-01-05", 1)])
    for table in (sales_days.TABLE, daily_sales.TABLE):
        context.versions[table.qualified_name] = context.storage.create(table, "r1")
    has_failed = threading.Event()

    def broken(**_: DataFrame) -> DataFrame:
        has_failed.set()
        raise ValueError("broken")

    def late(receipts: DataFrame) -> DataFrame:
        assert has_failed.wait(60)
        return sales_days.build(receipts)

    failing = Entry(replace(monthly_sales.TABLE, inputs={}), broken, "")
    building = Building(context, [failing, Entry(sales_days.TABLE, late, "")], lambda _: None)
    with pytest.raises(ValueError, match="broken"):
        building.wait([monthly_sales.TABLE, sales_days.TABLE])
    assert context.versions[DAYS] == 1
    building.close()


def test_only_the_touched_months_are_built_anew(context: BuildContext) -> None:
    given(context, receipts.TABLE, [receipt("2024-01-05", 1), receipt("2024-02-05", 2)])
    refresh(context, ENTRY(DAYS))
    given(context, receipts.TABLE, [receipt("2024-02-06", 1), receipt("2024-02-06", 2)])  # January is not looked at
    refresh(replace(context, scope=Scope(months=frozenset({"2024-02"}))), ENTRY(DAYS))
    assert days(context) == [(date(2024, 1, 5), 1), (date(2024, 2, 6), 2)]


@pytest.mark.parametrize(("misreadings", "is_built"), [(1, True), (9, False)])
def test_a_version_that_sail_misread_is_read_again(context: BuildContext, misreadings: int, is_built: bool) -> None:
    entry, left = ENTRY(DAYS), iter(range(misreadings))

    def build(receipts: DataFrame) -> DataFrame:
        if next(left, None) is not None:
            raise PySparkException(f"Python version used to compile the UDF (3.11) {MISREAD} ( .11.7)")
        assert entry.build is not None
        return entry.build(receipts)

    given(context, receipts.TABLE, [receipt("2024-01-05", 1)])
    expected = nullcontext() if is_built else pytest.raises(BuildFailed, match=MISREAD)
    with expected:
        refresh(context, replace(entry, build=build))
    assert len(days(context)) == is_built


def test_rows_that_are_here_already_are_held_to_the_table_and_written(context: BuildContext) -> None:
    rows = [{"month": "2024-01", "sold_on": date(2024, 1, 5), "receipts": 1, "units": 2, "customers": 1}]
    entry = replace(ENTRY(DAYS), build=lambda receipts: pa.Table.from_pylist(rows, sales_days.TABLE.arrow_schema))
    refresh(context, entry)
    assert days(context) == [(date(2024, 1, 5), 1)]
    with pytest.raises(BrokenContract):
        refresh(context, replace(entry, build=lambda receipts: pa.table({"month": ["2024-01"]})))


def test_more_than_the_engine_takes_at_once_is_told_in_a_sentence(context: BuildContext) -> None:
    def build(receipts: DataFrame) -> DataFrame:
        raise PySparkException("CLIENT: Sent message larger than max (152322995 vs. 134217728)")

    with pytest.raises(
        BuildFailed,
        match=r"it takes \(128 MiB\)\. Of itemsets and rules there are fewer .* when a file is delivered corrected",
    ):
        refresh(context, replace(ENTRY(DAYS), build=build))


def test_a_gold_table_is_digested(context: BuildContext) -> None:
    given(context, sales_days.TABLE, [{"sold_on": date(2024, 1, 5)}, {"sold_on": date(2024, 1, 6)}])
    context.storage.create(daily_sales.TABLE, "r1")
    written = refresh(context, ENTRY("gold.daily_sales"))
    assert written.digest == digest_of(context.storage, daily_sales.TABLE, 1)
    assert written.digest is not None and written.digest.startswith("2-")


def test_spark_commits_what_grows_with_customers_and_nothing_else(context: BuildContext) -> None:
    given(context, customers.TABLE, [{"customer_id": 4}])
    names = ("gold.customer_sales", "gold.sales_totals")
    for name in names:
        table = ENTRY(name).table
        context.storage.create(table, "r1")
        for t in table.inputs.values():
            context.versions.setdefault(t.qualified_name, context.storage.create(t, "r1"))
        refresh(context, ENTRY(name))
    by = [
        DeltaTable(context.storage.uri(ENTRY(n).table)).history()[0]
        for n in ("gold.customer_sales", "gold.sales_totals")
    ]
    assert ["Spark" in str(commit.get("engineInfo")) for commit in by] == [context.engine.name == "spark", False]


def test_a_failure_takes_with_it_what_is_made_of_it_and_nothing_else(context: BuildContext) -> None:
    def broken(receipts: DataFrame) -> DataFrame:
        raise ValueError("no days today")

    given(context, product_categories.TABLE, [])
    names = ("silver.product_days", "gold.product_sales", "gold.monthly_sales")
    for name in names:
        context.storage.create(ENTRY(name).table, "r1")
    seen: list[Written] = []
    failing = Entry(sales_days.TABLE, broken, "")
    building = Building(context, [failing, *map(ENTRY, names)], seen.append)
    building.wait([product_sales.TABLE])
    with pytest.raises(ValueError, match="no days today"):
        building.wait([sales_days.TABLE])
    with pytest.raises(InputFailed, match=r"gold\.monthly_sales was not built, because silver\.sales_days failed\."):
        building.wait([monthly_sales.TABLE])
    building.close()
    assert {w.table.qualified_name for w in seen} == {"silver.product_days", "gold.product_sales"}


def test_what_was_not_begun_when_the_building_closes_is_cancelled(sail: Engine, tmp_path: Path) -> None:
    storage, started, go = Storage(str(tmp_path)), threading.Event(), threading.Event()
    versions = {receipts.TABLE.qualified_name: storage.create(receipts.TABLE, "r1")}

    def slow(receipts: DataFrame) -> DataFrame:
        started.set()
        go.wait()
        raise ValueError("too late")

    entries = [Entry(sales_days.TABLE, slow, ""), ENTRY("gold.daily_sales")]
    building = Building(BuildContext(sail, storage, Parameters(), "r2", versions), entries, lambda _: None)
    started.wait()
    threading.Timer(0.1, go.set).start()
    building.close()
    with pytest.raises(CancelledError):
        building.wait([daily_sales.TABLE])


def test_until_the_most_urgent_table_is_there_no_other_is_begun(sail: Engine, tmp_path: Path) -> None:
    storage, begun, started, go = Storage(str(tmp_path)), list[str](), threading.Event(), threading.Event()
    versions = {receipts.TABLE.qualified_name: storage.create(receipts.TABLE, "r1")}

    def failing(name: str, until: threading.Event | None = None) -> Callable[..., DataFrame]:
        def build(receipts: DataFrame, **_: DataFrame) -> DataFrame:
            begun.append(name)
            started.set()
            if until:
                until.wait()
            raise ValueError(name)

        return build

    others = Entry(ENTRY("silver.product_days").table, failing("other"), "")
    entries = [others, Entry(sales_days.TABLE, failing("first", go), ""), ENTRY("gold.daily_sales")]
    building = Building(BuildContext(sail, storage, Parameters(), "r2", versions), entries, lambda _: None)
    started.wait()
    before = list(begun)
    go.set()
    assert before == ["first"]
    with pytest.raises(ValueError, match="other"):
        building.wait([others.table])
    building.close()
    assert begun == ["first", "other"]


@pytest.mark.parametrize(
    ("name", "scope", "sql"),
    [
        ("silver.receipts", Scope(), None),
        ("silver.receipts", Scope(sources=frozenset({3, -1})), "source_id in (-1, 3)"),
        ("silver.receipts", Scope(sources=frozenset()), "source_id is null"),
        ("silver.sales_days", Scope(months=frozenset({"2024-02", "2024-01"})), "month in ('2024-01', '2024-02')"),
        ("silver.sales_days", Scope(sources=frozenset({3})), None),
        ("gold.daily_sales", Scope(frozenset({3}), frozenset({"2024-01"})), None),
    ],
)
def test_what_is_replaced_follows_from_how_a_table_lands(name: str, scope: Scope, sql: str | None) -> None:
    assert condition(ENTRY(name).table, scope) == sql


def test_tables_are_built_after_their_inputs(context: BuildContext) -> None:
    given(context, receipts.TABLE, [receipt("2024-01-05", 1)])
    context.storage.create(daily_sales.TABLE, "r1")
    seen: list[Written] = []
    note: Callable[[Written], None] = seen.append
    building = Building(context, [ENTRY("gold.daily_sales"), ENTRY(DAYS)], note)
    assert [w.rows for w in building.wait([daily_sales.TABLE])] == [1]
    building.close()
    assert [w.table.qualified_name for w in seen] == [DAYS, "gold.daily_sales"]


def test_of_a_grown_source_lines_are_kept_and_only_those_at_its_end_are_read(context: BuildContext) -> None:
    """What is kept has other stores than its lines would give: that it was not read again shows."""
    for table in (transactions.TABLE, corrections.TABLE):
        context.versions[table.qualified_name] = context.storage.create(table, "r1")
    kept = [{"source_id": s, "line_number": n, "store_id": 90 + n, "products": [1]} for s in (1, 5) for n in (1, 2, 3)]
    given(context, receipts.TABLE, [row | {"month": "2024-01"} for row in kept])
    lines = [{"source_id": 2, "line_number": n, "line": f"2024-02-0{n}|{n}|7|1"} for n in (1, 2, 3, 4)]
    given(context, transactions.TABLE, lines)
    refresh(replace(context, scope=Scope(frozenset({1, 2}), grown=(Grown(2, 1, 2),))), ENTRY("silver.receipts"))
    rows = context.storage.rows(receipts.TABLE, context.versions["silver.receipts"]).to_pylist()
    assert sorted((r["source_id"], r["line_number"], r["store_id"], r["month"]) for r in rows) == [
        (2, 1, 91, "2024-01"),
        (2, 2, 92, "2024-01"),
        (2, 3, 3, "2024-02"),
        (2, 4, 4, "2024-02"),
        (5, 1, 91, "2024-01"),
        (5, 2, 92, "2024-01"),
        (5, 3, 93, "2024-01"),
    ]


def source_of(file: Path, admitted: bytes) -> Row:
    """Give the row of a transactions file in the table of sources."""
    row = {"source_id": 2, "location": str(file), "entity": "transactions", "status": "current"}
    return row | {"bytes": len(admitted), "sha256": hashlib.sha256(admitted).hexdigest()}


def test_a_file_with_other_bytes_than_were_admitted_is_not_read(context: BuildContext, tmp_path: Path) -> None:
    """As many lines, units and bytes: no count would tell."""
    admitted, swapped = b"2024-01-05|1|7|4 9\n", b"2024-01-05|1|8|4 9\n"
    given(context, sources.TABLE, [source_of(tmp_path / "a.csv", admitted)])
    context.versions[transactions.TABLE.qualified_name] = context.storage.create(transactions.TABLE, "r1")
    (tmp_path / "a.csv").write_bytes(swapped)
    with pytest.raises(BuildFailed, match=r"a\.csv: it does not hold the bytes any more .* Run again"):
        refresh(context, ENTRY("bronze.transactions"))
    (tmp_path / "a.csv").write_bytes(admitted)
    assert refresh(context, ENTRY("bronze.transactions")).rows == 1


def test_of_a_grown_file_bronze_reads_the_end(context: BuildContext, tmp_path: Path) -> None:
    """The lines kept are in the table already, and in the file there is something else."""
    admitted = b"other\nothers\nthird\nfourth"
    (tmp_path / "a.csv").write_bytes(admitted + b"\nwritten since")
    grown = {"carried_lines": 2, "carried_bytes": 13}
    given(context, sources.TABLE, [source_of(tmp_path / "a.csv", admitted) | grown])
    kept = [{"source_id": 1, "line_number": n, "line": f"kept {n}"} for n in (1, 2, 3)]
    given(context, transactions.TABLE, kept)
    scope = Scope(frozenset({1, 2}), grown=(Grown(2, 1, 2),))
    refresh(replace(context, scope=scope), ENTRY("bronze.transactions"))
    rows = context.storage.rows(transactions.TABLE, context.versions["bronze.transactions"]).to_pylist()
    assert sorted((r["source_id"], r["line_number"], r["line"]) for r in rows) == [
        (2, 1, "kept 1"),
        (2, 2, "kept 2"),
        (2, 3, "third"),
        (2, 4, "fourth"),
    ]


def test_what_the_longest_chain_waits_for_goes_first() -> None:
    needs = {"leaf": set(), "top": {"mid"}, "side": {"root"}, "mid": {"root"}, "root": set()}
    assert urgent_first(needs) == ["root", "mid", "leaf", "top", "side"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (lambda: ValueError("no days: today"), "was not built: ValueError: no days: today. Run again"),
        (
            lambda: BadInput("a.csv", "it is odd", "Deliver it again."),
            "was not built: a.csv: it is odd. Deliver it again.",
        ),
    ],
)
def test_what_a_kernel_raises_is_told_in_a_sentence(
    context: BuildContext, raised: Callable[[], Exception], said: str
) -> None:
    def build(receipts: DataFrame) -> DataFrame:
        def fail(rows: pa.Table) -> pa.Table:
            raise raised()

        return map_batches(receipts, fail, sales_days.TABLE)

    given(context, receipts.TABLE, [receipt("2024-01-05", 1)])
    with pytest.raises(BuildFailed) as told:
        refresh(context, replace(ENTRY(DAYS), build=build))
    assert str(told.value).startswith(f"silver.sales_days {said}")
    assert "Traceback" not in str(told.value)
