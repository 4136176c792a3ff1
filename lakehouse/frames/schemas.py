"""Arrow schemas as Spark's."""

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType


def spark_schema(schema: pa.Schema) -> StructType:
    """Give a schema as Spark's, every column nullable; given as text, an engine would be asked what it means."""
    return from_arrow_schema(pa.schema([field.with_nullable(True) for field in schema]))
