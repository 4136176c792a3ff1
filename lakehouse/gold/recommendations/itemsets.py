"""Frequent itemsets."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.kernels.itemsets import min_count
from lakehouse.parameters import Parameters
from lakehouse.silver import sales_days
from lakehouse.silver.recommendations import itemset_months
from lakehouse.table import BIGINT, DOUBLE, INT, INTS, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="recommendations",
    name="itemsets",
    doc="One row per itemset of frequent enough support.",
    inputs={"months": itemset_months.TABLE, "days": sales_days.TABLE},
    columns=(
        Column("items", INTS, "Distinct products, ascending."),
        Column("size", INT, "How many."),
        Column("receipts", BIGINT, "Receipts that hold all of them: exact."),
        Column("support", DOUBLE, "Their share of all receipts.", digits=9),
    ),
    keys=("items",),
    checks=(
        Between("support", 0, 1, why="a share is within 0 and 1"),
        Expression("size = size(items)", why="the size counts the items"),
    ),
)


def build(months: DataFrame, days: DataFrame, parameters: Parameters) -> DataFrame:
    total = days.agg(F.coalesce(F.sum("receipts"), F.lit(0)).alias("receipts")).collect()[0]["receipts"]
    counted = months.groupBy("items").agg(F.sum("receipts").alias("receipts"))
    frequent = counted.where(F.col("receipts") >= min_count(parameters.min_support, total))
    support = (F.col("receipts") / F.lit(max(total, 1)).cast("double")).alias("support")
    return frequent.select("items", F.size("items").alias("size"), "receipts", support)
