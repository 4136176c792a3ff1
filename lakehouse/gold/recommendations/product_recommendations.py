"""What to show beside a product."""

from pyspark.sql import DataFrame

from lakehouse.frames.kernels import map_whole
from lakehouse.gold.recommendations import association_rules
from lakehouse.kernels.association_rules import product_recommendations
from lakehouse.table import DOUBLE, INT, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="recommendations",
    name="product_recommendations",
    doc="One row per product and rank, five ranks at most.",
    inputs={"rules": association_rules.TABLE},
    columns=(
        Column("product_id", INT, "The product."),
        Column("rank", INT, "1 is the best."),
        Column("recommended_product_id", INT, "The product to show."),
        Column("support", DOUBLE, "Share of receipts that hold both.", digits=9),
        Column("confidence", DOUBLE, "Share of the product's receipts that hold the recommended one.", digits=9),
        Column("lift", DOUBLE, "Confidence over the recommended product's own support.", digits=9),
    ),
    keys=("product_id", "rank"),
    checks=(
        Between("rank", 1, 5, why="five are recommended"),
        Expression("product_id <> recommended_product_id", why="a product is not beside itself"),
    ),
)


def build(rules: DataFrame) -> DataFrame:
    return map_whole(rules, product_recommendations, TABLE)
