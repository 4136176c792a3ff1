"""Functions over an engine's record batches, none of which lets go of those batches when it fails.

What a failed function was reading hangs on the traceback of its error. Sail ends that stream where the error is
forgotten, which may be the very thread that fills the stream: it would wait for itself, and panic.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

Function = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_errors = deque[Exception](maxlen=100)


def mapped(frame: DataFrame, function: Function, schema: pa.Schema) -> DataFrame:
    """Run a function over the record batches of each partition; an error of it stays for long."""
    return frame.mapInArrow(lambda batches: _remembered(function, batches), spark_schema(schema))


def spark_schema(schema: pa.Schema) -> StructType:
    """Give a schema as Spark's; given as text, an engine would be asked each time what it means."""
    return from_arrow_schema(pa.schema([field.with_nullable(True) for field in schema]))


def _remembered(function: Function, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from function(batches)
    except Exception as error:
        _errors.append(error)
        raise
