"""The daily series."""

from pyspark.sql import DataFrame

from lakehouse.silver import sales_days
from lakehouse.table import BIGINT, DATE, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="daily_sales",
    doc="One row per date with sales.",
    inputs={"days": sales_days.TABLE},
    columns=(
        Column("sold_on", DATE, "The day."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
        Column("customers", BIGINT, "Distinct customers: not additive over days."),
    ),
    keys=("sold_on",),
    checks=(Expression("customers <= receipts", why="a customer of the day has a receipt of the day"),),
)


def build(days: DataFrame) -> DataFrame:
    return days.select("sold_on", "receipts", "units", "customers")
