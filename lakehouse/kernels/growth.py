"""Lines of sources that grew at their end: carried over to the grown source, not read again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc


class Grown(NamedTuple):
    """A source that begins with the first `lines` lines of another, which it replaces."""

    source_id: int
    grown_from: int
    lines: int


def carried_rows(rows: pa.Table, grown: Sequence[Grown]) -> pa.Table:
    """Give the rows of lines that grown sources begin with, as theirs; rows have source_id and line_number."""
    limits = {one.grown_from: one.lines for one in grown}
    kept = rows.filter(_is_within(rows, limits))
    names = {one.grown_from: one.source_id for one in grown}
    at = rows.schema.get_field_index("source_id")
    return kept.set_column(at, rows.schema.field(at), _looked_up(kept["source_id"], names))


def rows_at_the_end(rows: pa.Table, grown: Sequence[Grown]) -> pa.Table:
    """Leave out the rows of lines that were kept, of what grew and of what it grew from."""
    limits = {source_id: one.lines for one in grown for source_id in (one.source_id, one.grown_from)}
    return rows.filter(pc.invert(_is_within(rows, limits)))


def _is_within(rows: pa.Table, limits: Mapping[int, int]) -> pa.ChunkedArray:
    limit = _looked_up(rows["source_id"], limits)
    return pc.fill_null(pc.less_equal(rows["line_number"], limit), False)


def _looked_up(keys: pa.ChunkedArray, known: Mapping[int, int]) -> pa.ChunkedArray:
    """Give the value of each key; null where there is none."""
    at = pc.index_in(keys, pa.array(known.keys(), pa.int64()))
    return pa.chunked_array([pa.array(known.values(), pa.int64())]).take(at)
