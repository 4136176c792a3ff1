"""Hand frames to Arrow kernels, the same way on every engine."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema

from lakehouse.frames.mapped import map_in_arrow
from lakehouse.frames.schemas import spark_schema
from lakehouse.table import Table

Kernel = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Earlier:
    """A table as the last release has it, and of which months and customers receipts come, go or change since."""

    rows: DataFrame
    months: frozenset[str]
    customers: pa.Array


def map_batches(frame: DataFrame, kernel: Kernel, table: Table) -> DataFrame:
    """Run a kernel over each record batch; the result has the table's columns."""
    schema = table.arrow_schema

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from _fitted(kernel(pa.Table.from_batches([batch])), schema)

    return map_in_arrow(frame, run, schema)


def map_partitions(frame: DataFrame, kernel: Kernel, table: Table) -> DataFrame:
    """Run a kernel once over all rows of each partition."""
    schema, given = table.arrow_schema, to_arrow_schema(frame.schema)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = pa.Table.from_batches([b.cast(given) for b in batches], given)
        yield from _fitted(kernel(rows), schema)

    return map_in_arrow(frame, run, schema)


def map_whole(frame: DataFrame, kernel: Kernel, table: Table) -> DataFrame:
    """Run a kernel once over all rows of a small frame."""
    return map_partitions(frame.coalesce(1), kernel, table)


def map_groups(frame: DataFrame, by: tuple[str, ...], kernel: Kernel, table: Table) -> DataFrame:
    """Run a kernel once per group of rows that are equal in the columns `by`."""
    schema = table.arrow_schema

    def run(rows: pa.Table) -> pa.Table:
        return kernel(rows).select(schema.names).cast(schema)

    return frame.groupBy(*by).applyInArrow(run, spark_schema(schema))


def _fitted(rows: pa.Table, schema: pa.Schema) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = rows.select(schema.names).cast(schema).to_batches()
    return batches
