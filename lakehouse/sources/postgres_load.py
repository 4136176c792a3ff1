"""CSV files to PostgreSQL tables, in one transaction: a reader sees the old rows or the new ones."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from psycopg import sql

from lakehouse.errors import BadInput
from lakehouse.kernels.lines import text_of
from lakehouse.kernels.receipt_rules import Receipt, Refusal, read_line
from lakehouse.kernels.reference_rules import HEADER, Category, read_category, read_product_category
from lakehouse.postgres.connection import Connection, connection
from lakehouse.settings import Settings
from lakehouse.sources.landing import csv_files, writable

log = logging.getLogger(__name__)

COLUMNS = {
    "categories": {"category_id": "integer PRIMARY KEY", "category_name": "text NOT NULL"},
    "product_categories": {"product_id": "integer", "category_id": "integer"},
    "transactions": {"sold_on": "date", "store_id": "integer", "customer_id": "bigint", "products": "text"},
    "refused_lines": {
        "entity": "text NOT NULL",
        "file": "text NOT NULL",
        "line_number": "integer NOT NULL",
        "line": "bytea NOT NULL",
        "rule": "text NOT NULL",
    },
}
_BLOCK = 1 << 20
_LONGEST_LINE = 16 << 20
REPEATED = "duplicate_category"
_ENOUGH_REFUSED = 100_000
_MARK = b"\xef\xbb\xbf"
_RECEIPT = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}\|[0-9]{1,9}\|[0-9]{1,18}\|(?:[0-9]{1,9}+ )*+[0-9]{1,9}")
_DAY = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PAIR = re.compile(rb"\d{1,9}\|[1-9]\d{0,8}")


@dataclass(frozen=True)
class LoadCount:
    """What became of an entity's lines: loaded + refused = lines. A header is no line."""

    lines: int
    loaded: int
    refused: int


@dataclass(frozen=True)
class Entity:
    """How the lines of one entity are read: `plain` knows fast the usual ones of a block, `read` judges one."""

    name: str
    form: str
    plain: Callable[[list[bytes]], list[bool]]
    read: Callable[[str], object]
    header: str = ""


Refused = tuple[int, bytes, str]


def load(settings: Settings, source: Path, truncate: bool = True, transactions: bool = False) -> dict[str, LoadCount]:
    """Replace the tables by the files of a folder, or append to them (`truncate` False).

    The folder holds products/Categories.csv, products/ProductCategory.csv and, when asked, transactions/*.csv.
    Lines that break a row rule go to the table refused_lines. Errors: BadInput, ServiceDown; then nothing changed.
    """
    started = monotonic()
    files = _files(source, transactions)
    with connection(settings) as opened:
        _tidy(opened, list(files))
    with connection(settings) as opened:
        _prepare(opened, list(files), truncate)
        counts = {
            entity.name: _load_entity(opened, entity, source, files[entity.name])
            for entity in _entities(opened)
            if entity.name in files
        }
    for name, count in counts.items():
        log.info("loaded %s: %d of %d lines, %d refused", name, count.loaded, count.lines, count.refused)
    log.info("loaded %s in %.1f s", source, monotonic() - started)
    return counts


def _files(source: Path, transactions: bool) -> dict[str, list[Path]]:
    if not os.path.isdir(source):  # says no where Path.is_dir raises: in a folder that may not be read
        raise BadInput(str(source), "there is no such folder", "Give the folder that holds products/Categories.csv.")
    products = source / "products"
    files = {"categories": [products / "Categories.csv"], "product_categories": [products / "ProductCategory.csv"]}
    if transactions:
        files["transactions"] = csv_files(source / "transactions")
        if not files["transactions"]:
            raise BadInput(str(source / "transactions"), "it holds no *.csv", "Put the receipts there.")
    return files


def _entities(opened: Connection) -> list[Entity]:
    known: dict[int, str] = dict(opened.execute("SELECT category_id, category_name FROM categories").fetchall())
    return [
        Entity("categories", "id|name", lambda lines: [False] * len(lines), _category_reader(known)),
        Entity("product_categories", "product|category", _plain_pairs, read_product_category, HEADER),
        Entity("transactions", "date|store|customer|p1 p2 …", _plain_receipts, read_line),
    ]


def _plain_pairs(lines: list[bytes]) -> list[bool]:
    return list(map(bool, map(_PAIR.fullmatch, lines)))


def _plain_receipts(lines: list[bytes]) -> list[bool]:
    days = {day for day in {line[:10] for line in lines} if _DAY.fullmatch(day) and _is_day(day)}
    return [line[:10] in days and bool(_RECEIPT.fullmatch(line)) for line in lines]


def _is_day(day: bytes) -> bool:
    return isinstance(read_line(f"{day.decode()}|1|1|1"), Receipt)


def _category_reader(known: dict[int, str]) -> Callable[[str], object]:
    def read(line: str) -> object:
        category = read_category(line)
        if not isinstance(category, Category):
            return category
        if "\0" in category.category_name:
            return Refusal("bad_category", "a zero byte in the name")
        if category.category_id in known:
            return Refusal(REPEATED, f"{category.category_id} is {known[category.category_id]!r} already")
        known[category.category_id] = category.category_name
        return category

    return read


