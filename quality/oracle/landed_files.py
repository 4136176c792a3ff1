r"""What landed files hold, read by DuckDB: lines, row rules and sums, written a second time.

Nothing is shared with the kernels, the engine or the ledger's reader. A line is the text DuckDB makes of bytes: every
byte but plain printable ASCII is spelled `\xHH`, so that any bytes have one reading. What is usual takes a short way to
the same end: a block of nothing but digits, marks and line feeds is spelled as it is, and a line that one expression
finds right in all its fields is not judged field by field.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.sources.landing import Delivery
from lakehouse.storage.objects import open_location

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLOCK = 1 << 20
BLOCKS_AT_ONCE = 16
FEW_PRODUCTS = 1 << 12  # of more, ticking off takes longer than sorting
TICKED = 1 << 20  # cells of a table that stays in the cache
Numbers = npt.NDArray[np.signedinteger[Any]]
BLOCKS = pa.schema({"source_id": pa.int64(), "before": pa.int64(), "octets": pa.binary()})
PLAIN_LINES = pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})
PLAIN = b"0123456789-| \n"


class Block(NamedTuple):
    """Whole lines of a source, and how many lines came before."""

    source_id: int
    before: int
    octets: bytes
    is_plain: bool


MACROS = r"""
CREATE MACRO octets(line) AS  -- a byte that is not UTF-8 is the character U+EF00 + byte: three bytes of UTF-8
    regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(encode(line)::VARCHAR,
        '\\xEE\\xBE\\x([89AB])', '\\x\1', 'g'), '\\xEE\\xBF\\x8', '\\xC', 'g'), '\\xEE\\xBF\\x9', '\\xD', 'g'),
        '\\xEE\\xBF\\xB', '\\xF', 'g'), '\\xEE\\xBF\\xA', '\\xE', 'g');
CREATE MACRO spelled(line) AS if(strlen(line) = length(line), encode(line)::VARCHAR, octets(line));
CREATE MACRO checksum(value) AS sum(hash(value) >> 32)::BIGINT;
CREATE MACRO is_number(text) AS regexp_full_match(text, '\d{1,19}');
CREATE MACRO is_right(line) AS
    regexp_matches(line, '^\d{4}-\d{2}-\d{2}\|\d{1,9}\|\d{1,18}\|(\d{1,9} )*\d{1,9}$')
    AND coalesce(try_cast(left(line, 10) AS DATE) BETWEEN DATE '1990-01-01' AND DATE '2100-01-01', false);
