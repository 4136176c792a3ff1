"""The monthly series."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import sales_days
from lakehouse.table import BIGINT, STRING, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="monthly_sales",
    doc="One row per month with sales.",
    inputs={"days": sales_days.TABLE},
    columns=(
        Column("month", STRING, "The month, YYYY-MM."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
        Column("days", BIGINT, "Days with sales."),
    ),
    keys=("month",),
    checks=(Expression("days between 1 and 31", why="a month has at most 31 days"),),
)


def build(days: DataFrame) -> DataFrame:
    return days.groupBy("month").agg(
        F.sum("receipts").alias("receipts"), F.sum("units").alias("units"), F.count(F.lit(1)).alias("days")
    )
