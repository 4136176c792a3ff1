"""Customers and their features."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import Earlier, map_batches, map_groups
from lakehouse.kernels.customers import customer_features
from lakehouse.silver import customer_months, product_categories
from lakehouse.table import BIGINT, DATE, DOUBLE, INT, INTS, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="customers",
    doc="One row per customer.",
    inputs={"months": customer_months.TABLE, "categories": product_categories.TABLE},
    columns=(
        Column("customer_id", BIGINT, "The customer, the same person in every store."),
        Column("first_on", DATE, "First day with a receipt."),
        Column("last_on", DATE, "Last day with a receipt."),
        Column("frequency", BIGINT, "Receipts."),
        Column("total_products", BIGINT, "Units bought."),
        Column("diversity", INT, "Distinct products bought."),
        Column("avg_quantity", DOUBLE, "Units per receipt.", digits=4),
        Column("unique_stores", INT, "Distinct stores."),
        Column("unique_categories", INT, "Distinct categories, over all categories of each product."),
        Column("products", INTS, "The distinct products bought, ascending."),
    ),
    keys=("customer_id",),
    grows_with="customers",
    checks=(
        Between("frequency", 1, None, why="a customer has a receipt"),
        Between("unique_stores", 1, None, why="a receipt has a store"),
        Expression("diversity <= total_products", why="distinct products are at most the units"),
        Expression("diversity = size(products)", why="diversity counts the products listed"),
        Expression("frequency <= total_products", why="a receipt holds at least one unit"),
    ),
)
BUCKETS = 8


def build(months: DataFrame, categories: DataFrame, earlier: Earlier | None = None) -> DataFrame:
    if earlier is None:
        return _features(months, categories)
    touched = earlier.customers

    def of_others(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.invert(pc.is_in(rows["customer_id"], touched)))

    def of_touched(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows["customer_id"], touched))

    untouched = map_batches(earlier.rows, of_others, TABLE)
    return untouched.unionByName(_features(map_batches(months, of_touched, customer_months.TABLE), categories))


def _features(months: DataFrame, categories: DataFrame) -> DataFrame:
    pairs = categories.select("product_id", "category_id").toArrow().sort_by("product_id")
    product_id, category_id = (np.asarray(pairs[c].to_numpy(), np.int64) for c in ("product_id", "category_id"))
    bucketed = months.drop("month").withColumn("bucket", F.pmod("customer_id", F.lit(BUCKETS)))
    return map_groups(bucketed, ("bucket",), lambda rows: customer_features(rows, product_id, category_id), TABLE)
