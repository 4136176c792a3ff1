"""Which segment each customer is in."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_partitions
from lakehouse.kernels.segments import FEATURES, fit, nearest, reorder
from lakehouse.parameters import Parameters
from lakehouse.silver import customers
from lakehouse.table import BIGINT, DOUBLE, INT, Between, Column, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="clustering",
    name="customer_segments",
    doc="One row per customer.",
    inputs={"customers": customers.TABLE},
    columns=(
        Column("customer_id", BIGINT, "The customer."),
        Column("segment", INT, "Its segment, 0 is the one with the most units per customer."),
        Column("frequency", BIGINT, "Receipts."),
        Column("diversity", INT, "Distinct products bought."),
        Column("total_products", BIGINT, "Units bought."),
        Column("unique_categories", INT, "Distinct categories."),
        Column("squared_distance", DOUBLE, "From the segment's centre, in standard deviations, squared."),
    ),
    keys=("customer_id",),
    grows_with="customers",
    checks=(
        Between("segment", 0, 19, why="segments are numbered from 0"),
        Between("squared_distance", 0, None, why="a square is not negative"),
    ),
)
MOST_FITTED = 1_000_000


def build(customers: DataFrame, parameters: Parameters) -> DataFrame:
    wanted = customers.select("customer_id", *FEATURES)
    chosen = _sample(wanted)
    model = fit(chosen.toArrow(), parameters.n_clusters)
    units = (
        map_partitions(wanted, lambda rows: nearest(rows, model), TABLE)
        .groupBy("segment")
        .agg(F.sum("total_products").alias("units"), F.count(F.lit(1)).alias("customers"))
    )
    means = {row["segment"]: row["units"] / row["customers"] for row in units.collect()}
    order = sorted(means, key=lambda segment: (-means[segment], segment))
    numbered = reorder(model, order)
    return map_partitions(wanted, lambda rows: nearest(rows, numbered), TABLE)


def _sample(customers: DataFrame) -> DataFrame:
    """Choose at most a million customers by the hash of their id: about, and always the same."""
    shares = -(-customers.count() // MOST_FITTED)
    return customers.where(F.pmod(F.xxhash64("customer_id"), F.lit(shares)) == 0) if shares > 1 else customers
