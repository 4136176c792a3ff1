"""Which product is in which categories."""

from pyspark.sql import DataFrame

from lakehouse.bronze import product_categories
from lakehouse.frames.kernels import map_whole
from lakehouse.kernels.decisions import apply_decisions, last_decisions
from lakehouse.kernels.reference_rules import accepted_product_categories
from lakehouse.ops import corrections
from lakehouse.table import BOOLEAN, INT, Between, Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="product_categories",
    doc="One row per product and category, however often it was delivered.",
    inputs={"product_categories": product_categories.TABLE, "corrections": corrections.TABLE},
    columns=(
        Column("product_id", INT, "The product's number."),
        Column("category_id", INT, "A category it is in."),
        Column("is_primary", BOOLEAN, "Whether it is the smallest category of the product: figures add up over these."),
        Column("lines", INT, "Lines that say so."),
    ),
    keys=("product_id", "category_id"),
    checks=(Between("lines", 1, None, why="a row comes from a line"),),
)


def build(product_categories: DataFrame, corrections: DataFrame) -> DataFrame:
    decisions = last_decisions(corrections.toArrow())
    return map_whole(
        product_categories, lambda rows: accepted_product_categories(apply_decisions(rows, decisions)), TABLE
    )
