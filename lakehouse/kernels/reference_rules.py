"""Lines of the reference files to categories and product categories, and to what is refused.

`categories` is `id|name` without a header, `product_categories` is `product|category` with one. Small files.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.kernels.distinct import value_counts
from lakehouse.kernels.receipt_rules import MAX_INT, Refusal, number_of, octet_refusal, quarantine_rows

HEADER = "v.Code_pr|v.code"
PLAIN_PAIR = r"^\d{1,9}\|[1-9]\d{0,8}$"  # other lines are looked at one by one
WIDTH = 31  # bits of a number


class Category(NamedTuple):
    """A category and its name."""

    category_id: int
    category_name: str


class ProductCategory(NamedTuple):
    """A product and a category it is in."""

    product_id: int
    category_id: int


def read_category(line: str) -> Category | Refusal:
    """Apply the row rules to a line `id|name`."""
    number, found, name = line.partition("|")
    if refusal := octet_refusal(line):
        return refusal
    if not found or "|" in name or not name.strip():
        return Refusal("wrong_field_count", "not a number and a name separated by |")
    category_id = number_of(number, MAX_INT)
    if not category_id:
        return Refusal("bad_category", f"{number[:40]!r} is no whole number from 1 to {MAX_INT}")
    if name.endswith("\r"):  # in the file that PostgreSQL is landed as it would be of the line's end
        return Refusal("bad_category", f"the name {name[:40]!r} ends with a carriage return")
    return Category(category_id, name)


def read_product_category(line: str) -> ProductCategory | Refusal:
    """Apply the row rules to a line `product|category`."""
    fields = line.split("|")
    if refusal := octet_refusal(line):
        return refusal
    if len(fields) != 2:
        return Refusal("wrong_field_count", f"{len(fields)} fields instead of 2")
    product_id, category_id = (number_of(field, MAX_INT) for field in fields)
    if product_id is None:
        return Refusal("bad_product", f"{fields[0][:40]!r} is no whole number up to {MAX_INT}")
    if not category_id:
        return Refusal("bad_category", f"{fields[1][:40]!r} is no whole number from 1 to {MAX_INT}")
    return ProductCategory(product_id, category_id)


def accepted_categories(lines: pa.Table) -> pa.Table:
    """Give category_id, category_name of the lines that keep every rule."""
    kept = [c for c in map(read_category, lines["line"].to_pylist()) if isinstance(c, Category)]
    return pa.table(
        {
            "category_id": pa.array([c.category_id for c in kept], pa.int32()),
            "category_name": pa.array([c.category_name for c in kept], pa.string()),
        }
    )


def refused_categories(lines: pa.Table) -> pa.Table:
    """Name, for each line that breaks a rule, the rule."""
    return quarantine_rows(lines, "categories", [read_category(line) for line in lines["line"].to_pylist()])


def accepted_product_categories(lines: pa.Table) -> pa.Table:
    """Give product_id, category_id, is_primary and how many lines say so, each pair once, sorted."""
    rows = without_header(lines)["line"]
    plain = pc.match_substring_regex(rows, PLAIN_PAIR)
    odd = map(read_product_category, rows.filter(pc.invert(plain)).to_pylist())
    kept = np.array([pair for pair in odd if isinstance(pair, ProductCategory)], np.int64).reshape(-1, 2)
    fields = pc.split_pattern(rows.filter(plain).combine_chunks(), "|").flatten()
    pairs = np.concatenate([fields.cast(pa.int64()).to_numpy().reshape(-1, 2), kept])
    codes, counts = value_counts((pairs[:, 0] << WIDTH) | pairs[:, 1], 1 << 2 * WIDTH)
    products = codes >> WIDTH
    return pa.table(
        {
            "product_id": pa.array(products.astype(np.int32)),
            "category_id": pa.array((codes & MAX_INT).astype(np.int32)),
            "is_primary": pa.array(np.diff(products, prepend=-1) != 0),
            "lines": pa.array(counts.astype(np.int32)),
        }
    )


def refused_product_categories(lines: pa.Table) -> pa.Table:
    """Name, for each line that breaks a rule, the rule; the header is no row."""
    rows = without_header(lines)
    odd = rows.filter(pc.invert(pc.match_substring_regex(rows["line"], PLAIN_PAIR)))
    return quarantine_rows(odd, "product_categories", [read_product_category(line) for line in odd["line"].to_pylist()])


def without_header(lines: pa.Table) -> pa.Table:
    """Leave out line 1 where it is the header."""
    return lines.filter(pc.or_(pc.not_equal(lines["line_number"], 1), pc.not_equal(lines["line"], HEADER)))
