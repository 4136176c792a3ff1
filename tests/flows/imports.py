"""What commands import, imported: by the process that they are forked from, which starts nothing."""

import atexit
import gc
import os
from importlib import import_module

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start threads, and a fork has none of them
os.environ["RUST_LOG"] = (
    "off"  # this and the next ones: lakehouse.engine.session sets them, pysail reads them when imported
)
os.environ["SAIL_EXECUTION__BATCH_SIZE"] = "32768"
os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = "1"
os.environ["SAIL_SPARK__SESSION_TIMEOUT_SECS"] = "604800"
for name in (
    "flows.commands.cli",
    "flows.commands.run",
    "flows.run.decisions",
    "lakehouse.exports.publish",
    "duckdb",
    "pysail.spark",
    "pyspark.sql.connect.session",
    "pyspark.sql.connect.functions",
    "sklearn.cluster",
):
    import_module(name)
import_module("lakehouse.catalog").entries()
gc.freeze()


def _leave(here: int = os.getpid()) -> None:
    """End the process that is forked from without a word: DuckDB, which it keeps, would tell of leaks."""
    if os.getpid() == here:
        os._exit(0)


atexit.register(_leave)
