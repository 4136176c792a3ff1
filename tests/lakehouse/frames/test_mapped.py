"""Functions over an engine's record batches that fail."""

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import pyarrow as pa
import pytest
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from lakehouse.engine.session import Engine
from lakehouse.frames.mapped import map_in_arrow

ROWS = pa.record_batch([pa.array([1, 2], pa.int32())], ["number"])
Kernel = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Stream:
    """Batches of which somebody can be told when they are let go."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield ROWS


class Frame:
    """Stands for a frame of an engine that runs functions in this process, as it sent them to itself."""

    def mapInArrow(self, function: Kernel, _schema: object) -> Self:  # noqa: N802  # as PySpark names it
        self.function: Kernel = cloudpickle.loads(cloudpickle.dumps(function))
        return self


def broken(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches
    raise ValueError("no more of this")


def test_what_a_failed_function_was_reading_stays() -> None:
    frame, stream = Frame(), Stream()
    alive = weakref.ref(stream)
    with pytest.raises(ValueError, match="no more of this"):
        list(map_in_arrow(frame, broken, ROWS.schema).function(stream))  # type: ignore[arg-type,attr-defined]  # see Frame
    del stream
    gc.collect()
    assert alive() is not None


def test_what_a_function_has_read_to_its_end_is_let_go() -> None:
    frame, stream = Frame(), Stream()
    alive = weakref.ref(stream)
    list(map_in_arrow(frame, iter, ROWS.schema).function(stream))  # type: ignore[arg-type,attr-defined]  # see Frame
    del stream
    gc.collect()
    assert alive() is None


def test_a_function_that_fails_is_told_of_by_the_engine(engine: Engine) -> None:
    numbers = engine.session.range(3).select(F.col("id").cast("int").alias("number"))
    with pytest.raises(PySparkException, match="no more of this"):
        map_in_arrow(map_in_arrow(numbers, broken, ROWS.schema), iter, ROWS.schema).toArrow()


class Panic(BaseException):
    """Stands for what Python gets of a panic: it is no Exception."""


def test_a_panic_of_the_engine_becomes_an_error_and_does_not_end_the_rows() -> None:
    def panicking() -> Iterator[pa.RecordBatch]:
        yield ROWS
        raise Panic("out of range")

    frame = Frame()
    map_in_arrow(frame, iter, ROWS.schema)  # type: ignore[arg-type]  # see Frame
    given = frame.function(panicking())
    assert next(given) == ROWS
    with pytest.raises(RuntimeError, match="the engine failed: out of range"):
        next(given)


def test_who_wants_no_more_ends_a_function_without_an_error() -> None:
    frame = Frame()
    map_in_arrow(frame, iter, ROWS.schema)  # type: ignore[arg-type]  # see Frame
    given = frame.function([ROWS, ROWS])
    assert next(given) == ROWS
    given.close()  # type: ignore[attr-defined]  # a generator


def test_where_sail_panics_no_row_is_lost_in_silence(sail: Engine) -> None:
    """A panic while one partition's rows are made, after the other one's were given."""
    panics = F.when(F.col("id") < 500, "well").otherwise(F.format_number("id", 2**31 - 1))
    rows = sail.session.range(0, 1_000, 1, 2).select("id", panics.alias("text"))
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    for read in (lambda: sail.rows(rows, schema).read_all(), lambda: map_in_arrow(rows, iter, schema).toArrow()):
        with pytest.raises(PySparkException, match="the engine failed: Formatting argument out of range"):
            read()
