"""Itemsets and the receipts that hold them, block of months by block of months.

An itemset frequent in all months together is frequent in one of them (or in a block of small ones), so each block is
mined alone, and one that nothing touched stays as it is. It is mined a little below the least support: what it does
not find there is too rare to matter, but for a few itemsets, which are counted.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import Earlier, map_groups
from lakehouse.kernels.candidates import needed_counts
from lakehouse.kernels.itemsets import count_itemsets, frequent_itemsets, min_count, mining_blocks
from lakehouse.parameters import Parameters
from lakehouse.silver import receipts, sales_days
from lakehouse.table import BIGINT, INT, INTS, STRING, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="itemset_months",
    group="recommendations",
    doc=(
        "One row per block of months and itemset that four fifths of the least support of its receipts hold, "
        "or that has to be counted there to know whether it is frequent in all months together."
    ),
    inputs={"receipts": receipts.TABLE, "days": sales_days.TABLE},
    columns=(
        Column("items", INTS, "Distinct products, ascending."),
        Column("month", STRING, "The block's first month, YYYY-MM: small months are mined together."),
        Column("last_month", STRING, "Its last month."),
        Column("least", BIGINT, "Every itemset of the block that so many receipts hold has a row."),
        Column("largest", INT, "Most products of an itemset."),
        Column("receipts", BIGINT, "Receipts that hold all of them: exact."),
    ),
    keys=("items", "month"),
    checks=(
        Expression("size(items) >= 1 and size(items) <= largest", why="an itemset has items, no more than asked"),
        Between("receipts", 0, None, why="an itemset that was looked for may be in no receipt"),
    ),
)
MINED = 0.8  # of the least support: lower and more is kept, higher and more is counted


@dataclass(frozen=True)
class Block:
    """Months that are mined together, how many receipts make an itemset one to keep, and its most products."""

    months: tuple[str, ...]
    least: int
    largest: int

    @property
    def columns(self) -> dict[str, object]:
        """Give its columns."""
        month, last_month = self.months[0], self.months[-1]
        return {"month": month, "last_month": last_month, "least": self.least, "largest": self.largest}


Kernel = Callable[[pa.ListArray, str], pa.Table]


def build(receipts: DataFrame, days: DataFrame, parameters: Parameters, earlier: Earlier | None = None) -> pa.Table:
    sold = days.groupBy("month").agg(F.sum("receipts").alias("receipts")).collect()
    counted = {row["month"]: row["receipts"] for row in sold}
    blocks = _blocks(counted, parameters)

    def mine(products: pa.ListArray, _: str) -> pa.Table:
        return frequent_itemsets(products, parameters.min_support * MINED, parameters.max_itemset_size)

    known = _unchanged(earlier, blocks)
    found = _of_blocks(receipts, blocks, blocks.keys() - set(known["month"].to_pylist()), mine)
    least = {name: block.least for name, block in blocks.items()}
    frequent = min_count(parameters.min_support, sum(counted.values()))
    kept, missing = needed_counts(pa.concat_tables([known, found]), least, frequent)

    def count(products: pa.ListArray, block: str) -> pa.Table:
        items = missing.filter(pc.equal(missing["month"], block))["items"].combine_chunks()
        return pa.table({"items": items, "receipts": count_itemsets(products, items)})

    return pa.concat_tables([kept, _of_blocks(receipts, blocks, set(missing["month"].to_pylist()), count)])


def _blocks(counted: Mapping[str, int], parameters: Parameters) -> dict[str, Block]:
    """Name the blocks of the months by their first ones."""
    months: dict[str, list[str]] = {}
    for month, block in mining_blocks(counted, parameters.min_support).items():
        months.setdefault(block, []).append(month)
    share, largest = parameters.min_support * MINED, parameters.max_itemset_size
    return {n: Block(tuple(m), min_count(share, sum(counted[x] for x in m)), largest) for n, m in months.items()}


def _unchanged(earlier: Earlier | None, blocks: Mapping[str, Block]) -> pa.Table:
    """Give the earlier rows of blocks that are as they were: nothing touched them, and they are asked for alike."""
    if earlier is None:
        return TABLE.arrow_schema.empty_table()
    rows = earlier.rows.toArrow().cast(TABLE.arrow_schema)
    before = rows.group_by(["month", "last_month", "least", "largest"]).aggregate([]).to_pylist()
    alike = [row for row in before if row["month"] in blocks and row == blocks[row["month"]].columns]
    names = [b["month"] for b in alike if not any(b["month"] <= m <= b["last_month"] for m in earlier.months)]
    return rows.filter(pc.is_in(rows["month"], pa.array(names, pa.string())))


def _of_blocks(receipts: DataFrame, blocks: Mapping[str, Block], names: Set[str], kernel: Kernel) -> pa.Table:
    """Run a kernel on the products of the receipts of each of some blocks; it gives items and receipts."""
    if not names:
        return TABLE.arrow_schema.empty_table()
    placed = {month: name for name in names for month in blocks[name].months}
    joined = [f"when '{month}' then '{name}'" for month, name in placed.items() if month != name]
    block = F.expr(f"case month {' '.join(joined)} else month end" if joined else "month").alias("block")

    def run(rows: pa.Table) -> pa.Table:
        name = rows["block"][0].as_py()
        found = kernel(rows["products"].combine_chunks(), name)
        for column, value in blocks[name].columns.items():
            found = found.append_column(column, pa.repeat(value, found.num_rows))
        return found

    baskets = receipts.where(F.col("month").isin(sorted(placed))).select(block, "products")
    return map_groups(baskets, ("block",), run, TABLE).toArrow().cast(TABLE.arrow_schema)
