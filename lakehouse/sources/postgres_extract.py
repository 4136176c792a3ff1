"""PostgreSQL tables to landing files, in one snapshot; the files are those the source delivers as CSV."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import psycopg
from psycopg import sql

from lakehouse.errors import BadInput
from lakehouse.kernels.reference_rules import HEADER
from lakehouse.ops.sources import REFERENCE
from lakehouse.postgres.connection import Connection, address, connection
from lakehouse.settings import Settings
from lakehouse.sources.extract_files import Extract, Snapshot, file_of, forget_halves, keep, record

log = logging.getLogger(__name__)

_TRANSACTIONS = ("sold_on", "store_id", "customer_id", "products")
_LINE = sql.SQL(" || '|' || ").join(
    sql.SQL("coalesce({}::text, '')").format(sql.Identifier(column)) for column in _TRANSACTIONS
)
_UNITS = sql.SQL(  # words between spaces; where one space parts two of them, which is usual, counted the fast way
    "CASE WHEN strpos(' ' || products || ' ', '  ') > 0 "
    "THEN cardinality(array_remove(string_to_array(products, ' '), '')) "
    "ELSE length(products) - length(replace(products, ' ', '')) + 1 END"
)


class Known(NamedTuple):
    """What is landed of a source already: the fingerprint it had in the database, and the hash of its file."""

    fingerprint: str
    sha256: str


@dataclass(frozen=True)
class Day:
    """A day of transactions as the database counts it; `sold_on` is None for rows without a date."""

    sold_on: str | None
    rows: int
    units: int
    checksum: int

    @property
    def name(self) -> str:
        return f"{TRANSACTIONS}{self.sold_on or 'undated'}"

    @property
    def fingerprint(self) -> str:
        return f"{self.rows}:{self.checksum}"


TRANSACTIONS = "postgres/transactions/"  # what the names of days begin with


def extract(
    settings: Settings,
    into: Path,
    entities: Sequence[str] = REFERENCE,
    include_transactions: bool = False,
    known: Mapping[str, Known] = {},
) -> list[Extract]:
    """Write the tables, as one REPEATABLE READ snapshot shows them, to immutable files named by their content.

    Transactions become a file per day, but for the days that are `known` (by name) with the fingerprint they have,
    and whose file is still there. A manifest lists them all. Errors: BadInput naming a missing table or a row no CSV
    line can hold, ServiceDown, StorageFailed.
    """
    started = monotonic()
    forget_halves(into)
    with connection(settings) as opened:
        tables = [*entities, "transactions"] if include_transactions else list(entities)
        read = _begin(opened, tables, address(settings))
        extracts = [_reference(opened, into, entity, address(settings)) for entity in entities]
        if include_transactions:
            extracts += _transactions(opened, into, known)
    record(into, read, extracts)
    written = [found for found in extracts if found.path]
    rows = sum(found.rows for found in written)
    log.info("extracted %d of %d sources, %d rows, %.1f s", len(written), len(extracts), rows, monotonic() - started)
    return extracts


def _begin(opened: Connection, tables: list[str], where: str) -> Snapshot:
    """Take the snapshot; lock against TRUNCATE and DROP before: they would show a table as empty."""
    opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    opened.read_only = True
    opened.execute("SET LOCAL datestyle = 'ISO, YMD'")
    for table in tables:
        try:
            opened.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(table)))
        except psycopg.errors.UndefinedTable:
            remedy = "Make it with `lakehouse load --source DIR`."
            raise BadInput(f"PostgreSQL at {where}", f"there is no table {table}", remedy) from None
    query = "SELECT pg_current_snapshot()::text, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    (taken,) = opened.execute(query).fetchall()
    return Snapshot(*taken)


def _reference(opened: Connection, into: Path, entity: str, where: str) -> Extract:
    lines = list(_categories(opened, where) if entity == "categories" else _product_categories(opened))
    head = 0 if entity == "categories" else 1
    path, sha256 = keep(into, entity, lines)
    return Extract(f"postgres/{entity}", entity, path, sha256, sha256, len(lines) - head)


def _categories(opened: Connection, where: str) -> Iterator[bytes]:
    for number, name in opened.execute("SELECT category_id, category_name FROM categories ORDER BY 1"):
        if any(mark in (name or "") for mark in "|\n") or (name or "").endswith("\r"):
            found = f"the name of category {number}, {name!r}, holds a | or a line break"
            raise BadInput(f"Table categories of PostgreSQL at {where}", found, "Correct the name in the table.")
        yield f"{'' if number is None else number}|{name or ''}\n".encode()


def _product_categories(opened: Connection) -> Iterator[bytes]:
    yield f"{HEADER}\n".encode()
    yield from _copied(opened, sql.SQL("SELECT product_id, category_id FROM product_categories ORDER BY 1, 2"))


def _copied(opened: Connection, query: sql.Composable) -> Generator[bytes, None, None]:
    """Give a line per row; NULL is an empty field, and whatever would break a line is escaped."""
    statement = sql.SQL("COPY ({}) TO STDOUT (DELIMITER '|', NULL '')").format(query)
    with opened.cursor() as cursor, cursor.copy(statement) as copy:
        yield from map(bytes, copy)


def _transactions(opened: Connection, into: Path, known: Mapping[str, Known]) -> list[Extract]:
    days = _days(opened)
    changed = [day for day in days if not _is_landed(day, known.get(day.name), into)]
    kept = {}
    if changed:
        with closing(_copied(opened, _rows_of(changed, len(changed) == len(days)))) as lines:
            kept = {day: keep(into, "transactions", _rows_of_day(day, lines)) for day in changed}
            if next(lines, None) is not None:
                raise AssertionError("a snapshot that gives more rows than it counted")
    return [_extract(day, *(kept[day] if day in kept else (None, known[day.name].sha256))) for day in days]


def _rows_of_day(day: Day, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Take a day's lines off those of all days: each must be of that day, and none may be missing."""
    begins, taken = f"{day.sold_on or ''}|".encode(), 0
    for line in islice(lines, day.rows):
        if not line.startswith(begins):
            raise AssertionError(f"a snapshot that gives {line!r} among the rows of {day.name}")
        taken += 1
        yield line
    if taken != day.rows:
        raise AssertionError(f"a snapshot that counts {day.rows} rows of {day.name} and gives {taken}")


