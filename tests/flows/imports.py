"""What a run imports, imported: loaded by the process that commands are forked from, which starts nothing."""

import gc
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start threads, and a fork has none of them
os.environ["RUST_LOG"] = "off"  # what lakehouse.engine sets: read when pysail is imported
os.environ["SAIL_EXECUTION__BATCH_SIZE"] = "32768"
os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = "1"

import duckdb  # noqa: E402, F401
import pysail.spark  # noqa: E402, F401
import sklearn.cluster  # noqa: E402, F401
from pyspark.sql.connect import functions, session  # noqa: E402, F401

import flows.conduct  # noqa: E402, F401
import flows.entry  # noqa: E402, F401
import flows.workbench  # noqa: E402
import lakehouse.exports.publish  # noqa: E402
from flows import cli  # noqa: E402, F401
from lakehouse import catalog  # noqa: E402

catalog.entries()
gc.freeze()
