"""What each customer bought each month: the state from which features are made without a second look at receipts."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_groups
from lakehouse.kernels.customers import customer_months
from lakehouse.silver import receipts
from lakehouse.table import BIGINT, DATE, INTS, STRING, Between, Column, Expression, Layer, ReplaceMonths, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="customer_months",
    doc="One row per customer and month with a receipt.",
    inputs={"receipts": receipts.TABLE},
    columns=(
        Column("customer_id", BIGINT, "The customer."),
        Column("month", STRING, "The month, YYYY-MM."),
        Column("first_on", DATE, "First day with a receipt."),
        Column("last_on", DATE, "Last day with a receipt."),
        Column("receipts", BIGINT, "Receipts."),
        Column("units", BIGINT, "Units bought."),
        Column("stores", INTS, "Distinct stores, ascending."),
        Column("products", INTS, "Distinct products, ascending."),
    ),
    keys=("customer_id", "month"),
    write=ReplaceMonths(),
    partition="month",
    grows_with="customers",
    checks=(
        Between("receipts", 1, None, why="a row exists because of a receipt"),
        Expression("size(products) <= units", why="distinct products are at most the units"),
        Expression("first_on <= last_on", why="the first day is not after the last"),
    ),
)
BUCKETS = 4


def build(receipts: DataFrame) -> DataFrame:
    wanted = receipts.select("month", "sold_on", "store_id", "customer_id", "products", "units")
    bucketed = wanted.withColumn("bucket", F.pmod("customer_id", F.lit(BUCKETS)))
    return map_groups(bucketed, ("month", "bucket"), customer_months, TABLE)
