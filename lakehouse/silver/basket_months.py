"""How many units of a category receipts hold: the histogram behind the box plots."""

import numpy as np
from pyspark.sql import DataFrame

from lakehouse.frames.kernels import map_groups
from lakehouse.kernels.baskets import basket_histogram
from lakehouse.silver import product_categories, receipts
from lakehouse.table import BIGINT, INT, STRING, Between, Column, Layer, ReplaceMonths, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="basket_months",
    doc="One row per month, store, category and number of its units in a receipt.",
    inputs={"receipts": receipts.TABLE, "categories": product_categories.TABLE},
    columns=(
        Column("month", STRING, "The month, YYYY-MM."),
        Column("store_id", INT, "The store."),
        Column("category_id", INT, "Primary category; 0 for products without."),
        Column("basket_units", INT, "Units of the category in a receipt."),
        Column("receipts", BIGINT, "Receipts with that many."),
    ),
    keys=("month", "store_id", "category_id", "basket_units"),
    write=ReplaceMonths(),
    partition="month",
    checks=(
        Between("basket_units", 1, None, why="only receipts with the category are counted"),
        Between("receipts", 1, None, why="a row exists because of a receipt"),
    ),
)


def build(receipts: DataFrame, categories: DataFrame) -> DataFrame:
    pairs = categories.where("is_primary").select("product_id", "category_id").toArrow().sort_by("product_id")
    product_id, category_id = (np.asarray(pairs[c].to_numpy(), np.int64) for c in ("product_id", "category_id"))
    wanted = receipts.select("month", "store_id", "products")
    return map_groups(wanted, ("month",), lambda rows: basket_histogram(rows, product_id, category_id), TABLE)