def _prepare(opened: Connection, names: list[str], truncate: bool) -> None:
    """Make the tables that are missing; delete, so that a reader's snapshot keeps what TRUNCATE would take away."""
    opened.execute("SELECT pg_advisory_xact_lock(hashtextextended('lakehouse load', 0))")
    for table, columns in COLUMNS.items():
        listed = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns.items()
        )
        opened.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(sql.Identifier(table), listed))
    if truncate:
        for name in names:
            opened.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        opened.execute("DELETE FROM refused_lines WHERE entity = ANY(%s)", [names])


def _tidy(opened: Connection, names: list[str]) -> None:
    """Free the room of rows deleted by earlier loads: the embedded server seldom lives long enough to do it itself."""
    opened.autocommit = True
    known = opened.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
    for (name,) in known:
        if name in names:
            opened.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(name)))


def _load_entity(opened: Connection, entity: Entity, source: Path, files: list[Path]) -> LoadCount:
    lines = loaded = 0
    for file in files:
        kept, refused = _load_file(opened, entity, file)
        rows = [(entity.name, writable(str(file.relative_to(source))), *line) for line in refused]
        with opened.cursor() as cursor, cursor.copy("COPY refused_lines FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        loaded, lines = loaded + kept, lines + kept + len(refused)
    return LoadCount(lines, loaded, lines - loaded)


def _load_file(opened: Connection, entity: Entity, file: Path) -> tuple[int, list[Refused]]:
    """Copy the lines that keep the rules; give their count and the others."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[entity.name]))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (DELIMITER '|')").format(sql.Identifier(entity.name), columns)
    loaded, refused, is_of_it = 0, list[Refused](), False
    with opened.cursor() as cursor, cursor.copy(statement) as copy:
        for first, lines in _numbered(file, entity):
            kept, broken = _sifted(entity, first, lines)
            refused += broken
            loaded += len(kept)
            if kept:
                copy.write(b"\n".join(kept) + b"\n")
            is_of_it = is_of_it or bool(kept) or any(rule == REPEATED for _, _, rule in broken)
            if not is_of_it and len(refused) >= _ENOUGH_REFUSED:
                break
        if not is_of_it:
            raise _no_entity(file, entity, refused)
    return loaded, refused


def _sifted(entity: Entity, first: int, lines: list[bytes]) -> tuple[list[bytes], list[Refused]]:
    plain = entity.plain(lines)
    if all(plain):
        return lines, []
    kept, refused = [], []
    for number, (line, is_plain) in enumerate(zip(lines, plain, strict=True), first):
        if is_plain:
            kept.append(line)
        elif isinstance(judged := entity.read(text_of(line)), Refusal):
            refused.append((number, line, judged.rule))
        else:
            kept.append(line.replace(b"\\", b"\\\\").replace(b"\r", b"\\r"))
    return kept, refused


def _numbered(file: Path, entity: Entity) -> Iterator[tuple[int, list[bytes]]]:
    """Give blocks of lines, each with the number of its first; check the header and leave it out."""
    number = 1
    for lines in _blocks(file):
        if number == 1 and entity.header:
            if lines[0] != entity.header.encode():
                remedy = f"It must be the header {entity.header!r}: deliver the file as published."
                raise BadInput(str(file), f"its first line is {_shown(lines[0])}", remedy)
            yield 2, lines[1:]
        else:
            yield number, lines
        number += len(lines)


def _blocks(file: Path) -> Iterator[list[bytes]]:
    """Split at line feeds; drop carriage returns before them and a UTF-8 mark; the last line may lack its feed."""
    try:
        with file.open("rb") as opened:
            rest = opened.read(len(_MARK)).removeprefix(_MARK)
            while block := opened.read(_BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    raise BadInput(str(file), "it has a line of more than 16 MiB", "Deliver one record per line.")
                if lines:
                    yield _without_returns(lines)
            if rest:
                yield _without_returns([rest])
    except OSError as error:
        raise BadInput(str(file), _why(error), "Put a readable CSV file there.") from None


def _without_returns(lines: list[bytes]) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in lines]


def _why(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a folder"
        case _:
            return f"it cannot be read ({error.strerror})"


def _no_entity(file: Path, entity: Entity, refused: list[Refused]) -> BadInput:
    remedy = f"Deliver {entity.name} as lines of the form {entity.form}."
    if not refused:
        return BadInput(str(file), "it holds no line", remedy)
    number, line, rule = refused[0]
    kind = "is binary" if any(b"\0" in line for _, line, _ in refused) else "is no such file"
    found = f"it {kind}: none of its {len(refused)} lines can be read, line {number} is {_shown(line)} ({rule})"
    return BadInput(str(file), found, remedy)


def _shown(line: bytes) -> str:
    return ascii(line[:40].decode("utf-8", "replace"))
