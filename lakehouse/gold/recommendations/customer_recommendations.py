"""What to show to a customer."""

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.frames.kernels import map_partitions
from lakehouse.gold.recommendations import association_rules
from lakehouse.kernels.recommendations import recommendations, scorer_of
from lakehouse.silver import customers
from lakehouse.table import BIGINT, DOUBLE, INT, INTS, Between, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="recommendations",
    name="customer_recommendations",
    doc="One row per customer and rank, five ranks at most.",
    inputs={"rules": association_rules.TABLE, "customers": customers.TABLE},
    columns=(
        Column("customer_id", BIGINT, "The customer."),
        Column("rank", INT, "1 is the best."),
        Column("recommended_product_id", INT, "A product not yet bought."),
        Column("based_on", INTS, "The products bought that lead to it, ascending."),
        Column("confidence", DOUBLE, "Confidence of the rule.", digits=9),
        Column("lift", DOUBLE, "Lift of the rule.", digits=9),
    ),
    keys=("customer_id", "rank"),
    grows_with="customers",
    checks=(
        Between("rank", 1, 5, why="five are recommended"),
        Expression("not array_contains(based_on, recommended_product_id)", why="it is not what it is based on"),
    ),
)


def build(rules: DataFrame, customers: DataFrame) -> DataFrame:
    scorer = scorer_of(rules.select("antecedent", "consequent", "confidence", "lift").toArrow())

    def score(rows: pa.Table) -> pa.Table:
        return recommendations(scorer, rows["customer_id"].combine_chunks(), rows["products"].combine_chunks())

    return map_partitions(customers.select("customer_id", "products"), score, TABLE)
