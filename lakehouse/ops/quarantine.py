"""Lines that broke a row rule."""

from pyspark.sql import DataFrame

from lakehouse.bronze import categories, product_categories, transactions
from lakehouse.frames import streamed
from lakehouse.kernels.receipts import refused_receipts
from lakehouse.kernels.reference import refused_categories, refused_product_categories
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

TABLE = Table(
    layer=Layer.OPS,
    name="quarantine",
    doc="One row per refused line, kept whole.",
    inputs={
        "transactions": transactions.TABLE,
        "categories": categories.TABLE,
        "product_categories": product_categories.TABLE,
    },
    columns=(
        Column("source_id", BIGINT, "The file it came in."),
        Column("line_number", INT, "Its line there, from 1."),
        Column("entity", STRING, "What the file holds."),
        Column("line", STRING, "The line as delivered; a byte that is not UTF-8 is the character U+EF00 + byte."),
        Column("rule", STRING, "The first rule it broke."),
        Column("detail", STRING, "What was found."),
        Column("status", STRING, "open, waived or replayed."),
    ),
    keys=("source_id", "line_number"),
    write=ReplaceSources(),
    checks=(
        OneOf("rule", RULES, why="the rules are a closed set"),
        OneOf("status", ("open", "waived", "replayed"), why="nothing leaves quarantine without a trace"),
    ),
)


def build(transactions: DataFrame, categories: DataFrame, product_categories: DataFrame) -> DataFrame:
    receipts = streamed(transactions, refused_receipts, TABLE)
    names = streamed(categories, refused_categories, TABLE)
    links = streamed(product_categories, refused_product_categories, TABLE)
    return receipts.unionByName(names).unionByName(links)
