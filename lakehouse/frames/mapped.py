"""Functions over an engine's record batches, none of which lets go of those batches when it fails.

What a failed function was reading hangs on the traceback of its error. Sail ends that stream where the error is
forgotten, which may be the very thread that fills the stream: it would wait for itself, and panic.

What panics while the batches are made, Python gets as an exception that is no `Exception`. Sail takes the like for the
end of the rows, and would go on without those that are missing: here it becomes an error.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.frames.schemas import spark_schema

Function = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_errors = deque[Exception](maxlen=100)


def map_in_arrow(frame: DataFrame, function: Function, schema: pa.Schema) -> DataFrame:
    """Run a function over the record batches of each partition; an error of it stays for long."""
    return frame.mapInArrow(lambda batches: _remembered(function, batches), spark_schema(schema))


def _remembered(function: Function, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from function(batches)
    except Exception as error:
        _errors.append(error)
        raise
    except GeneratorExit:
        raise
    except BaseException as panic:
        failed = RuntimeError(f"the engine failed: {panic}")
        _errors.append(failed)
        raise failed from panic
