"""The ledger over real Delta tables, made without an engine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse.bronze import categories as bronze_categories
from lakehouse.bronze import product_categories as bronze_product_categories
from lakehouse.bronze import transactions
from lakehouse.kernels import decisions, reference_rules
from lakehouse.kernels import receipt_rules as receipt_kernel
from lakehouse.kernels.lines import numbered_lines
from lakehouse.ops import corrections, ledger, quarantine
from lakehouse.silver import categories, product_categories, receipts
from lakehouse.sources import landing
from lakehouse.sources.landing import Delivery
from lakehouse.storage.tables import Storage
from lakehouse.table import Table
from quality.gates import broken_gates, ledger_gate
from quality.ledger.ledger import BRONZE, accounts
from quality.ledger.recount import Count, recount
from tests.rows import arrow_rows

FIRST = (
    b"2013-02-01|103|17|34 2 34\r\n2013-02-01|103|17|34 2 34\r\n2013-02-30|103|17|5 5\r\n\xff\r\n"
    b"2013-02-02|103|9|  7\r\n"
)
SECOND = b"\xef\xbb\xbf2013-02-01|107|17|1\n2013-02-01|107|18|\n2013-02-03|107|18|1 2 3 4"
NAMES = b"1|FRUIT, FRESH\n0|NONE\n2|BREAD"
LINKS = b"v.Code_pr|v.code\n34|1\n34|1\n34|2\nx|1\n"

LINES = pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})
Change = Callable[[pa.Table], pa.Table]


@dataclass
class House:
    """Tables made of files by the kernels, as a run would leave them."""

    storage: Storage
    versions: dict[str, int] = field(default_factory=dict)
    counted: dict[int, tuple[Delivery, Count]] = field(default_factory=dict)

    def put(self, table: Table, rows: pa.Table) -> None:
        self.storage.create(table, "run")
        reader = rows.select(table.arrow_schema.names).cast(table.arrow_schema).to_reader()
        self.versions[table.qualified_name] = self.storage.write(table, reader, "run")

    def change(self, table: Table, change: Change) -> None:
        rows = self.storage.rows(table, self.versions[table.qualified_name])
        self.put(table, change(rows.sort_by([(key, "ascending") for key in table.keys])))

    def accounts(self) -> pa.Table:
        return accounts(self.storage, self.versions, self.counted, "run")

    def differences(self) -> list[tuple[str, str, str, int]]:
        rows = self.accounts().to_pylist()
        return [(r["path"], r["hop"], r["control"], r["difference"]) for r in rows if r["difference"]]


def built(folder: Path, files: dict[str, tuple[str, bytes]]) -> House:
    """Land files {path: (entity, content)} and read them with the kernels."""
    house = House(Storage(str(folder / "tables")))
    lines: dict[str, list[pa.RecordBatch]] = {entity: [] for entity in BRONZE}
    for path, (entity, content) in files.items():
        file = folder / path.replace("/", "-")
        file.write_bytes(content)
        found = landing.delivery(entity, path, file)
        assert found.problem is None
        house.counted[found.source_id] = (found, recount(found.location))
        with file.open("rb") as opened:
            lines[entity] += numbered_lines(opened, found.source_id)
    bronze = {entity: pa.Table.from_batches(batches, LINES) for entity, batches in lines.items()}
    for entity, rows in bronze.items():
        house.put(BRONZE[entity], rows)
    house.put(receipts.TABLE, receipt_kernel.accepted_receipts(bronze["transactions"]))
    house.put(categories.TABLE, reference_rules.accepted_categories(bronze["categories"]))
    house.put(product_categories.TABLE, reference_rules.accepted_product_categories(bronze["product_categories"]))
    refused = [
        receipt_kernel.refused_receipts(bronze["transactions"]),
        reference_rules.refused_categories(bronze["categories"]),
        reference_rules.refused_product_categories(bronze["product_categories"]),
    ]
    house.put(quarantine.TABLE, pa.concat_tables(r.cast(quarantine.TABLE.arrow_schema) for r in refused))
    return house


@pytest.fixture
def house(tmp_path: Path) -> House:
    files = {
        "transactions/1.csv": ("transactions", FIRST),
        "transactions/2.csv": ("transactions", SECOND),
        "postgres/categories": ("categories", NAMES),
        "postgres/product_categories": ("product_categories", LINKS),
    }
    return built(tmp_path, files)


def of_source(house: House, path: str) -> int:
    return next(source_id for source_id, (found, _) in house.counted.items() if found.path == path)


def first_of(house: House, path: str, rows: pa.Table) -> int:
    return int(rows["source_id"].to_pylist().index(of_source(house, path)))


def without(rows: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([rows.slice(0, at), rows.slice(at + 1)])


def doubled(rows: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([rows, rows.slice(at, 1)])


def replaced(rows: pa.Table, at: int, **values: Any) -> pa.Table:
    listed = rows.to_pylist()
    listed[at] |= values
    return pa.Table.from_pylist(listed, rows.schema)


def test_what_the_kernels_made_adds_up(house: House) -> None:
    made = house.accounts()
    assert house.differences() == []
    assert made.schema == ledger.TABLE.arrow_schema
    found = {
        (r["path"], r["hop"], r["control"]): (r["expected"], r["found"], r["quarantined"]) for r in made.to_pylist()
    }
    bytes_of = dict.fromkeys({key[0] for key in found}, ("admitted to landing", "bytes"))
    assert {key: value for key, value in found.items() if key[1:] != bytes_of[key[0]]} == {
        ("transactions/1.csv", "landing to bronze", "rows"): (5, 5, 0),
        ("transactions/1.csv", "bronze to silver", "rows"): (5, 5, 2),
        ("transactions/1.csv", "landing to silver", "units"): (9, 9, 2),
        ("transactions/2.csv", "landing to bronze", "rows"): (3, 3, 0),
        ("transactions/2.csv", "bronze to silver", "rows"): (3, 3, 1),
        ("transactions/2.csv", "landing to silver", "units"): (5, 5, 0),
        ("postgres/categories", "landing to bronze", "rows"): (3, 3, 0),
        ("postgres/categories", "bronze to silver", "rows"): (3, 3, 1),
        ("postgres/product_categories", "landing to bronze", "rows"): (5, 5, 0),
        ("postgres/product_categories", "bronze to silver", "rows"): (4, 4, 1),
    }
    contents = {"transactions/1.csv": FIRST, "transactions/2.csv": SECOND}
    contents |= {"postgres/categories": NAMES, "postgres/product_categories": LINKS}
    assert {path: found[path, *hop] for path, hop in bytes_of.items()} == {
        path: (len(content), len(content), 0) for path, content in contents.items()
    }


ROWS = "bronze to silver", "rows"
UNITS = "landing to silver", "units"
LANDED = "landing to bronze", "rows"


@pytest.mark.parametrize(("change", "sign"), [(without, -1), (doubled, 1)])
@pytest.mark.parametrize(
    ("table", "path", "expected"),
    [
        (transactions.TABLE, "transactions/1.csv", [(*LANDED, 1), (*ROWS, -1)]),
        (transactions.TABLE, "transactions/2.csv", [(*LANDED, 1), (*ROWS, -1)]),
        (receipts.TABLE, "transactions/1.csv", [(*ROWS, 1), (*UNITS, 3)]),
        (receipts.TABLE, "transactions/2.csv", [(*ROWS, 1), (*UNITS, 1)]),
        (quarantine.TABLE, "transactions/1.csv", [(*ROWS, 1), (*UNITS, 2)]),
        (quarantine.TABLE, "transactions/2.csv", [(*ROWS, 1)]),
        (quarantine.TABLE, "postgres/categories", [(*ROWS, 1)]),
        (quarantine.TABLE, "postgres/product_categories", [(*ROWS, 1)]),
        (bronze_categories.TABLE, "postgres/categories", [(*LANDED, 1), (*ROWS, -1)]),
        (bronze_product_categories.TABLE, "postgres/product_categories", [(*LANDED, 1), (*ROWS, -1)]),
    ],
)
def test_a_row_lost_or_doubled_shows_where(
    house: House, change: Callable[[pa.Table, int], pa.Table], sign: int, table: Table, path: str, expected: list[Any]
) -> None:
    house.change(table, lambda rows: change(rows, first_of(house, path, rows)))
    assert house.differences() == [(path, hop, control, sign * found) for hop, control, found in expected]


@pytest.mark.parametrize(
    ("table", "path"),
    [(categories.TABLE, "postgres/categories"), (product_categories.TABLE, "postgres/product_categories")],
)
def test_a_reference_row_lost_shows(house: House, table: Table, path: str) -> None:
    house.change(table, lambda rows: rows.slice(0, 1))
    assert house.differences() == [(path, *ROWS, -1)]


def test_units_that_change_show(house: House) -> None:
    house.change(receipts.TABLE, lambda rows: replaced(rows, first_of(house, "transactions/2.csv", rows), units=7))
    assert house.differences() == [("transactions/2.csv", *UNITS, 6)]


def test_a_quarantined_line_that_changes_shows(house: House) -> None:
    house.change(quarantine.TABLE, lambda rows: replaced(rows, first_of(house, "transactions/1.csv", rows), line="x"))
    assert house.differences() == [("transactions/1.csv", *UNITS, -2)]


def test_a_row_in_the_wrong_source_shows_in_both(house: House) -> None:
    other = of_source(house, "transactions/2.csv")
    house.change(
        receipts.TABLE, lambda rows: replaced(rows, first_of(house, "transactions/1.csv", rows), source_id=other)
    )
    assert sorted(house.differences()) == [
        ("transactions/1.csv", *ROWS, -1),
        ("transactions/1.csv", *UNITS, -3),
        ("transactions/2.csv", *ROWS, 1),
        ("transactions/2.csv", *UNITS, 3),
    ]


def test_a_source_that_is_missing_everywhere_shows(house: House) -> None:
    gone = of_source(house, "transactions/2.csv")
    for table in (transactions.TABLE, receipts.TABLE, quarantine.TABLE):
        house.change(table, lambda rows: rows.filter(pc.not_equal(rows["source_id"], gone)))
    assert house.differences() == [("transactions/2.csv", *LANDED, -3), ("transactions/2.csv", *UNITS, -5)]


def test_a_file_whose_bytes_are_no_longer_those_admitted_shows(house: House) -> None:
    """As many bytes, lines and units: only the hash tells."""
    source_id = of_source(house, "transactions/2.csv")
    found, _ = house.counted[source_id]
    Path(found.location).write_bytes(SECOND.replace(b"1 2 3 4", b"1 2 3 5"))
    house.counted[source_id] = (found, recount(found.location))
    assert house.differences() == [("transactions/2.csv", "admitted to landing", "bytes", -len(SECOND))]


def test_only_the_sources_counted_are_accounted_for(house: House) -> None:
    chosen = of_source(house, "transactions/2.csv")
    house.counted = {chosen: house.counted[chosen]}
    assert set(house.accounts()["path"].to_pylist()) == {"transactions/2.csv"}
    assert house.differences() == []


def test_nothing_counted_is_an_empty_ledger(house: House) -> None:
    house.counted = {}
    assert house.accounts().num_rows == 0


@pytest.mark.parametrize(
    "links",
    [
        LINKS,
        LINKS.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + LINKS,
        b"\xef\xbb\xbf" + LINKS.replace(b"\n", b"\r\n"),
        LINKS.removesuffix(b"\n"),
        b"34|1\n34|2\n",
        b"v.Code_pr|v.code",
        b"v.Code_pr|v.code\r\r\n34|1\n",
        b"34|1\nv.Code_pr|v.code\n",
    ],
)
def test_a_header_is_told_from_rows_as_the_kernel_does(tmp_path: Path, links: bytes) -> None:
    assert built(tmp_path, {"p": ("product_categories", links)}).differences() == []


def test_a_difference_is_told_with_path_hop_and_control(house: House) -> None:
    house.change(receipts.TABLE, lambda rows: without(rows, first_of(house, "transactions/1.csv", rows)))
    verdicts = ledger_gate(house.accounts(), 3)
    assert broken_gates(verdicts) == [
        "ops.ledger (version 3): it is not true that the rows of transactions/1.csv add up from bronze to silver: "
        "expected 5, found 4.",
        "ops.ledger (version 3): it is not true that the units of transactions/1.csv add up from landing to silver: "
        "expected 9, found 6.",
    ]
    assert len(verdicts) == house.accounts().num_rows
    assert {v.severity for v in verdicts} == {"critical"}


def test_a_ledger_that_adds_up_breaks_nothing(house: House) -> None:
    verdicts = ledger_gate(house.accounts(), 0)
    assert all(v.passed for v in verdicts)
    assert broken_gates(verdicts) == []


def decide(house: House, path: str, made: dict[int, list[str | None]]) -> None:
    """Record decisions {line number: what is read in its place, the last counting}, and build by them."""
    source_id = of_source(house, path)
    about = [(number, n, line) for number, texts in made.items() for n, line in enumerate(texts, 1)]
    rows = [{"source_id": source_id, "line_number": number, "decision": n, "line": line} for number, n, line in about]
    given = arrow_rows(corrections.TABLE, rows)
    house.put(corrections.TABLE, given)
    found = decisions.last_decisions(given)
    lines = house.storage.rows(transactions.TABLE, house.versions[transactions.TABLE.qualified_name])
    house.put(receipts.TABLE, receipt_kernel.accepted_receipts(decisions.apply_decisions(lines, found)))
    refused = decisions.in_quarantine(lines, "transactions", found).cast(quarantine.TABLE.arrow_schema)
    house.change(
        quarantine.TABLE,
        lambda rows: pa.concat_tables([refused, rows.filter(pc.not_equal(rows["entity"], "transactions"))]),
    )


def counts(house: House, path: str, control: str, hop: str) -> tuple[int, ...]:
    (row,) = [r for r in house.accounts().to_pylist() if (r["path"], r["control"], r["hop"]) == (path, control, hop)]
    return tuple(row[name] for name in ("expected", "found", "quarantined", "waived", "difference"))


@pytest.mark.parametrize(
    ("made", "rows", "units"),
    [
        ({}, (5, 5, 2, 0, 0), (9, 9, 2, 0, 0)),
        ({3: ["2013-02-28|103|17|5 5 5 5"]}, (5, 5, 1, 0, 0), (9, 9, 0, 0, 0)),
        ({3: ["2013-02-28|103|17|5"], 4: [None]}, (5, 5, 1, 1, 0), (9, 9, 0, 0, 0)),
        ({3: [None]}, (5, 5, 2, 1, 0), (9, 9, 2, 2, 0)),
        ({3: ["2013-02-28|103|17|5", None]}, (5, 5, 2, 1, 0), (9, 9, 2, 2, 0)),
        ({3: ["2013-02-28|103|17|5", "2013-02-28|103|17|1 2 3"]}, (5, 5, 1, 0, 0), (9, 9, 0, 0, 0)),
    ],
)
def test_the_ledger_shows_lines_move_out_of_quarantine_and_adds_up(
    house: House, made: dict[int, list[str | None]], rows: tuple[int, ...], units: tuple[int, ...]
) -> None:
    decide(house, "transactions/1.csv", made)
    assert counts(house, "transactions/1.csv", "rows", "bronze to silver") == rows
    assert counts(house, "transactions/1.csv", "units", "landing to silver") == units
    assert house.differences() == []


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        (receipts.TABLE, lambda rows, at: replaced(rows, at, units=9), [(*UNITS, 5)]),
        (receipts.TABLE, without, [(*ROWS, -1), (*UNITS, -4)]),
        (quarantine.TABLE, without, [(*UNITS, 2)]),
        (quarantine.TABLE, lambda rows, at: replaced(rows, at, status="open"), [(*ROWS, 1), (*UNITS, 4)]),
        (corrections.TABLE, lambda rows, at: replaced(rows, at, line="2013-02-28|103|17|5"), [(*UNITS, 3)]),
        (corrections.TABLE, without, [(*UNITS, 4)]),
    ],
)
def test_a_corrected_line_that_changes_anywhere_shows(
    house: House, table: Table, change: Callable[[pa.Table, int], pa.Table], expected: list[tuple[str, str, int]]
) -> None:
    decide(house, "transactions/1.csv", {3: ["2013-02-28|103|17|5 5 5 5"]})
    key = of_source(house, "transactions/1.csv"), 3

    def changed(rows: pa.Table) -> pa.Table:
        keys = zip(rows["source_id"].to_pylist(), rows["line_number"].to_pylist(), strict=True)
        return change(rows, list(keys).index(key))

    house.change(table, changed)
    assert house.differences() == [("transactions/1.csv", *found) for found in expected]
