"""What the bronze tables have in common: numbered lines of current sources."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.errors import BadInput
from lakehouse.frames.mapped import map_in_arrow
from lakehouse.kernels.lines import BLOCK, numbered_lines
from lakehouse.storage.objects import open_location
from lakehouse.table import BIGINT, INT, STRING, Column, Table

RESTORED = ".lines"  # how the names of files end that were made anew of lines, with bytes of their own
COLUMNS = (
    Column("source_id", BIGINT, "The file it came in."),
    Column("line_number", INT, "Its line there, from 1."),
    Column("line", STRING, "The line without its end; a byte that is not UTF-8 is the character U+EF00 + byte."),
)


class Hashed:
    """A file that is read once from its start, and the hash of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data

    def skip(self, size: int) -> None:
        """Read so many bytes for their hash alone."""
        while size > 0 and (data := self.read(min(size, BLOCK))):
            size -= len(data)

    def tell(self) -> int:
        return self._file.tell()


def lines_of(sources: DataFrame, entity: str, table: Table) -> DataFrame:
    """Read the lines of an entity's current sources, each file by one task; of one that grew, those at its end.

    What is read must be the bytes that were admitted: somebody may have put others there since.
    """
    current = sources.where((sources.entity == entity) & (sources.status == "current"))
    wanted = current.select("source_id", "location", "sha256", "bytes", "carried_lines", "carried_bytes")
    return map_in_arrow(wanted, _read, table.arrow_schema)


def _read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for source in batch.to_pylist():
            with open_location(source["location"]) as opened_file:
                file = Hashed(opened_file)
                file.skip(source["carried_bytes"] or 0)
                before, until = source["carried_lines"] or 0, source["bytes"]  # somebody may write behind them by now
                yield from numbered_lines(file, source["source_id"], before=before, until=until)
                is_delivered = not source["location"].endswith(RESTORED)
                if is_delivered and file.sha256.hexdigest() != source["sha256"]:
                    found = "it does not hold the bytes any more that it held a moment ago"
                    raise BadInput(source["location"], found, "Run again, when nobody writes there.")
