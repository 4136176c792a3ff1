"""How customer features go together."""

from itertools import combinations_with_replacement

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_whole
from lakehouse.kernels.correlation import SCALE, VARIABLES, correlations
from lakehouse.silver import customers
from lakehouse.table import DOUBLE, STRING, Between, Column, Layer, OneOf, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="variable_correlation",
    doc="One row per ordered pair of customer features.",
    inputs={"customers": customers.TABLE},
    columns=(
        Column("variable", STRING, "A feature of customers."),
        Column("other", STRING, "The same or another."),
        Column("correlation", DOUBLE, "Pearson, over customers; empty where a feature does not vary.", nullable=True),
    ),
    keys=("variable", "other"),
    checks=(
        OneOf("variable", VARIABLES, why="the features are a closed set"),
        Between("correlation", -1, 1, why="a correlation is within -1 and 1"),
    ),
)


def build(customers: DataFrame) -> DataFrame:
    """Sum exactly, in whole numbers: the order of rows cannot show."""
    scaled = {v: F.floor(F.col(v) * SCALE + 0.5).cast("bigint") if v == "avg_quantity" else F.col(v) for v in VARIABLES}
    numbers = {v: c.cast("decimal(19,0)") for v, c in scaled.items()}
    sums = [F.sum(numbers[v]).cast("string").alias(v) for v in VARIABLES]
    pairs = list(combinations_with_replacement(VARIABLES, 2))
    products = [F.sum(numbers[a] * numbers[b]).cast("string").alias(f"{a}*{b}") for a, b in pairs]
    return map_whole(customers.agg(F.count(F.lit(1)).alias("customers"), *sums, *products), correlations, TABLE)
