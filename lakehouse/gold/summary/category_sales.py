"""Units and receipts per category."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import basket_months, categories, product_categories
from lakehouse.table import BIGINT, INT, STRING, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="summary",
    name="category_sales",
    doc="One row per category listed or sold, and one (category 0) for products without a category.",
    inputs={"baskets": basket_months.TABLE, "names": categories.TABLE, "listed": product_categories.TABLE},
    columns=(
        Column("category_id", INT, "Primary category of the products sold; 0 for products without."),
        Column("category_name", STRING, "Its name, where it has one.", nullable=True),
        Column("units", BIGINT, "Units sold: over all rows, the total."),
        Column("receipts", BIGINT, "Receipts that hold a product of it."),
        Column("listed_products", BIGINT, "Products that have it among their categories."),
    ),
    keys=("category_id",),
    checks=(
        Expression("units >= receipts", why="a receipt that holds a product holds at least one unit"),
        Between("category_id", 0, None, why="0 stands for products without category"),
    ),
)


def build(baskets: DataFrame, names: DataFrame, listed: DataFrame) -> DataFrame:
    units = F.sum(F.col("basket_units") * F.col("receipts")).alias("units")
    sold = baskets.groupBy("category_id").agg(units, F.sum("receipts").alias("receipts"))
    products = listed.groupBy("category_id").agg(F.count(F.lit(1)).alias("listed_products"))
    known = names.join(products, "category_id", how="full").join(sold, "category_id", how="full")
    figures = (F.coalesce(F.col(c), F.lit(0)).cast("bigint").alias(c) for c in ("units", "receipts", "listed_products"))
    return known.select("category_id", "category_name", *figures)
