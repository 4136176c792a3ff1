"""The oracle: DuckDB recounts the core figures from the landed files, and what a run wrote must equal them.

`recount_sources` says what must be found; `row_verdicts` and `figure_verdicts` compare. On top of a release only the
sources that were touched are recounted: the figures must be those of the release, plus what came, less what went.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.bronze import transactions
from lakehouse.ops import corrections, sources
from lakehouse.silver import customers, product_days, receipts, sales_days
from lakehouse.sources.landing import Delivery
from lakehouse.storage.tables import Storage
from lakehouse.table import Table
from quality.oracle.figures import FIGURES, ROWS, Figure, differences
from quality.oracle.landed_files import MACROS, SOLD, TABLES, is_there, read_bronze, read_landed
from quality.verdict import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ALL_ANEW = """
CREATE TABLE day_sums AS SELECT sold_on, receipts, units FROM receipt_sums;
CREATE TABLE day_customers AS SELECT sold_on, count(DISTINCT customer_id) AS customers FROM visits GROUP BY ALL;
CREATE TABLE expected_customers AS SELECT count(DISTINCT customer_id) AS customers FROM visits;
"""
UPON_RELEASE = f"""
CREATE TABLE day_sums AS
    SELECT sold_on, receipts, units FROM receipt_sums
    UNION ALL SELECT sold_on, receipts, units FROM base_days
    UNION ALL SELECT sold_on, -1, -len(products) FROM gone;
CREATE TABLE day_customers AS
    SELECT sold_on, count(DISTINCT customer_id) AS customers
    FROM (SELECT sold_on, customer_id FROM visits UNION ALL SELECT sold_on, customer_id FROM kept_visits) GROUP BY ALL
    UNION ALL SELECT sold_on, customers FROM base_days WHERE sold_on NOT IN (SELECT sold_on FROM touched_days);
CREATE TABLE expected_customers AS
    SELECT (SELECT count(*) FROM base_customers)
        + (SELECT count(DISTINCT customer_id) FROM visits WHERE customer_id NOT IN (FROM base_customers))
        - (SELECT count(*) FROM leaving WHERE customer_id NOT IN (FROM staying)) AS customers;
INSERT INTO sold SELECT sold_on, store_id, product_id, units, receipts FROM base_sold;
INSERT INTO sold SELECT sold_on, store_id, product_id, -units, -receipts FROM ({SOLD.format("gone")});
"""
TOUCHED_DAYS = "CREATE TABLE touched_days AS SELECT sold_on FROM visits UNION SELECT sold_on FROM gone"
LEAVING = "CREATE TABLE leaving AS SELECT customer_id FROM gone EXCEPT SELECT customer_id FROM visits"
EXPECTED = """
CREATE TABLE expected_sold AS
    SELECT sold_on, store_id, product_id, sum(units) AS units, sum(receipts) AS receipts FROM sold GROUP BY ALL
    HAVING sum(units) <> 0 OR sum(receipts) <> 0;
CREATE TABLE expected_days AS
    SELECT sold_on, d.receipts, d.units, c.customers
    FROM (SELECT sold_on, sum(receipts) AS receipts, sum(units) AS units FROM day_sums GROUP BY ALL) d
    LEFT JOIN day_customers c USING (sold_on) WHERE d.receipts <> 0 OR d.units <> 0;
