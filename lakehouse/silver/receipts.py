"""Receipts: the lines that keep every row rule, as delivered or as corrected, parsed."""

from pyspark.sql import DataFrame

from lakehouse.bronze import transactions
from lakehouse.frames.kernels import map_batches
from lakehouse.kernels.decisions import apply_decisions, last_decisions
from lakehouse.kernels.receipt_rules import accepted_receipts
from lakehouse.ops import corrections
from lakehouse.table import BIGINT, DATE, INT, INTS, STRING, Between, Column, Expression, Layer, ReplaceSources, Table

TABLE = Table(
    layer=Layer.SILVER,
    name="receipts",
    doc="One row per receipt: one purchase of one customer in one store on one day.",
    inputs={"transactions": transactions.TABLE, "corrections": corrections.TABLE},
    columns=(
        Column("source_id", BIGINT, "The file it came in."),
        Column("line_number", INT, "Its line there, from 1."),
        Column("month", STRING, "Month of the sale, YYYY-MM."),
        Column("sold_on", DATE, "Day of the sale."),
        Column("store_id", INT, "The store."),
        Column("customer_id", BIGINT, "The customer, the same person in every store."),
        Column("products", INTS, "Products as delivered, repeats kept."),
        Column("units", INT, "Length of `products`."),
    ),
    keys=("source_id", "line_number"),
    write=ReplaceSources(),
    partition="month",
    grows_with="receipts",
    checks=(
        Expression("units = size(products)", why="units are the length of the product list"),
        Expression("month = substring(cast(sold_on as string), 1, 7)", why="a receipt is in the month of its day"),
        Between("units", 1, None, why="a receipt without products is refused"),
    ),
)


def build(transactions: DataFrame, corrections: DataFrame) -> DataFrame:
    decisions = last_decisions(corrections.toArrow())
    return map_batches(transactions, lambda rows: accepted_receipts(apply_decisions(rows, decisions)), TABLE)
