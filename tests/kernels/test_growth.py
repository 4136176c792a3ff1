"""A grown file read at its end, beside the lines that were kept, is the file read whole."""

from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from lakehouse.kernels.growth import Grown, carried_rows, rows_at_the_end
from lakehouse.kernels.lines import numbered_lines
from tests.kernels.test_lines import BLOCKS, BYTES
from tests.layouts import layouts

SCHEMA = pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})
ROWS = pa.table({"source_id": [1, 1, 2, 2, 3], "line_number": [1, 2, 1, 2, 1], "line": list("abcde")}, SCHEMA)


def read(content: bytes, source_id: int, block: int, at: int = 0, before: int = 0) -> pa.Table:
    file = BytesIO(content)
    file.seek(at)
    return pa.Table.from_batches(numbered_lines(file, source_id, block, before), SCHEMA)


@given(BYTES, BYTES, BLOCKS)
@settings(deadline=None)
def test_lines_kept_and_lines_at_the_end_are_the_lines_of_the_whole(old: bytes, more: bytes, block: int) -> None:
    lines = old.count(b"\n")
    kept = carried_rows(read(old, 1, block), [Grown(2, 1, lines)])
    end = read(old + more, 2, block, old.rfind(b"\n") + 1, lines)
    assert pa.concat_tables([kept, end]).to_pylist() == read(old + more, 2, block).to_pylist()


@given(BYTES, BYTES, BLOCKS)
@settings(deadline=None)
def test_what_is_written_behind_the_bytes_admitted_is_not_read(admitted: bytes, more: bytes, block: int) -> None:
    read_on = numbered_lines(BytesIO(admitted + more), 1, block, until=len(admitted))
    assert pa.Table.from_batches(read_on, SCHEMA).to_pylist() == read(admitted, 1, block).to_pylist()


@pytest.mark.parametrize("layout", layouts(ROWS))
def test_each_grown_source_gets_the_lines_it_begins_with(layout: str) -> None:
    carried = carried_rows(layouts(ROWS)[layout], [Grown(9, 1, 2), Grown(8, 2, 1), Grown(7, 3, 0), Grown(6, 5, 4)])
    assert rows_of(carried) == [(8, 1, "c"), (9, 1, "a"), (9, 2, "b")]
    assert carried.schema == SCHEMA


@pytest.mark.parametrize("layout", layouts(ROWS))
def test_at_the_end_is_what_no_grown_source_begins_with(layout: str) -> None:
    end = rows_at_the_end(layouts(ROWS)[layout], [Grown(9, 1, 1), Grown(2, 4, 1)])
    assert rows_of(end) == [(1, 2, "b"), (2, 2, "d"), (3, 1, "e")]
    assert end.schema == SCHEMA
    assert rows_at_the_end(ROWS, []).equals(ROWS)


def test_without_a_grown_source_nothing_is_carried() -> None:
    assert carried_rows(ROWS, []).num_rows == 0


def rows_of(rows: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((row["source_id"], row["line_number"], row["line"]) for row in rows.to_pylist())
