"""Category names."""

from pyspark.sql import DataFrame

from lakehouse.bronze import categories
from lakehouse.frames.kernels import map_batches
from lakehouse.kernels.decisions import apply_decisions, last_decisions
from lakehouse.kernels.reference_rules import accepted_categories
from lakehouse.ops import corrections
from lakehouse.table import INT, STRING, Between, Column, Layer, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="categories",
    doc="One row per category.",
    inputs={"categories": categories.TABLE, "corrections": corrections.TABLE},
    columns=(
        Column("category_id", INT, "The category's number, from 1."),
        Column("category_name", STRING, "Its name."),
    ),
    keys=("category_id",),
    checks=(Between("category_id", 1, None, why="0 stands for products without category"),),
)


def build(categories: DataFrame, corrections: DataFrame) -> DataFrame:
    decisions = last_decisions(corrections.toArrow())
    return map_batches(categories, lambda rows: accepted_categories(apply_decisions(rows, decisions)), TABLE)
