"""Units and receipts per product."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import product_categories, product_days
from lakehouse.table import BIGINT, INT, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="summary",
    name="product_sales",
    doc="One row per product sold.",
    inputs={"days": product_days.TABLE, "categories": product_categories.TABLE},
    columns=(
        Column("product_id", INT, "The product."),
        Column("category_id", INT, "Its primary category.", nullable=True),
        Column("units", BIGINT, "Units sold."),
        Column("receipts", BIGINT, "Receipts that hold it."),
    ),
    keys=("product_id",),
    checks=(Expression("units >= receipts", why="a receipt that holds a product holds at least one unit"),),
)


def build(days: DataFrame, categories: DataFrame) -> DataFrame:
    primary = categories.where("is_primary").select("product_id", "category_id")
    totals = days.groupBy("product_id").agg(F.sum("units").alias("units"), F.sum("receipts").alias("receipts"))
    return totals.join(primary, "product_id", how="left").select("product_id", "category_id", "units", "receipts")