"""

TABLES = """
CREATE TABLE line_sums (source_id BIGINT, lines BIGINT, checksum BIGINT);
CREATE TABLE refused_sums (source_id BIGINT, lines BIGINT, checksum BIGINT);
CREATE TABLE receipt_sums (source_id BIGINT, sold_on DATE, receipts BIGINT, units BIGINT, checksum BIGINT);
CREATE TABLE sold (sold_on DATE, store_id INTEGER, product_id INTEGER, units BIGINT, receipts BIGINT);
CREATE TABLE decided (source_id BIGINT, line_number INTEGER, line VARCHAR, rule VARCHAR);
CREATE TABLE visits (sold_on DATE, customer_id BIGINT);
"""

LINES = r"""
CREATE OR REPLACE TEMP TABLE lines AS
WITH texts AS (
    SELECT source_id, before, octets::VARCHAR AS text FROM blocks
), unmarked AS (
    SELECT source_id, before, if(before = 0 AND starts_with(text, '\xEF\xBB\xBF'), substr(text, 13), text) AS text
    FROM texts
), split AS (
    SELECT source_id, before, string_split(if(ends_with(text, '\x0A'), left(text, -4), text), '\x0A') AS pieces
    FROM unmarked WHERE text <> ''
), numbered AS (
    SELECT source_id, (before + unnest(range(1, len(pieces) + 1)))::INTEGER AS line_number, unnest(pieces) AS piece
    FROM split
)
SELECT *, is_right(line) AS is_right FROM (
    SELECT source_id, line_number, if(ends_with(piece, '\x0D'), left(piece, -4), piece) AS line FROM numbered
    UNION ALL FROM plain
)
"""

BRONZE_LINES = """
CREATE OR REPLACE TEMP TABLE lines AS
SELECT *, is_right(line) AS is_right FROM (SELECT source_id, line_number, spelled(line) AS line FROM bronze)
"""

JUDGED = r"""
CREATE OR REPLACE TEMP TABLE judged AS
WITH decisions AS (  -- a line that was corrected is read as its correction, one that was waived as nothing
    SELECT l.source_id, l.line_number, l.line AS delivered, if(d.rule IS NULL, l.line, coalesce(d.line, '')) AS line,
        d.rule AS broken, CASE WHEN d.rule IS NOT NULL AND d.line IS NULL THEN 'waived' END AS decision
    FROM lines l LEFT JOIN decided d USING (source_id, line_number) WHERE NOT l.is_right OR d.rule IS NOT NULL
), split AS (
    SELECT *, string_split(line, '|') AS fields FROM decisions
), tidied AS (
    SELECT *, if(contains(fields[4], '  ') OR starts_with(fields[4], ' ') OR ends_with(fields[4], ' '),
        trim(regexp_replace(fields[4], ' +', ' ', 'g'), ' '), fields[4]) AS listed
    FROM split
), parsed AS (
    SELECT source_id, line_number, line, delivered, broken, decision, len(fields) AS width, listed,
        CASE WHEN regexp_full_match(fields[1], '\d{4}-\d{2}-\d{2}') AND NOT starts_with(fields[1], '0000')
            THEN try_cast(fields[1] AS DATE) END AS sold_on,
        CASE WHEN is_number(fields[2]) THEN try_cast(fields[2] AS INTEGER) END AS store_id,
        CASE WHEN is_number(fields[3]) THEN try_cast(fields[3] AS BIGINT) END AS customer_id,
        CASE WHEN regexp_full_match(listed, '\d{1,19}( \d{1,19})*')
            THEN try_cast(string_split(listed, ' ') AS INTEGER[]) END AS products
    FROM tidied
)
SELECT source_id, line_number, delivered, broken, decision, sold_on, store_id, customer_id, products,
    CASE
        WHEN contains(line, '\x') AND (try(decode(line::BLOB)) IS NULL OR regexp_matches(line, '\\xEE\\xB[EF]'))
            THEN 'not_utf8'
        WHEN width <> 4 THEN 'wrong_field_count'
        WHEN sold_on IS NULL THEN 'bad_date'
        WHEN sold_on NOT BETWEEN DATE '1990-01-01' AND DATE '2100-01-01' THEN 'date_out_of_range'
        WHEN store_id IS NULL THEN 'bad_store'
        WHEN customer_id IS NULL THEN 'bad_customer'
        WHEN listed = '' THEN 'no_products'
        WHEN products IS NULL OR list_count(products) < len(products) THEN 'bad_product'
    END AS rule
FROM parsed
UNION ALL
SELECT source_id, line_number, line, NULL, NULL, fields[1]::DATE, fields[2]::INTEGER, fields[3]::BIGINT,
    string_split(fields[4], ' ')::INTEGER[], NULL
FROM (SELECT *, string_split(line, '|') AS fields FROM lines ANTI JOIN decided USING (source_id, line_number))
WHERE is_right
"""

LINE_SUMS = "SELECT source_id, count(*) AS lines, checksum(row(line_number, line)) AS checksum FROM {} GROUP BY ALL"
REFUSED_SUMS = """
SELECT source_id, count(*) AS lines, checksum(row(line_number, line, rule, status)) AS checksum FROM {} GROUP BY ALL
"""
REFUSED = """(
    SELECT source_id, line_number, delivered AS line, coalesce(broken, rule) AS rule,
        coalesce(decision, if(rule IS NULL, 'replayed', 'open')) AS status
    FROM judged WHERE rule IS NOT NULL OR broken IS NOT NULL
)"""
CONTENT = "checksum(row(line_number, store_id, customer_id, products))"
RECEIPT_SUMS = f"SELECT source_id, sold_on, count(*), sum(len(products)), {CONTENT} FROM {{}} GROUP BY ALL"
SOLD = """
SELECT sold_on, store_id, product_id, count(*) AS units,
    count(*) FILTER (product_id IS DISTINCT FROM following) AS receipts  -- in a sorted list, the last of its kind
