"""Literal rows in, plain rows out: tables' builds on an engine, without storage."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse import catalog
from lakehouse.engine.building import rows_of
from lakehouse.engine.session import Engine
from lakehouse.frames.kernels import Earlier
from lakehouse.frames.schemas import spark_schema
from lakehouse.kernels.digest import digest
from lakehouse.parameters import Parameters
from lakehouse.table import BIGINT, BOOLEAN, DATE, DOUBLE, INT, INTS, STRING, TIMESTAMP, Table

Row = dict[str, Any]
UNSAID: Mapping[Any, Any] = {
    BOOLEAN.arrow: True,
    INT.arrow: 1,
    BIGINT.arrow: 1,
    DOUBLE.arrow: 1.0,
    STRING.arrow: "?",
    DATE.arrow: date(2024, 1, 1),
    TIMESTAMP.arrow: datetime(2024, 1, 1, tzinfo=UTC),
    INTS.arrow: [1],
}


def arrow_rows(table: Table, rows: Iterable[Row]) -> pa.Table:
    """Make rows of a table; columns that are not said are filled in, nullable ones with nothing."""
    full = [{c.name: None if c.nullable else UNSAID[c.type.arrow] for c in table.columns} | row for row in rows]
    return pa.Table.from_pylist(full, table.arrow_schema)


def framed(engine: Engine, table: Table, rows: Iterable[Row]) -> DataFrame:
    """Make a frame of a table's rows."""
    made = arrow_rows(table, rows)
    if not made.num_rows:  # PySpark takes no schema from an empty table
        return engine.session.createDataFrame([], spark_schema(table.arrow_schema))
    return engine.session.createDataFrame(made)


def built_table(
    engine: Engine,
    name: str,
    parameters: Parameters | None = None,
    earlier: Earlier | None = None,
    **inputs: Iterable[Row],
) -> pa.Table:
    """Build a table, as a run does, of the rows of its inputs; inputs that are not said are empty."""
    entry = catalog.entry(name)
    frames = {key: framed(engine, table, inputs.get(key, ())) for key, table in entry.table.inputs.items()}
    extra: dict[str, object] = {"parameters": parameters or Parameters()} if entry.takes_parameters else {}
    extra |= {"earlier": earlier} if entry.takes_earlier else {}
    assert entry.build is not None
    return rows_of(engine, entry.build(**frames, **extra), entry.table).read_all()


def built(
    engine: Engine,
    name: str,
    parameters: Parameters | None = None,
    earlier: Earlier | None = None,
    **inputs: Iterable[Row],
) -> list[Row]:
    """Give the rows of `built_table` in the order of the table's keys."""
    keys = catalog.entry(name).table.keys
    rows: list[Row] = built_table(engine, name, parameters, earlier, **inputs).to_pylist()
    return sorted(rows, key=lambda row: [row[key] for key in keys])


def chosen(rows: Iterable[Row], *columns: str) -> list[tuple[Any, ...]]:
    """Give some columns of rows as tuples."""
    return [tuple(row[column] for column in columns) for row in rows]


def digest_of(table: Table, rows: pa.Table) -> str:
    """Digest rows as a table's are."""
    return digest(rows.to_batches(), {c.name: c.digits for c in table.columns})
