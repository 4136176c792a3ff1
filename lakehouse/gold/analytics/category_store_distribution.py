"""How many units of a category receipts hold, store by store: the box plots."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_whole
from lakehouse.kernels.baskets import box_plots
from lakehouse.silver import basket_months
from lakehouse.table import BIGINT, DOUBLE, INT, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="analytics",
    name="category_store_distribution",
    doc="One row per primary category (0: products without) and store with sales of it.",
    inputs={"baskets": basket_months.TABLE},
    columns=(
        Column("category_id", INT, "The category; 0 for products without."),
        Column("store_id", INT, "The store."),
        Column("units", BIGINT, "Units sold."),
        Column("receipts", BIGINT, "Receipts that hold the category."),
        Column("minimum", INT, "Fewest units in one of them."),
        Column("lower_quartile", DOUBLE, "A quarter of them hold at most so many.", digits=4),
        Column("median", DOUBLE, "Half of them hold at most so many.", digits=4),
        Column("upper_quartile", DOUBLE, "Three quarters of them hold at most so many.", digits=4),
        Column("maximum", INT, "Most units in one of them."),
        Column("average", DOUBLE, "Units per such receipt.", digits=4),
    ),
    keys=("category_id", "store_id"),
    checks=(
        Expression(
            "minimum <= lower_quartile and lower_quartile <= median and median <= upper_quartile "
            "and upper_quartile <= maximum",
            why="quartiles are in order",
        ),
        Expression("units >= receipts", why="each of these receipts holds at least one unit"),
    ),
)


def build(baskets: DataFrame) -> DataFrame:
    histogram = baskets.groupBy("category_id", "store_id", "basket_units").agg(F.sum("receipts").alias("receipts"))
    return map_whole(histogram, box_plots, TABLE)