def _is_landed(day: Day, known: Known | None, into: Path) -> bool:
    return (
        known is not None
        and known.fingerprint == day.fingerprint
        and file_of(into, "transactions", known.sha256).exists()
    )


def _extract(day: Day, path: Path | None, sha256: str) -> Extract:
    return Extract(day.name, "transactions", path, sha256, day.fingerprint, day.rows, day.units)


def _days(opened: Connection) -> list[Day]:
    """Count and sum the hashes of each day's lines: the order of rows does not show, any change does."""
    query = sql.SQL(
        "SELECT sold_on::text, count(*), coalesce(sum({}), 0)::bigint, sum(hashtextextended({}, 0)) "
        "FROM transactions GROUP BY sold_on ORDER BY transactions.sold_on"  # `sold_on` would be its text
    ).format(_UNITS, _LINE)
    return [Day(sold_on, rows, units, int(checksum)) for sold_on, rows, units, checksum in opened.execute(query)]


def _rows_of(days: list[Day], all_days: bool) -> sql.Composable:
    chosen: sql.Composable = sql.SQL("true")
    if not all_days:
        dated = [day.sold_on for day in days if day.sold_on is not None]
        undated = sql.Literal(len(dated) < len(days))
        chosen = sql.SQL("sold_on = ANY({}::date[]) OR (sold_on IS NULL AND {})").format(sql.Literal(dated), undated)
    return sql.SQL(
        "SELECT sold_on, store_id, customer_id, products FROM transactions WHERE {} "
        'ORDER BY sold_on, store_id, customer_id, products COLLATE "C"'
    ).format(chosen)
