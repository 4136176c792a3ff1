"""The figures of the whole lakehouse."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import customers, product_days, sales_days
from lakehouse.table import BIGINT, DATE, Between, Column, Expression, Layer, RowCount, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="summary",
    name="sales_totals",
    doc="One row, the whole lakehouse; none where nothing is sold.",
    inputs={"days": sales_days.TABLE, "products": product_days.TABLE, "customers": customers.TABLE},
    columns=(
        Column("first_on", DATE, "First day with sales."),
        Column("last_on", DATE, "Last day with sales."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units sold."),
        Column("customers", BIGINT, "Distinct customers."),
        Column("products", BIGINT, "Distinct products sold."),
        Column("stores", BIGINT, "Distinct stores."),
    ),
    keys=("first_on",),
    checks=(
        RowCount(0, 1, why="there is one lakehouse, which may be empty"),
        Expression("units >= receipts", why="a receipt holds at least one unit"),
        Between("customers", 1, None, why="a receipt has a customer"),
    ),
)


def build(days: DataFrame, products: DataFrame, customers: DataFrame) -> DataFrame:
    sales = days.agg(
        F.min("sold_on").alias("first_on"),
        F.max("sold_on").alias("last_on"),
        F.sum("receipts").alias("receipts"),
        F.sum("units").alias("units"),
    )
    sold = products.agg(F.countDistinct("product_id").alias("products"), F.countDistinct("store_id").alias("stores"))
    buyers = customers.agg(F.count(F.lit(1)).alias("customers"))
    return sales.where("receipts is not null").crossJoin(buyers).crossJoin(sold)
