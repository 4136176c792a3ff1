"""PostgreSQL tables to landing files, in one snapshot; the files are those the source delivers as CSV."""

import hashlib
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic

import psycopg
from psycopg import sql

from lakehouse.durable import durable
from lakehouse.errors import BadInput, StorageFailed
from lakehouse.kernels.reference import HEADER
from lakehouse.postgres import Connection, address, connection
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

_TRANSACTIONS = ("sold_on", "store_id", "customer_id", "products")
_ROWS = 20_000
_LINE = sql.SQL(" || '|' || ").join(
    sql.SQL("coalesce({}::text, '')").format(sql.Identifier(column)) for column in _TRANSACTIONS
)


@dataclass(frozen=True)
class Extract:
    """One logical source and the file that holds it now; no path when its fingerprint was known already."""

    name: str
    entity: str
    path: Path | None
    fingerprint: str
    rows: int


@dataclass(frozen=True)
class Day:
    """A day of transactions as the database counts it; `sold_on` is None for rows without a date."""

    sold_on: str | None
    rows: int
    checksum: int

    @property
    def name(self) -> str:
        return f"postgres/transactions/{self.sold_on or 'undated'}"

    @property
    def fingerprint(self) -> str:
        return f"{self.rows}:{self.checksum}"


def extract(
    settings: Settings,
    into: Path,
    entities: Sequence[str] = ("categories", "product_categories"),
    include_transactions: bool = False,
    known: Mapping[str, str] = {},
) -> list[Extract]:
    """Write the tables, as one REPEATABLE READ snapshot shows them, to immutable files named by their content.

    Transactions become a file per day, but for the days whose fingerprint is the one in `known` (by name).
    Errors: BadInput naming a missing table or a row no CSV line can hold, ServiceDown, StorageFailed.
    """
    started = monotonic()
    with connection(settings) as opened:
        tables = [*entities, "transactions"] if include_transactions else list(entities)
        _begin(opened, tables, address(settings))
        extracts = [_reference(opened, into, entity, address(settings)) for entity in entities]
        if include_transactions:
            extracts += _transactions(opened, into, known)
    written = [found for found in extracts if found.path]
    rows = sum(found.rows for found in written)
    log.info("extracted %d of %d sources, %d rows, %.1f s", len(written), len(extracts), rows, monotonic() - started)
    return extracts


def _begin(opened: Connection, tables: list[str], where: str) -> None:
    """Lock against TRUNCATE and DROP before the snapshot is taken: they would show a table as empty."""
    opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    opened.read_only = True
    opened.execute("SET LOCAL datestyle = 'ISO, YMD'")
    for table in tables:
        try:
            opened.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(table)))
        except psycopg.errors.UndefinedTable:
            remedy = "Make it with `lakehouse load --source DIR`."
            raise BadInput(f"PostgreSQL at {where}", f"there is no table {table}", remedy) from None


def _reference(opened: Connection, into: Path, entity: str, where: str) -> Extract:
    lines = list(_categories(opened, where) if entity == "categories" else _product_categories(opened))
    head = 0 if entity == "categories" else 1
    path, digest = _deliver(into / entity, lines)
    return Extract(f"postgres/{entity}", entity, path, digest, len(lines) - head)


def _categories(opened: Connection, where: str) -> Iterator[bytes]:
    for number, name in opened.execute("SELECT category_id, category_name FROM categories ORDER BY 1"):
        if any(mark in (name or "") for mark in "|\n\r"):
            found = f"the name of category {number}, {name!r}, holds a | or a line break"
            raise BadInput(f"Table categories of PostgreSQL at {where}", found, "Correct the name in the table.")
        yield f"{'' if number is None else number}|{name or ''}\n".encode()


def _product_categories(opened: Connection) -> Iterator[bytes]:
    yield f"{HEADER}\n".encode()
    yield from _copied(opened, sql.SQL("SELECT product_id, category_id FROM product_categories ORDER BY 1, 2"))


def _copied(opened: Connection, query: sql.Composable) -> Iterator[bytes]:
    """Give a line per row; NULL is an empty field, and whatever would break a line is escaped."""
    statement = sql.SQL("COPY ({}) TO STDOUT (DELIMITER '|', NULL '')").format(query)
    with opened.cursor() as cursor, cursor.copy(statement) as copy:
        yield from map(bytes, copy)


def _transactions(opened: Connection, into: Path, known: Mapping[str, str]) -> list[Extract]:
    days = _days(opened)
    changed = [day for day in days if known.get(day.name) != day.fingerprint]
    lines = _copied(opened, _rows_of(changed, len(changed) == len(days)))
    paths = {day: _deliver(into / "transactions", islice(lines, day.rows))[0] for day in changed}
    if next(lines, None) is not None:
        raise AssertionError("a snapshot that gives more rows than it counted")
    return [Extract(day.name, "transactions", paths.get(day), day.fingerprint, day.rows) for day in days]


def _days(opened: Connection) -> list[Day]:
    """Count and sum the hashes of each day's lines: the order of rows does not show, any change does."""
    query = sql.SQL(
        "SELECT sold_on::text, count(*), sum(hashtextextended({}, 0)) "
        "FROM transactions GROUP BY sold_on ORDER BY sold_on"
    ).format(_LINE)
    return [Day(sold_on, rows, int(checksum)) for sold_on, rows, checksum in opened.execute(query)]


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


def _deliver(folder: Path, lines: Iterable[bytes]) -> tuple[Path, str]:
    """Write lines to a file named by its content; a whole file that is there already stays as it is."""
    part = folder / f".{uuid.uuid4().hex}.part"
    digest = hashlib.sha256()
    rows = iter(lines)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            while block := b"".join(islice(rows, _ROWS)):
                digest.update(block)
                file.write(block)
        path = folder / f"{digest.hexdigest()[:16]}.csv"
        if not (path.exists() and hashlib.sha256(path.read_bytes()).digest() == digest.digest()):
            with durable(f"extract {folder.name}"):
                os.replace(part, path)
    except OSError as error:
        raise StorageFailed("write", str(folder), str(error.strerror), "Nothing was landed; make room there.") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return path, digest.hexdigest()
