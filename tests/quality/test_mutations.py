"""Any one row removed, doubled or changed at any hop is reported, with the hop and the source or day."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.report.recorded import run_decision
from flows.run.decisions import DecisionReason, fix, waive
from lakehouse import catalog
from lakehouse.bronze import transactions
from lakehouse.ops import quarantine
from lakehouse.releases import release
from lakehouse.settings import load_settings
from lakehouse.silver import customers, product_days, receipts, sales_days
from lakehouse.sources.landing import Delivery
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from lakehouse.table import Table
from quality.gates import broken_gates, ledger_gate
from quality.ledger.ledger import accounts, earlier_counts
from quality.oracle.oracle import Recounted, figure_verdicts, recount_sources, row_verdicts
from tests.conftest import run_lakehouse

SEEDS = range(3)
LATER = "2024-01-04|105|7|1 2 3 2\n2024-02-03|105|8|2 2\n2024-02-30|105|8|2\n"
PLAIN: dict[str, Any] = {"enable_quality_checks": False, "min_rows_threshold": 1, "max_quarantine_pct": 50}
UNHELD = ("detail",)  # the words for what a refused line held
Row = dict[str, Any]


@dataclass(frozen=True)
class House:
    """A published lakehouse, and what its landed files hold."""

    storage: Storage
    versions: dict[str, int]
    sources: dict[int, Delivery]
    recount: Recounted

    def sentences(self, versions: dict[str, int]) -> list[str]:
        """Say what the ledger and the oracle report of versions."""
        counts = earlier_counts(self.storage, self.versions)
        counted = {s: (d, counts[s]._replace(sha256=d.sha256)) for s, d in self.sources.items()}
        rows = accounts(self.storage, versions, counted, "run")
        oracle = row_verdicts(self.recount, versions) + figure_verdicts(self.recount, versions)
        return broken_gates(ledger_gate(rows, versions["ops.ledger"]) + oracle)

    def changed(self, table: Table, change: Callable[[list[Row]], None]) -> list[str]:
        """Say what is reported when the rows of one table are others."""
        rows = self.storage.rows(table, self.versions[table.qualified_name]).to_pylist()
        change(rows)
        written = pa.Table.from_pylist(rows, table.arrow_schema).to_reader()
        version = self.storage.write(table, written, "mutation")
        return self.sentences(self.versions | {table.qualified_name: version})


def opened(home: Path, upon_earlier: bool = False, revised: frozenset[int] = frozenset()) -> House:
    """Recount the landed files of the newest release: all, or those revised or not in the release before."""
    storage = Storage(str(home / "tables"))
    *earlier, last = release.history(storage)
    sources = current(storage, last.tables)
    if not upon_earlier:
        return House(storage, last.tables, sources, recount_sources(storage, last.tables, sources.values()))
    base = earlier[-1].tables
    touched = revised | (frozenset(sources) ^ frozenset(current(storage, base)))
    return House(storage, last.tables, sources, recount_sources(storage, last.tables, sources.values(), touched, base))


def current(storage: Storage, versions: dict[str, int]) -> dict[int, Delivery]:
    rows = storage.rows(*at("ops.sources", versions), filters=pc.field("status") == "current").to_pylist()
    found = [Delivery(r["entity"], r["path"], r["location"], r["sha256"], r["bytes"]) for r in rows]
    return {d.source_id: d for d in found}


def at(name: str, versions: dict[str, int]) -> tuple[Table, int]:
    return catalog.entry(name).table, versions[name]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases: of the second, one file is new and one corrected."""
    folder = tmp_path_factory.mktemp("mutations")
    home, landing = folder / "home", folder / "landing"
    write_sample(landing, receipts=400, days=10)
    run_lakehouse(home, landing, **PLAIN)
    (landing / "transactions" / "105_Tran.csv").write_text(LATER)
    corrected = landing / "transactions" / "101_Tran.csv"
    corrected.write_bytes(b"".join(corrected.read_bytes().splitlines(keepends=True)[:-20]))
    run_lakehouse(home, landing, **PLAIN)
    return home


