"""Lines of every transactions file, as delivered."""

from pyspark.sql import DataFrame

from lakehouse.bronze.lines import COLUMNS, lines_of
from lakehouse.ops import sources
from lakehouse.table import Layer, ReplaceSources, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="transactions",
    doc="One row per line of every transactions file.",
    inputs={"sources": sources.TABLE},
    columns=COLUMNS,
    keys=("source_id", "line_number"),
    write=ReplaceSources(),
    grows_with="receipts",
)


def build(sources: DataFrame) -> DataFrame:
    return lines_of(sources, "transactions", TABLE)