"""


DECIDED = """
INSERT INTO decided SELECT source_id, line_number, spelled(line), rule FROM corrections
QUALIFY row_number() OVER (PARTITION BY source_id, line_number ORDER BY decision DESC) = 1
"""


@dataclass(frozen=True)
class Recounted:
    """What must be found, as tables of a connection; `touched` None: in all sources. `absent`: files not read."""

    connection: "DuckDBPyConnection"
    storage: Storage
    paths: Mapping[int, str]
    touched: frozenset[int] | None
    absent: tuple[str, ...]
    seconds: float


def recount_sources(
    storage: Storage,
    versions: Mapping[str, int],
    current: Iterable[Delivery],
    touched: frozenset[int] | None = None,
    base: Mapping[str, int] | None = None,
) -> Recounted:
    """Recount the current transactions files, with what was decided: all, or those `touched` upon a release, `base`.

    A file that no longer has the bytes admitted is recounted from bronze, which was read of just those bytes.
    Errors: OSError, StorageFailed.
    """
    started = perf_counter()
    import duckdb  # a module that keeps it is told of as a leak when the interpreter ends

    connection = duckdb.connect()
    connection.execute(MACROS + TABLES)
    decisions = ["source_id", "line_number", "decision", "line", "rule"]
    connection.register("corrections", _rows(storage, corrections.TABLE, versions, decisions))
    connection.execute(DECIDED)
    known = [d for d in current if d.entity == "transactions"]
    taken = [d for d in known if touched is None or d.source_id in touched]
    looked_at = [(d, is_there(d)) for d in taken]
    absent = [d for d, there in looked_at if not there]
    read_landed(connection, [d for d, there in looked_at if there])
    if absent:
        lines = _rows(
            storage,
            transactions.TABLE,
            versions,
            ["source_id", "line_number", "line"],
            _among("source_id", (d.source_id for d in absent)),
        )
        read_bronze(connection, lines)
    if touched is None or base is None:
        connection.execute(ALL_ANEW)
    else:
        _add_release(connection, storage, base, touched)
    connection.execute(EXPECTED)
    paths = {d.source_id: d.path for d in known}
    told = tuple(sorted(d.path for d in absent))
    return Recounted(connection, storage, paths, touched, told, perf_counter() - started)


def row_verdicts(recount: Recounted, versions: Mapping[str, int]) -> list[Verdict]:
    """Hold the lines, receipts and refused lines of the sources recounted to their files."""
    wanted = None if recount.touched is None else _among("source_id", recount.touched)
    found = "; ".join(recount.absent) or "they were"
    name = transactions.TABLE.qualified_name
    there = "the files to be recounted were there as admitted, not recounted from bronze"
    said = Verdict(name, versions[name], there, "warning", not recount.absent, found, recount.seconds)
    return [said, *(_verdict(recount, figure, versions, wanted) for figure in ROWS)]


def figure_verdicts(recount: Recounted, versions: Mapping[str, int]) -> list[Verdict]:
    """Hold the published figures of the tables in `versions` to what was recounted."""
    return [_verdict(recount, f, versions) for f in FIGURES if f.table.qualified_name in versions]


def _verdict(
    recount: Recounted, figure: Figure, versions: Mapping[str, int], wanted: pc.Expression | None = None
) -> Verdict:
    started = perf_counter()
    name = figure.table.qualified_name
    if "rule" in figure.columns:  # quarantine keeps the reference entities' lines as well
        only = pc.field("entity") == "transactions"
        wanted = only if wanted is None else wanted & only
    written = _rows(recount.storage, figure.table, versions, list(figure.columns), wanted)
    recount.connection.register("written", written)
    said = differences(recount.connection, figure, recount.paths)
    observed = said or "it is so"
    return Verdict(name, versions[name], figure.check, "critical", not said, observed, perf_counter() - started)


def _add_release(
    connection: "DuckDBPyConnection", storage: Storage, base: Mapping[str, int], touched: frozenset[int]
) -> None:
    """Put the release's figures beside what was recounted, and what it held of the sources touched."""

    def keep(name: str, table: Table, columns: list[str], wanted: pc.Expression | None = None) -> None:
        connection.register("scanned", _rows(storage, table, base, columns, wanted))
        connection.execute(f"CREATE TABLE {name} AS FROM scanned")

    def values(column: str, table: str) -> set[object]:
        return {row[0] for row in connection.execute(f"SELECT {column} FROM {table}").fetchall()}

    mine = _among("source_id", touched)
    known = storage.rows(sources.TABLE, base[sources.TABLE.qualified_name], ["source_id"])["source_id"].to_pylist()
    keep("base_days", sales_days.TABLE, ["sold_on", "receipts", "units", "customers"])
    keep("base_sold", product_days.TABLE, ["sold_on", "store_id", "product_id", "units", "receipts"])
    keep("base_customers", customers.TABLE, ["customer_id"])
    keep(
        "gone",
        receipts.TABLE,
        ["sold_on", "store_id", "customer_id", "products"],
        _among("source_id", touched.intersection(known)),
    )
    connection.execute(TOUCHED_DAYS)
    connection.execute(LEAVING)
    on_days = _among("sold_on", values("sold_on", "touched_days"))
    keep("kept_visits", receipts.TABLE, ["sold_on", "customer_id"], ~mine & on_days)
    of_leaving = _among("customer_id", values("customer_id", "leaving"))
    keep("staying", receipts.TABLE, ["customer_id"], ~mine & of_leaving)
    connection.execute(UPON_RELEASE)


def _rows(
    storage: Storage, table: Table, versions: Mapping[str, int], columns: list[str], wanted: pc.Expression | None = None
) -> pa.RecordBatchReader:
    version = versions[table.qualified_name]
    opened = storage.dataset(table, version) if wanted is None else storage.holding(table, version, wanted)
    return opened.scanner(columns=columns, filter=wanted).to_reader()


def _among(column: str, values: Iterable[object]) -> pc.Expression:
    """Choose rows by a column; where no value is asked for no file is opened."""
    asked = list(values)
    return pc.field(column).isin(asked) if asked else pc.scalar(False)