@pytest.fixture(scope="module")
def whole(home: Path) -> Iterator[House]:
    """All sources recounted."""
    found = opened(home)
    with found.recount.connection:
        yield found


@pytest.fixture(scope="module")
def upon(home: Path) -> Iterator[House]:
    """What came and what went recounted, upon the first release."""
    found = opened(home, upon_earlier=True)
    with found.recount.connection:
        yield found


def removed(rows: list[Row], at: int, _: random.Random) -> None:
    del rows[at]


def doubled(rows: list[Row], at: int, _: random.Random) -> None:
    rows.append(rows[at])


def altered(rows: list[Row], at: int, chance: random.Random) -> None:
    column = chance.choice([name for name in rows[at] if name not in UNHELD])
    rows[at] = rows[at] | {column: other(rows[at][column], chance)}


def other(value: Any, chance: random.Random) -> Any:
    match value:
        case int():
            return value + chance.choice((-1, 1, 7))
        case str():
            return chance.choice((value + "0", "9" + value[1:], value[:-1]))
        case list():
            return chance.choice((value[:-1], [*value, 1], [value[0] + 1, *value[1:]]))
        case _:
            return value + timedelta(days=chance.choice((-1, 1, 40)))


HOPS = {
    transactions.TABLE.qualified_name: "landing to bronze",
    receipts.TABLE.qualified_name: "to silver",
    quarantine.TABLE.qualified_name: "to quarantine",
    product_days.TABLE.qualified_name: "silver.product_days",
    sales_days.TABLE.qualified_name: "silver.sales_days",
}
CHANGES = (removed, doubled, altered)


