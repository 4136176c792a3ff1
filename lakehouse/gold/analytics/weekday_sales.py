"""The pattern of the week."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import sales_days
from lakehouse.table import BIGINT, INT, Between, Column, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="weekday_sales",
    doc="One row per day of the week with sales.",
    inputs={"days": sales_days.TABLE},
    columns=(
        Column("weekday", INT, "1 = Sunday ... 7 = Saturday."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
        Column("days", BIGINT, "Days with sales."),
    ),
    keys=("weekday",),
    checks=(Between("weekday", 1, 7, why="a week has seven days"),),
)


def build(days: DataFrame) -> DataFrame:
    return days.groupBy(F.dayofweek("sold_on").alias("weekday")).agg(
        F.sum("receipts").alias("receipts"), F.sum("units").alias("units"), F.count(F.lit(1)).alias("days")
    )
