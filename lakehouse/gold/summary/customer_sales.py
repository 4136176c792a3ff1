"""Receipts and units per customer."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import customers
from lakehouse.table import BIGINT, DATE, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="summary",
    name="customer_sales",
    doc="One row per customer.",
    inputs={"customers": customers.TABLE},
    columns=(
        Column("customer_id", BIGINT, "The customer."),
        Column("first_on", DATE, "First day with a receipt."),
        Column("last_on", DATE, "Last day with a receipt."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units bought."),
    ),
    keys=("customer_id",),
    grows_with="customers",
    checks=(Expression("units >= receipts", why="a receipt holds at least one unit"),),
)


def build(customers: DataFrame) -> DataFrame:
    figures = (F.col("frequency").alias("receipts"), F.col("total_products").alias("units"))
    return customers.select("customer_id", "first_on", "last_on", *figures)
