"""The figures the oracle holds: of which table, at which grain, what they must be and how they are found there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.bronze import transactions
from lakehouse.gold.analytics import daily_sales
from lakehouse.gold.summary import product_sales, sales_totals
from lakehouse.ops import quarantine
from lakehouse.silver import customers, product_days, receipts, sales_days
from lakehouse.table import Table
from quality.oracle.landed_files import CONTENT, LINE_SUMS, REFUSED_SUMS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SHOWN = 3


@dataclass(frozen=True)
class Figure:
    """What must be equal: `expected` and `found` are SQL that gives one row per `grain` with the `measures`.

    `found` reads `columns` of the table, there called `written`.
    """

    table: Table
    check: str
    grain: tuple[str, ...]
    measures: tuple[str, ...]
    expected: str
    found: str
    columns: tuple[str, ...]


def _as_written(table: Table, check: str, grain: tuple[str, ...], measures: tuple[str, ...], expected: str) -> Figure:
    columns = (*grain, *measures)
    return Figure(table, check, grain, measures, expected, f"SELECT {', '.join(columns)} FROM written", columns)


MONTH = "strftime(sold_on, '%Y-%m') AS month"
SPELLED = "(SELECT * REPLACE (spelled(line) AS line) FROM written)"
SUMS = "SELECT source_id, sum(lines) AS lines, sum(checksum) AS checksum FROM {} GROUP BY ALL"

ROWS = (
    Figure(
        transactions.TABLE,
        "from landing to bronze, each source's lines are those of its file",
        ("source_id",),
        ("lines", "checksum"),
        SUMS.format("line_sums"),
        LINE_SUMS.format(SPELLED),
        ("source_id", "line_number", "line"),
    ),
    Figure(
        receipts.TABLE,
        "from landing to silver, each source's receipts of each day are those of its file",
        ("source_id", "sold_on"),
        ("month", "receipts", "units", "checksum"),
        f"SELECT source_id, sold_on, {MONTH}, sum(receipts) AS receipts, sum(units) AS units, "
        "sum(checksum) AS checksum FROM receipt_sums GROUP BY ALL",
        "SELECT source_id, sold_on, string_agg(DISTINCT month, ' ') AS month, count(*) AS receipts, "
        f"sum(units) AS units, {CONTENT} AS checksum FROM written GROUP BY ALL",
        ("source_id", "line_number", "month", "sold_on", "store_id", "customer_id", "products", "units"),
    ),
    Figure(
        quarantine.TABLE,
        "from landing to quarantine, each source's refused lines, with rule and status, are those of its file",
        ("source_id",),
        ("lines", "checksum"),
        SUMS.format("refused_sums"),
        REFUSED_SUMS.format(SPELLED),
        ("source_id", "line_number", "line", "rule", "status"),
    ),
)

DAYS, SOLD = "FROM expected_days", "FROM expected_sold"
FIGURES = (
    _as_written(
        product_days.TABLE,
        "what each product sold in each store on each day is what the landed files say",
        ("sold_on", "store_id", "product_id"),
        ("month", "units", "receipts"),
        f"SELECT *, {MONTH} {SOLD}",
    ),
    _as_written(
        sales_days.TABLE,
        "what was sold on each day is what the landed files say",
        ("sold_on",),
        ("month", "receipts", "units", "customers"),
        f"SELECT *, {MONTH} {DAYS}",
    ),
    Figure(
        customers.TABLE,
        "there are as many customers as the landed files say",
        ("whole",),
        ("customers",),
        "SELECT 0 AS whole, customers FROM expected_customers",
        "SELECT 0 AS whole, count(*) AS customers FROM written",
        ("customer_id",),
    ),
    _as_written(
        product_sales.TABLE,
        "what each product sold is what the landed files say",
        ("product_id",),
        ("units", "receipts"),
        f"SELECT product_id, sum(units) AS units, sum(receipts) AS receipts {SOLD} GROUP BY ALL",
    ),
    _as_written(
        daily_sales.TABLE,
        "what was sold on each day is what the landed files say",
        ("sold_on",),
        ("receipts", "units", "customers"),
        DAYS,
    ),
    Figure(
        sales_totals.TABLE,
        "the totals are what the landed files say",
        ("whole",),
        ("first_on", "last_on", "receipts", "units", "customers", "products", "stores"),
        "SELECT 0 AS whole, min(sold_on) AS first_on, max(sold_on) AS last_on, sum(receipts) AS receipts, "
        "sum(units) AS units, (SELECT customers FROM expected_customers) AS customers, "
        f"(SELECT count(DISTINCT product_id) {SOLD}) AS products, (SELECT count(DISTINCT store_id) {SOLD}) AS stores "
        f"{DAYS} HAVING count(*) > 0",
        "SELECT 0 AS whole, * FROM written",
        ("first_on", "last_on", "receipts", "units", "customers", "products", "stores"),
    ),
)


def differences(connection: "DuckDBPyConnection", figure: Figure, paths: Mapping[int, str]) -> str:
    """Say where `written` is not as expected, the first rows and how many more; empty when it is."""
    grain, measures = ", ".join(figure.grain), (*figure.measures, "rows")  # a row that is there twice differs as well
    pairs = ", ".join(f"e.{m}, f.{m}" for m in measures)
    differs = " OR ".join(f"e.{m} IS DISTINCT FROM f.{m}" for m in measures)
    rows = connection.execute(
        f"SELECT count(*) OVER (), {grain}, {pairs} FROM (SELECT *, 1 AS rows FROM ({figure.expected})) e "
        f"FULL JOIN (SELECT *, count(*) AS rows FROM ({figure.found}) GROUP BY ALL) f USING ({grain}) "
        f"WHERE {differs} ORDER BY {grain} LIMIT {SHOWN}"
    ).fetchall()
    said = [_sentence(figure, measures, row[1:], paths) for row in rows]
    more = [f"{rows[0][0] - SHOWN} more differ"] if rows and rows[0][0] > SHOWN else []
    return "; ".join(said + more)


def _sentence(figure: Figure, measures: tuple[str, ...], row: tuple[object, ...], paths: Mapping[int, str]) -> str:
    """Say of one row where it is, and of each measure that differs what was expected and found."""
    width = len(figure.grain)
    where = ", ".join(_place(name, value, paths) for name, value in zip(figure.grain, row[:width], strict=True))
    told = zip(measures, row[width::2], row[width + 1 :: 2], strict=True)
    what = [
        f"{m} {_known(expected)} expected, {_known(found)} found" for m, expected, found in told if expected != found
    ]
    return f"{where}: {', '.join(what)}"


def _place(name: str, value: object, paths: Mapping[int, str]) -> str:
    match name, value:
        case "source_id", int():
            return paths.get(value, f"source {value}")
        case "whole", _:
            return "in all"
        case "sold_on", _:
            return str(value)
        case _:
            return f"{name.removesuffix('_id')} {value}"


def _known(value: object) -> str:
    return "none" if value is None else str(value)
