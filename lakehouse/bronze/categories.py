"""Lines of the newest categories extract, as delivered."""

from pyspark.sql import DataFrame

from lakehouse.bronze.lines import COLUMNS, lines_of
from lakehouse.ops import sources
from lakehouse.table import Layer, Replace, Table

TABLE = Table(
    layer=Layer.BRONZE,
    name="categories",
    doc="One row per line of the newest categories extract.",
    inputs={"sources": sources.TABLE},
    columns=COLUMNS,
    keys=("source_id", "line_number"),
    write=Replace(),
)


def build(sources: DataFrame) -> DataFrame:
    return lines_of(sources, "categories", TABLE)
