"""Receipts, units and customers per day."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import receipts
from lakehouse.table import BIGINT, DATE, STRING, Between, Column, Expression, Layer, ReplaceMonths, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="sales_days",
    doc="One row per date with sales.",
    inputs={"receipts": receipts.TABLE},
    columns=(
        Column("month", STRING, "Month of the sale, YYYY-MM."),
        Column("sold_on", DATE, "Day of the sale."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
        Column("customers", BIGINT, "Distinct customers: not additive over days."),
    ),
    keys=("sold_on",),
    write=ReplaceMonths(),
    partition="month",
    checks=(
        Expression("units >= receipts", why="a receipt holds at least one unit"),
        Between("customers", 1, None, why="a receipt has a customer"),
        Expression("customers <= receipts", why="a customer of the day has a receipt of the day"),
    ),
)


def build(receipts: DataFrame) -> DataFrame:
    return receipts.groupBy("month", "sold_on").agg(
        F.count(F.lit(1)).alias("receipts"),
        F.sum(F.col("units").cast("bigint")).alias("units"),
        F.countDistinct("customer_id").alias("customers"),
    )
