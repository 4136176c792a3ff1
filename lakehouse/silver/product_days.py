"""Units and receipts per day, store and product: the additive fact behind totals, series and tops."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import receipts
from lakehouse.table import BIGINT, DATE, INT, STRING, Between, Column, Expression, Layer, ReplaceMonths, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="product_days",
    doc="One row per date, store and product sold.",
    inputs={"receipts": receipts.TABLE},
    columns=(
        Column("month", STRING, "Month of the sale, YYYY-MM."),
        Column("sold_on", DATE, "Day of the sale."),
        Column("store_id", INT, "The store."),
        Column("product_id", INT, "The product."),
        Column("units", BIGINT, "Units sold."),
        Column("receipts", BIGINT, "Receipts that hold it."),
    ),
    keys=("sold_on", "store_id", "product_id"),
    write=ReplaceMonths(),
    partition="month",
    checks=(
        Expression("units >= receipts", why="a receipt that holds a product holds at least one unit"),
        Between("receipts", 1, None, why="a row exists because something was sold"),
    ),
)


def build(receipts: DataFrame) -> DataFrame:
    place = ("month", "sold_on", "store_id")
    units = receipts.select(*place, F.explode("products").alias("product_id"), F.lit(1).alias("u"), F.lit(0).alias("r"))
    distinct = F.explode(F.array_distinct("products")).alias("product_id")
    holders = receipts.select(*place, distinct, F.lit(0).alias("u"), F.lit(1).alias("r"))
    totals = units.unionAll(holders).groupBy(*place, "product_id")
    return totals.agg(F.sum("u").alias("units"), F.sum("r").alias("receipts"))
