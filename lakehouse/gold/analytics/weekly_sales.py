"""The weekly series."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import sales_days
from lakehouse.table import BIGINT, DATE, INT, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="weekly_sales",
    doc="One row per ISO year and ISO week with sales.",
    inputs={"days": sales_days.TABLE},
    columns=(
        Column("iso_year", INT, "Year the week belongs to."),
        Column("iso_week", INT, "Week, 1 to 53, beginning on Monday."),
        Column("first_on", DATE, "First day of it with sales."),
        Column("last_on", DATE, "Last day of it with sales."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
    ),
    keys=("iso_year", "iso_week"),
    checks=(
        Between("iso_week", 1, 53, why="a year has at most 53 ISO weeks"),
        Expression("datediff(last_on, first_on) < 7", why="a week has seven days"),
    ),
)


def build(days: DataFrame) -> DataFrame:
    thursday = F.date_add(F.date_trunc("week", "sold_on").cast("date"), 3)
    week = F.floor((F.dayofyear(thursday) - 1) / 7).cast("int") + 1
    dated = days.select(F.year(thursday).alias("iso_year"), week.alias("iso_week"), "sold_on", "receipts", "units")
    return dated.groupBy("iso_year", "iso_week").agg(
        F.min("sold_on").alias("first_on"),
        F.max("sold_on").alias("last_on"),
        F.sum("receipts").alias("receipts"),
        F.sum("units").alias("units"),
    )
