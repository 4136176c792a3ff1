"""Association rules with one consequent."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.frames.kernels import map_whole
from lakehouse.gold.recommendations import itemsets
from lakehouse.kernels.association_rules import association_rules
from lakehouse.parameters import Parameters
from lakehouse.silver import sales_days
from lakehouse.table import BIGINT, DOUBLE, INT, INTS, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="recommendations",
    name="association_rules",
    doc="One row per rule: who buys the antecedent, buys the consequent.",
    inputs={"itemsets": itemsets.TABLE, "days": sales_days.TABLE},
    columns=(
        Column("antecedent", INTS, "Distinct products, ascending."),
        Column("consequent", INT, "The product that follows."),
        Column("receipts", BIGINT, "Receipts that hold all of them."),
        Column("support", DOUBLE, "Their share of all receipts.", digits=9),
        Column("confidence", DOUBLE, "Share of the antecedent's receipts that hold the consequent.", digits=9),
        Column("lift", DOUBLE, "Confidence over the consequent's own support.", digits=9),
    ),
    keys=("antecedent", "consequent"),
    checks=(
        Between("confidence", 0, 1, why="a share is within 0 and 1"),
        Between("lift", 0, None, why="a ratio of shares is not negative"),
        Expression("not array_contains(antecedent, consequent)", why="a product does not follow from itself"),
    ),
)


def build(itemsets: DataFrame, days: DataFrame, parameters: Parameters) -> DataFrame:
    total = days.agg(F.coalesce(F.sum("receipts"), F.lit(0)).alias("receipts")).collect()[0]["receipts"]
    wanted = itemsets.select("items", "receipts")
    return map_whole(wanted, lambda rows: association_rules(rows, total, parameters.min_confidence), TABLE)