FROM (
    SELECT sold_on, store_id, unnest(products) AS product_id, unnest(products[2:]) AS following
    FROM (SELECT sold_on, store_id, list_sort(products) AS products FROM {})
) GROUP BY ALL
"""
SOLD_ONCE = """
SELECT sold_on, store_id, product_id, count(*) AS units, count(*) AS receipts
FROM (SELECT sold_on, store_id, unnest(products) AS product_id FROM {}) GROUP BY ALL
"""
VISITS = "SELECT DISTINCT sold_on, customer_id FROM {}"


def read_landed(connection: "DuckDBPyConnection", deliveries: Iterable[Delivery]) -> None:
    """Add what files hold to the tables of sums; memory: some blocks of 1 MiB, and what DuckDB makes of them."""
    blocks = _blocks(deliveries)
    while some := list(islice(blocks, BLOCKS_AT_ONCE)):
        plain = [block for block in some if block.is_plain]
        other = [block for block in some if not block.is_plain]
        connection.register("plain", pa.Table.from_batches(map(_plain_lines, plain), PLAIN_LINES))
        connection.register("blocks", pa.Table.from_pylist([block._asdict() for block in other], BLOCKS))
        connection.execute(LINES)
        _add(connection)


def read_bronze(connection: "DuckDBPyConnection", batches: Iterable[pa.RecordBatch]) -> None:
    """Add what bronze keeps of sources whose files are gone: batches of source_id, line_number, line."""
    for batch in batches:
        connection.register("bronze", pa.Table.from_batches([batch]))
        connection.execute(BRONZE_LINES)
        _add(connection)


def is_there(delivery: Delivery) -> bool:
    """Say whether the file still begins with the bytes that were admitted."""
    digest = hashlib.sha256()
    with suppress(OSError), open_location(delivery.location) as file:
        for octets in _pieces(file, delivery.bytes):
            digest.update(octets)
    return digest.hexdigest() == delivery.sha256


def _add(connection: "DuckDBPyConnection") -> None:
    connection.execute(JUDGED)
    kept = "judged WHERE rule IS NULL"
    connection.execute("INSERT INTO line_sums " + LINE_SUMS.format("lines"))
    connection.execute("INSERT INTO refused_sums " + REFUSED_SUMS.format(REFUSED))
    connection.execute("INSERT INTO receipt_sums " + RECEIPT_SUMS.format(kept))
    connection.register("repeating", _repeating(connection, kept))
    connection.execute("INSERT INTO sold " + SOLD_ONCE.format(f"{kept} AND rowid NOT IN (FROM repeating)"))
    connection.execute("INSERT INTO sold " + SOLD.format(f"{kept} AND rowid IN (FROM repeating)"))
    connection.execute("INSERT INTO visits " + VISITS.format(kept))


def _repeating(connection: "DuckDBPyConnection", kept: str) -> pa.Table:
    """Give the numbers of the rows that hold a product more than once: sorting all lists in DuckDB takes far longer."""
    rows = connection.sql(f"SELECT rowid, products FROM {kept}").to_arrow_table()
    lists = rows["products"].combine_chunks()
    units, listed = lists.value_lengths().to_numpy(), lists.flatten().dictionary_encode()
    repeats = _repeats if len(listed.dictionary) <= FEW_PRODUCTS else _sorted_repeats
    return pa.table({"number": rows["rowid"].to_numpy()[repeats(units, listed.indices.to_numpy())]})


def _repeats(units: Numbers, products: Numbers) -> Numbers:
    """Say which lists hold fewer different products than units, by ticking them off in a table."""
    ends, width = np.append(0, np.cumsum(units)), int(products.max(initial=0)) + 1
    step = max(1, TICKED // width)
    found = [np.empty(0, np.int64)]
    for start in range(0, len(units), step):
        some = units[start : start + step]
        ticks = np.zeros((len(some), width), np.bool_)
        ticks[np.repeat(np.arange(len(some)), some), products[ends[start] : ends[start + len(some)]]] = True
        found.append(start + np.flatnonzero(ticks.view(np.uint8).sum(axis=1, dtype=np.uint32) < some))
    return np.concatenate(found)


def _sorted_repeats(units: Numbers, products: Numbers) -> Numbers:
    """Say the same of lists over many products, by sorting."""
    keys = np.repeat(np.arange(len(units)), units) << 32 | products
    keys.sort()
    return np.unique(keys[1:][keys[1:] == keys[:-1]] >> 32)


def _blocks(deliveries: Iterable[Delivery]) -> Iterator[Block]:
    """Give whole lines of files, a MiB at a time, with how many lines came before."""
    for delivery in deliveries:
        before = 0
        with open_location(delivery.location) as file:
            for octets in _pieces(file, delivery.bytes):
                yield Block(delivery.source_id, before, octets, not octets.translate(None, PLAIN))
                before += octets.count(b"\n")


def _plain_lines(block: Block) -> pa.RecordBatch:
    whole = pa.array([block.octets.removesuffix(b"\n")], pa.string())
    lines = pc.split_pattern(whole, "\n").flatten()
    numbers = np.arange(block.before + 1, block.before + len(lines) + 1, dtype=np.int32)
    return pa.record_batch([pa.repeat(block.source_id, len(lines)), numbers, lines], schema=PLAIN_LINES)


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    """Give whole lines, up to the number of bytes that were admitted: somebody may still write behind them."""
    while octets := file.read(min(BLOCK, left)):
        octets += file.readline(left - len(octets))
        left -= len(octets)
        yield octets
