"""What the customers of a segment have in common."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_whole
from lakehouse.gold.clustering import customer_segments
from lakehouse.kernels.profiles import profiles
from lakehouse.table import BIGINT, DOUBLE, INT, STRING, TEXT_LIST, Between, Column, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="clustering",
    name="segment_profiles",
    doc="One row per segment.",
    inputs={"segments": customer_segments.TABLE},
    columns=(
        Column("segment", INT, "The segment, by falling mean units."),
        Column("label", STRING, "What to call it."),
        Column("description", STRING, "What it is like."),
        Column("recommendations", TEXT_LIST, "What to do with it."),
        Column("customers", BIGINT, "Customers in it."),
        Column("customers_pct", DOUBLE, "Their share of all customers.", digits=4),
        Column("avg_frequency", DOUBLE, "Mean receipts.", digits=4),
        Column("avg_diversity", DOUBLE, "Mean distinct products.", digits=4),
        Column("avg_total_products", DOUBLE, "Mean units.", digits=4),
        Column("avg_unique_categories", DOUBLE, "Mean distinct categories.", digits=4),
        Column("min_frequency", BIGINT, "Fewest receipts."),
        Column("max_frequency", BIGINT, "Most receipts."),
        Column("min_total_products", BIGINT, "Fewest units."),
        Column("max_total_products", BIGINT, "Most units."),
        Column("inertia", DOUBLE, "Sum of the squared distances from the centre.", digits=4),
    ),
    keys=("segment",),
    checks=(
        Between("customers", 1, None, why="a segment has customers"),
        Between("customers_pct", 0, 100, why="a share is within 0 and 100"),
    ),
)


def build(segments: DataFrame) -> DataFrame:
    millionths = F.floor(F.col("squared_distance") * 1_000_000 + 0.5)
    summed = ("frequency", "diversity", "total_products", "unique_categories")
    sums = [F.sum(c).cast("bigint").alias(f"sum_{c}") for c in summed]
    ranged = ("frequency", "total_products")
    ends = [f(c).cast("bigint").alias(f"{f.__name__}_{c}") for f in (F.min, F.max) for c in ranged]
    totals = segments.groupBy("segment").agg(
        F.count(F.lit(1)).alias("customers"), *sums, *ends, F.sum(millionths).cast("bigint").alias("inertia_millionths")
    )
    return map_whole(totals, profiles, TABLE)
