"""Lines of sources that grew at their end: carried over to the grown source, not read again."""

from collections.abc import Sequence
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
    at = rows.schema.get_field_index("source_id")
    parts = []
    for source_id, grown_from, lines in grown:
        mine = pc.and_(pc.equal(rows["source_id"], grown_from), pc.less_equal(rows["line_number"], lines))
        kept = rows.filter(mine)
        parts.append(kept.set_column(at, rows.schema.field(at), pa.repeat(pa.scalar(source_id, pa.int64()), len(kept))))
    return pa.concat_tables(parts) if parts else rows.slice(0, 0)
