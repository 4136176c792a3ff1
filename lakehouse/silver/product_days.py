"""Units and receipts per day, store and product: the additive fact behind totals, series and tops."""

from pyspark.sql import DataFrame

from lakehouse.frames.kernels import map_groups
from lakehouse.kernels.sales import product_days
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
    return map_groups(receipts.select("month", "sold_on", "store_id", "products"), ("month",), product_days, TABLE)
