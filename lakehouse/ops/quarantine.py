"""Lines that broke a row rule."""

from pyspark.sql import DataFrame

from lakehouse.bronze import categories, product_categories, transactions
from lakehouse.frames.kernels import map_batches
from lakehouse.kernels.decisions import in_quarantine, last_decisions
from lakehouse.ops import corrections
from lakehouse.table import BIGINT, INT, STRING, Column, Layer, OneOf, ReplaceSources, Table

RULES = (
    "not_utf8",
    "wrong_field_count",
    "bad_date",
    "date_out_of_range",
    "bad_store",
    "bad_customer",
    "no_products",
    "bad_product",
    "bad_category",
)
STATUSES = ("open", "waived", "replayed")

TABLE = Table(
    layer=Layer.OPS,
    name="quarantine",
    doc="One row per refused line, kept whole, also when it was corrected or waived.",
    inputs={
        "transactions": transactions.TABLE,
        "categories": categories.TABLE,
        "product_categories": product_categories.TABLE,
        "corrections": corrections.TABLE,
    },
    columns=(
        Column("source_id", BIGINT, "The file it came in."),
        Column("line_number", INT, "Its line there, from 1."),
        Column("entity", STRING, "What the file holds."),
        Column("line", STRING, "The line as delivered; a byte that is not UTF-8 is the character U+EF00 + byte."),
        Column("rule", STRING, "The first rule it broke."),
        Column("detail", STRING, "What was found."),
        Column("status", STRING, "open; waived: accepted as lost; replayed: in silver as it was corrected."),
    ),
    keys=("source_id", "line_number"),
    write=ReplaceSources(),
    checks=(
        OneOf("rule", RULES, why="the rules are a closed set"),
        OneOf("status", STATUSES, why="nothing leaves quarantine without a trace"),
    ),
)


def build(
    transactions: DataFrame, categories: DataFrame, product_categories: DataFrame, corrections: DataFrame
) -> DataFrame:
    decisions = last_decisions(corrections.toArrow())

    def refused_rows(lines: DataFrame, entity: str) -> DataFrame:
        return map_batches(lines, lambda rows: in_quarantine(rows, entity, decisions), TABLE)

    receipts = refused_rows(transactions, "transactions")
    names, links = refused_rows(categories, "categories"), refused_rows(product_categories, "product_categories")
    return receipts.unionByName(names).unionByName(links)
