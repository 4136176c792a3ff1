"""Lines of a transactions file to receipts, and to what is refused.

A line is `date|store|customer|p1 p2 ...`. Lines of the plain form are parsed as columns; each other line is
looked at on its own, by the row rules in their order, and may still be a receipt (two spaces between products).
"""

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLAIN = r"^\d{4}-\d{2}-\d{2}\|\d{1,9}\|\d{1,18}\|\d{1,9}( \d{1,9})*$"
FIRST_DAY, LAST_DAY = date(1990, 1, 1), date(2100, 1, 1)
MAX_INT, MAX_BIGINT = 2**31 - 1, 2**63 - 1
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NOT_UTF8 = re.compile("[\uef80-\uefff]")


class Receipt(NamedTuple):
    """A line that keeps every rule."""

    sold_on: date
    store_id: int
    customer_id: int
    products: list[int]


class Refusal(NamedTuple):
    """The first rule a line broke, and what was found."""

    rule: str
    detail: str


def read_line(line: str) -> Receipt | Refusal:
    """Apply the row rules to one line, in their order."""
    if refusal := octet_refusal(line):
        return refusal
    fields = line.split("|")
    if len(fields) != 4:
        return Refusal("wrong_field_count", f"{len(fields)} fields instead of 4")
    day, store, customer, products = fields
    sold_on = _date(day)
    if sold_on is None:
        return Refusal("bad_date", f"{day[:40]!r} is no date YYYY-MM-DD")
    if not FIRST_DAY <= sold_on <= LAST_DAY:
        return Refusal("date_out_of_range", f"{day} is not within {FIRST_DAY} to {LAST_DAY}")
    if (store_id := number_of(store, MAX_INT)) is None:
        return Refusal("bad_store", f"{store[:40]!r} is no whole number up to {MAX_INT}")
    if (customer_id := number_of(customer, MAX_BIGINT)) is None:
        return Refusal("bad_customer", f"{customer[:40]!r} is no whole number up to {MAX_BIGINT}")
    tokens = products.split(" ")
    if not any(tokens):
        return Refusal("no_products", "the product list is empty")
    numbers = []
    for token in filter(None, tokens):
        number = number_of(token, MAX_INT)
        if number is None:
            return Refusal("bad_product", f"{token[:40]!r} is no whole number up to {MAX_INT}")
        numbers.append(number)
    return Receipt(sold_on, store_id, customer_id, numbers)


def accepted_receipts(lines: pa.Table) -> pa.Table:
    """Parse the lines that keep every rule.

    `lines` has source_id, line_number, line; the result source_id, line_number, month, sold_on, store_id,
    customer_id, products, units.
    """
    plain = _plain(lines["line"])
    odd = lines.filter(pc.invert(plain))
    read = [(row, read_line(row["line"])) for row in odd.to_pylist()]
    kept = [(row, receipt) for row, receipt in read if isinstance(receipt, Receipt)]
    parsed = _parsed(lines.filter(plain))
    return pa.concat_tables([parsed, _of_rows(kept, parsed.schema)]) if kept else parsed


def refused_receipts(lines: pa.Table) -> pa.Table:
    """Name, for each line that breaks a rule, the rule; the lines stay whole.

    The result has source_id, line_number, entity, line, rule, detail, status.
    """
    odd = lines.filter(pc.invert(_plain(lines["line"])))
    read = [read_line(line) for line in odd["line"].to_pylist()]
    return quarantine_rows(odd, "transactions", read)


def quarantine_rows(lines: pa.Table, entity: str, read: Sequence[object]) -> pa.Table:
    """Put lines and their refusals together; what is no refusal is left out."""
    refusals = [r if isinstance(r, Refusal) else None for r in read]
    chosen = lines.filter(pa.array([r is not None for r in refusals], pa.bool_()))
    kept = [r for r in refusals if r is not None]
    return pa.table(
        {
            "source_id": chosen["source_id"],
            "line_number": chosen["line_number"],
            "entity": pa.array([entity] * len(kept), pa.string()),
            "line": chosen["line"],
            "rule": pa.array([r.rule for r in kept], pa.string()),
            "detail": pa.array([r.detail for r in kept], pa.string()),
            "status": pa.array(["open"] * len(kept), pa.string()),
        }
    )


def _plain(lines: pa.ChunkedArray) -> pa.ChunkedArray:
    """Say which lines have the plain form and a date that exists and is in range."""
    formed = pc.match_substring_regex(lines, PLAIN)
    days = pc.if_else(formed, pc.utf8_slice_codeunits(lines, 0, 10), None)
    good = [d for d in pc.unique(days).to_pylist() if d is not None and _in_range(d)]
    return pc.is_in(days, pa.array(good, pa.string()))


def _parsed(lines: pa.Table) -> pa.Table:
    fields = pc.split_pattern(lines["line"].combine_chunks(), "|")
    flat = fields.flatten() if isinstance(fields, pa.ListArray) else fields.combine_chunks().flatten()
    day, store, customer, products = (flat.take(pa.array(np.arange(k, len(flat), 4))) for k in range(4))
    tokens = pc.split_pattern(products, " ")
    listed = pa.ListArray.from_arrays(tokens.offsets, tokens.values.cast(pa.int32()))
    return pa.table(
        {
            "source_id": lines["source_id"],
            "line_number": lines["line_number"],
            "month": pc.utf8_slice_codeunits(day, 0, 7),
            "sold_on": day.cast(pa.date32()),
            "store_id": store.cast(pa.int32()),
            "customer_id": customer.cast(pa.int64()),
            "products": listed,
            "units": pc.list_value_length(listed),
        }
    )


def _of_rows(kept: list[tuple[dict[str, object], Receipt]], schema: pa.Schema) -> pa.Table:
    rows = [
        {
            "source_id": row["source_id"],
            "line_number": row["line_number"],
            "month": receipt.sold_on.isoformat()[:7],
            **receipt._asdict(),
            "units": len(receipt.products),
        }
        for row, receipt in kept
    ]
    return pa.Table.from_pylist(rows, schema)


def _date(text: str) -> date | None:
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _in_range(text: str) -> bool:
    day = _date(text)
    return day is not None and FIRST_DAY <= day <= LAST_DAY


def octet_refusal(line: str) -> Refusal | None:
    """Refuse a line with a byte that was not UTF-8."""
    found = _NOT_UTF8.search(line)
    if found is None:
        return None
    return Refusal("not_utf8", f"byte 0x{ord(found.group()) & 0xFF:02x} at character {found.start() + 1}")


def number_of(text: str, largest: int) -> int | None:
    """Read a whole number without a sign; None when it is none, or too large."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    number = int(text)
    return number if number <= largest else None
