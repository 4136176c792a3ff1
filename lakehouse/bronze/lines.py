"""What the bronze tables have in common: numbered lines of current sources."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.kernels.lines import numbered_lines
from lakehouse.objects import opened
from lakehouse.table import BIGINT, INT, STRING, Column, Table

COLUMNS = (
    Column("source_id", BIGINT, "The file it came in."),
    Column("line_number", INT, "Its line there, from 1."),
    Column("line", STRING, "The line without its end; a byte that is not UTF-8 is the character U+EF00 + byte."),
)


def lines_of(sources: DataFrame, entity: str, table: Table) -> DataFrame:
    """Read the lines of an entity's current sources, each file by one task; of one that grew, those at its end."""
    current = sources.where((sources.entity == entity) & (sources.status == "current"))
    wanted = current.select("source_id", "location", "bytes", "carried_lines", "carried_bytes")
    return wanted.mapInArrow(_read, table.sql_schema)


def _read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for source in batch.to_pylist():
            with opened(source["location"], source["carried_bytes"] or 0) as file:
                before, until = source["carried_lines"] or 0, source["bytes"]  # somebody may write behind them by now
                yield from numbered_lines(file, source["source_id"], before=before, until=until)
