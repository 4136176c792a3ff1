"""Itemsets and the receipts that hold them, month by month.

An itemset frequent in all months together is frequent in one of them (or in a block of small ones): so the months
are mined apart, and what any of them found is counted in every other.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames import grouped
from lakehouse.kernels.itemsets import count_itemsets, frequent_itemsets, mining_blocks
from lakehouse.kernels.rules import padded, row_numbers, unpadded
from lakehouse.parameters import Parameters
from lakehouse.silver import receipts
from lakehouse.table import BIGINT, INTS, STRING, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="itemset_months",
    doc="One row per itemset frequent in some month, and month it occurs in.",
    inputs={"receipts": receipts.TABLE},
    columns=(
        Column("items", INTS, "Distinct products, ascending."),
        Column("month", STRING, "The month, YYYY-MM."),
        Column("receipts", BIGINT, "Receipts that hold all of them: exact."),
    ),
    keys=("items", "month"),
    checks=(
        Expression("size(items) >= 1", why="an itemset has items"),
        Between("receipts", 1, None, why="months in which it does not occur are left out"),
    ),
)


@dataclass(frozen=True)
class Known:
    """Every itemset found, and its count (-1: not counted yet) in the months that were mined alone."""

    items: pa.ListArray
    counts: dict[str, npt.NDArray[np.int64]]
    unknown: npt.NDArray[np.int64]

    @classmethod
    def of(cls, mined: pa.Table, blocks: dict[str, str]) -> "Known":
        """Gather what blocks found; a block is known by its `month` column."""
        sets = padded(mined["items"])
        at = row_numbers(sets)
        _, first = np.unique(at, return_index=True)
        unknown = np.full(len(first), -1, np.int64)
        block, receipts = mined["month"].to_numpy(), mined["receipts"].to_numpy()
        used = Counter(blocks.values())
        counts = {}
        for month, name in blocks.items():
            if used[name] == 1:
                counts[month] = unknown.copy()
                counts[month][at[block == name]] = receipts[block == name]
        return cls(unpadded(sets[first]), counts, unknown)


def build(receipts: DataFrame, parameters: Parameters) -> DataFrame:
    baskets = receipts.select("month", "products")
    counted = {row["month"]: row["count"] for row in baskets.groupBy("month").count().collect()}
    blocks = mining_blocks(counted, parameters.min_support)
    if not blocks:
        return grouped(baskets, ("month",), lambda rows: rows, TABLE)
    joined = [f"when '{month}' then '{block}'" for month, block in blocks.items() if month != block]
    placed = baskets.withColumn("block", F.expr(f"case month {' '.join(joined)} else month end" if joined else "month"))

    def mine(rows: pa.Table) -> pa.Table:
        found = frequent_itemsets(
            rows["products"].combine_chunks(), parameters.min_support, parameters.max_itemset_size
        )
        return found.append_column("month", pa.repeat(rows["block"][0], found.num_rows))

    known = Known.of(grouped(placed, ("block",), mine, TABLE).toArrow(), blocks)

    def count(rows: pa.Table) -> pa.Table:
        month = rows["month"][0]
        receipts = known.counts.get(month.as_py(), known.unknown).copy()
        missing = np.flatnonzero(receipts < 0)
        receipts[missing] = count_itemsets(rows["products"].combine_chunks(), known.items.take(pa.array(missing)))
        present = pa.array(receipts > 0)
        items, counts = known.items.filter(present), pa.array(receipts).filter(present)
        return pa.table({"items": items, "month": pa.repeat(month, len(items)), "receipts": counts})

    return grouped(baskets, ("month",), count, TABLE)