@pytest.mark.parametrize("name", HOPS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", SEEDS)
def test_any_one_row_is_missed_and_named(
    whole: House, name: str, change: Callable[[list[Row], int, random.Random], None], seed: int
) -> None:
    chance = random.Random(f"{name} {change.__name__} {seed}")
    touched: list[Row] = []

    def mutate(rows: list[Row]) -> None:
        at = chance.choice([n for n, row in enumerate(rows) if row.get("entity", "transactions") == "transactions"])
        touched.append(dict(rows[at]))
        change(rows, at, chance)

    said = whole.changed(catalog.entry(name).table, mutate)
    (row,) = touched
    place = whole.sources[row["source_id"]].path if "source_id" in row else row["sold_on"].isoformat()
    assert any(HOPS[name] in sentence and place in sentence for sentence in said), said
    tables = {sentence.split(" ")[0] for sentence in said}
    assert tables <= {name, "ops.ledger"}


def test_of_what_was_written_nothing_is_reported(whole: House, upon: House) -> None:
    assert whole.sentences(whole.versions) == []
    assert upon.sentences(upon.versions) == []


def test_the_files_were_read_not_bronze(whole: House, upon: House) -> None:
    assert (whole.recount.absent, upon.recount.absent) == ((), ())
    assert all(v.passed for v in row_verdicts(whole.recount, whole.versions))


@pytest.mark.parametrize("table", [receipts.TABLE, product_days.TABLE, sales_days.TABLE], ids=lambda t: t.name)
@pytest.mark.parametrize("change", CHANGES)
def test_upon_a_release_a_row_of_what_came_is_missed(
    upon: House, table: Table, change: Callable[[list[Row], int, random.Random], None]
) -> None:
    chance = random.Random(f"{table.name} {change.__name__}")

    def mutate(rows: list[Row]) -> None:
        change(rows, next(n for n, row in enumerate(rows) if row["sold_on"].isoformat() == "2024-02-03"), chance)

    said = upon.changed(table, mutate)
    assert any(table.qualified_name in sentence and "2024-02-03" in sentence for sentence in said), said


@pytest.mark.parametrize("name", HOPS)
def test_upon_a_release_a_row_lost_from_what_was_there_is_missed(upon: House, name: str) -> None:
    """Sources not touched are not recounted: their rows are counted, and the days hold to those of the release."""
    path = "transactions/102_Tran.csv"
    kept = next(s for s, found in upon.sources.items() if found.path == path)

    def mutate(rows: list[Row]) -> None:
        wanted = ("source_id", kept) if "source_id" in rows[0] else ("month", "2024-01")
        del rows[next(n for n, row in enumerate(rows) if row[wanted[0]] == wanted[1])]

    said = upon.changed(catalog.entry(name).table, mutate)
    assert any(path in s or (name in s and "2024-01-" in s) for s in said), said


@pytest.mark.parametrize(
    ("name", "column", "place"),
    [
        ("gold.product_sales", "units", "product "),
        ("gold.product_sales", "receipts", "product "),
        ("gold.daily_sales", "customers", "2024-0"),
        ("gold.sales_totals", "stores", "in all"),
        ("gold.sales_totals", "customers", "in all"),
    ],
)
def test_a_published_figure_that_is_wrong_is_named(whole: House, name: str, column: str, place: str) -> None:
    def mutate(rows: list[Row]) -> None:
        rows[0][column] += 1

    (said,) = whole.changed(catalog.entry(name).table, mutate)
    assert name in said
    assert place in said
    assert f"{column} " in said
    assert "expected" in said


def test_a_customer_lost_is_missed(whole: House) -> None:
    (said,) = whole.changed(customers.TABLE, lambda rows: rows.pop())
    assert said.startswith("silver.customers")
    assert f"customers {len(whole.storage.rows(*at('silver.customers', whole.versions)))} expected" in said


def test_a_file_that_is_gone_is_recounted_from_bronze_and_told(home: Path, whole: House, tmp_path: Path) -> None:
    first, *others = whole.sources.values()
    gone = replace(first, location=str(tmp_path / "gone.csv"))
    other_bytes = tmp_path / "other.csv"
    other_bytes.write_text("2024-01-01|101|7|1\n")
    found = [gone, *(replace(d, location=str(other_bytes)) if d.path.endswith("103_Tran.csv") else d for d in others)]
    recount = recount_sources(whole.storage, whole.versions, found)
    with recount.connection:
        verdicts = row_verdicts(recount, whole.versions) + figure_verdicts(recount, whole.versions)
    assert broken_gates(verdicts) == []
    told = [v for v in verdicts if not v.passed]
    assert [v.severity for v in told] == ["warning"]
    assert "103_Tran.csv" in told[0].observed


def is_corrected(row: Row) -> bool:
    return bool(row["products"] == [4, 9, 9] and row["customer_id"] == 17)


def test_a_line_is_recounted_as_it_was_decided(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "tables", tmp_path / "home" / "tables")
    settings, ana = load_settings(lakehouse_home=tmp_path / "home"), DecisionReason("Ana", "read from the till roll")
    house = opened(home)
    with house.recount.connection:
        refused = house.storage.rows(*at("ops.quarantine", house.versions)).to_pylist()
    (path, number), (other_path, other_number) = (
        (house.sources[row["source_id"]].path, row["line_number"]) for row in refused[:2]
    )
    run_decision("workbench", settings, lambda request: waive(request, path, number, ana))
    run_decision(
        "workbench", settings, lambda request: fix(request, other_path, other_number, "2024-01-05|101|17|4 9 9", ana)
    )
    for now in (opened(tmp_path / "home"), opened(tmp_path / "home", True, frozenset({refused[1]["source_id"]}))):
        with now.recount.connection:
            assert now.sentences(now.versions) == []
            said = now.changed(receipts.TABLE, lambda rows: rows.remove(next(r for r in rows if is_corrected(r))))
            assert any(s.startswith("silver.receipts") and f"{other_path}, 2024-01-05" in s for s in said)
            said = now.changed(
                quarantine.TABLE, lambda rows: next(r for r in rows if r["status"] == "replayed").update(status="open")
            )
            assert any(s.startswith("ops.quarantine") for s in said)
