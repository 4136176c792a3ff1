"""Rows handed over in memory, when nobody wants them any more."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import pyarrow as pa
import pytest

from lakehouse.engine.sink import rows_in_memory
from lakehouse.errors import RowsLost
from tests.waiting import HANG_SECONDS

ROWS = pa.record_batch([pa.array([1, 2], pa.int32())], ["number"])
Kernel = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Engine:
    """Stands for an engine whose own thread drops the last reference to the stream it fills, as a collector may."""

    def __init__(self) -> None:
        self.streams: list[pa.RecordBatchReader] = []
        self.is_abandoned, self.is_over = threading.Event(), threading.Event()

    def mapInArrow(self, kernel: Kernel, _schema: str) -> Self:  # noqa: N802  # as PySpark names it
        self.kernel = kernel
        return self

    def toArrow(self) -> pa.Table:  # noqa: N802  # as PySpark names it
        counts = list(self.kernel([ROWS, ROWS]))
        self.is_abandoned.wait(HANG_SECONDS)
        self.streams.clear()
        self.is_over.set()
        return pa.Table.from_batches(counts)


def test_a_stream_that_the_engines_own_thread_drops_ends_without_a_word() -> None:
    engine = Engine()
    engine.streams.append(rows_in_memory(engine, ROWS.schema))  # type: ignore[arg-type]  # it has what is used of a frame
    assert engine.streams[0].read_next_batch() == ROWS
    engine.is_abandoned.set()
    assert engine.is_over.wait(HANG_SECONDS)


class Forgetful(Engine):
    """Stands for an engine that begins a partition and does not tell of its end."""

    def toArrow(self) -> pa.Table:  # noqa: N802  # as PySpark names it
        whole = list(self.kernel([ROWS]))
        next(self.kernel([]))
        return pa.Table.from_batches(whole)


def test_a_partition_that_was_begun_and_never_ended_is_missed() -> None:
    with pytest.raises(RowsLost, match="gave 2 partitions and 1 arrived"):
        rows_in_memory(Forgetful(), ROWS.schema).read_all()  # type: ignore[arg-type]  # as above
