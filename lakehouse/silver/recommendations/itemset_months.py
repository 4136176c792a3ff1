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

from lakehouse.errors import TooManyItemsets
from lakehouse.frames.kernels import Earlier, map_batches, map_groups
from lakehouse.kernels.bits import hold_all
from lakehouse.kernels.candidates import needed_counts
from lakehouse.kernels.itemsets import (
    MOST_ITEMSETS,
    count_itemsets,
    frequent_itemsets,
    min_count,
    mining_blocks,
)
from lakehouse.ops import sources
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
    inputs={"receipts": receipts.TABLE, "days": sales_days.TABLE, "sources": sources.TABLE},
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
MOST_COUNTS = 6_000_000  # 370 MB; of half a year with 208 frequent products, up to five together, there are 5,061,708


@dataclass(frozen=True)
class Block:
    """Months that are mined together, their receipts, how many make an itemset one to keep, and its most products."""

    months: tuple[str, ...]
    receipts: int
    least: int
    largest: int

    @property
    def columns(self) -> dict[str, object]:
        """Give its columns."""
        month, last_month = self.months[0], self.months[-1]
        return {"month": month, "last_month": last_month, "least": self.least, "largest": self.largest}

    def __str__(self) -> str:
        months = " to ".join(dict.fromkeys((self.months[0], self.months[-1])))
        return f"the {self.receipts:,} receipts of {months}"


Kernel = Callable[[pa.ListArray, str], pa.Table]


def build(
    receipts: DataFrame, days: DataFrame, sources: DataFrame, parameters: Parameters, earlier: Earlier | None = None
) -> pa.Table:
    sold = days.groupBy("month").agg(F.sum("receipts").alias("receipts")).collect()
    counted = {row["month"]: row["receipts"] for row in sold}
    blocks = _blocks(counted, parameters)
    known = _unchanged(earlier, blocks)
    found = _mine(receipts, sources, blocks, known, parameters.min_support * MINED)
    least = {name: block.least for name, block in blocks.items()}
    frequent = min_count(parameters.min_support, sum(counted.values()))
    kept, missing = needed_counts(pa.concat_tables([known, found]), least, frequent, MOST_COUNTS)

    def count(products: pa.ListArray, block: str) -> pa.Table:
        items = missing.filter(pc.equal(missing["month"], block))["items"].combine_chunks()
        return pa.table({"items": items, "receipts": count_itemsets(products, items)})

    return pa.concat_tables([kept, _of_blocks(receipts, blocks, _months(missing), count)])


def _mine(
    receipts: DataFrame, sources: DataFrame, blocks: Mapping[str, Block], known: pa.Table, share: float
) -> pa.Table:
    """Find the itemsets of the blocks that are not known, while all together are no more than `MOST_COUNTS`.

    Each block may have as many as fit if all had as many; one that has more is mined again when it is known how much
    room the others leave. So what fails is the same whichever blocks are known, and no more than fits is ever made.
    """
    found, waiting = [TABLE.arrow_schema.empty_table()], blocks.keys() - _months(known)
    mined = pc.sum(pc.greater_equal(known["receipts"], known["least"])).as_py() or 0
    while waiting:
        most = min(MOST_ITEMSETS, (MOST_COUNTS - mined) // len(waiting))
        rows = _of_blocks(receipts, blocks, waiting, _miner(blocks, share, most))
        given_up = rows.filter(pc.less(rows["receipts"], 0))
        if given_up.num_rows and most == MOST_ITEMSETS:
            worst = min(given_up.to_pylist(), key=lambda row: (row["receipts"], row["month"]))
            raise _too_many(receipts, sources, blocks[worst["month"]], -worst["receipts"], worst["items"])
        if given_up.num_rows == len(waiting):
            among = f"the {sum(b.receipts for b in blocks.values()):,} receipts, in {len(blocks)} blocks of months,"
            raise TooManyItemsets(among, mined - pc.sum(given_up["receipts"]).as_py(), MOST_COUNTS)
        found.append(rows.filter(pc.greater_equal(rows["receipts"], 0)) if given_up.num_rows else rows)
        mined, waiting = mined + found[-1].num_rows, _months(given_up)
    pa.default_memory_pool().release_unused()  # what mining took and freed: of five million rows a third of a gigabyte
    return pa.concat_tables(found)


def _miner(blocks: Mapping[str, Block], share: float, most: int) -> Kernel:
    """Give the kernel that mines a block; of one with too many itemsets it gives a row of fewer than no receipts.

    That row says how many there are at least, and products that many of them are made of.
    """

    def mine(products: pa.ListArray, block: str) -> pa.Table:
        try:
            return frequent_itemsets(products, share, blocks[block].largest, most)
        except TooManyItemsets as error:
            items = pa.array([error.together], pa.list_(pa.int32()))
            return pa.table({"items": items, "receipts": pa.array([-error.at_least], pa.int64())})

    return mine


def _too_many(
    receipts: DataFrame, sources: DataFrame, block: Block, at_least: int, together: list[int]
) -> TooManyItemsets:
    """Say of which receipts a block has too many itemsets: those that hold some products together."""
    among = receipts.where(F.col("month").isin(list(block.months)))
    alike = map_batches(among, lambda rows: rows.filter(hold_all(rows["products"], together)), TABLE.inputs["receipts"])
    products = F.size(F.array_distinct("products")).alias("products")
    rows = alike.select("source_id", "line_number", products).toArrow()
    order = [("products", "descending"), ("source_id", "ascending"), ("line_number", "ascending")]
    largest = rows.sort_by(order).slice(0, 1).to_pylist()[0]
    named = sources.where((F.col("source_id") == largest["source_id"]) & (F.col("status") == "current"))
    path = named.agg(F.min("path").alias("path")).collect()[0]["path"]
    baskets = (
        f"The same {len(together)} products are in {rows.num_rows:,} of them; "
        f"the largest of these, line {largest['line_number']} of {path}, has {largest['products']:,}. "
    )
    remedy = f", or correct or withdraw {path}" if len(together) > block.largest else ""  # a few orders, all alike
    return TooManyItemsets(str(block), at_least, MOST_ITEMSETS, together, baskets, remedy)


def _months(rows: pa.Table) -> set[str]:
    return set(pc.unique(rows["month"]).to_pylist())


def _blocks(counted: Mapping[str, int], parameters: Parameters) -> dict[str, Block]:
    """Name the blocks of the months by their first ones."""
    months: dict[str, list[str]] = {}
    for month, block in mining_blocks(counted, parameters.min_support).items():
        months.setdefault(block, []).append(month)
    share, largest = parameters.min_support * MINED, parameters.max_itemset_size
    receipts = {name: sum(counted[month] for month in block) for name, block in months.items()}
    return {n: Block(tuple(m), receipts[n], min_count(share, receipts[n]), largest) for n, m in months.items()}


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
