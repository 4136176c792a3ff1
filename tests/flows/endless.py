"""The main job with a table that is never finished: the engine works on it until somebody stops it."""

import os
from pathlib import Path

from prefect import flow
from pyspark.sql import DataFrame

from flows.medallion_etl import medallion_etl
from lakehouse.silver import customers


@flow(name="endless-etl")
def endless_etl(mark: str) -> None:
    """Write this process's id to `mark` as soon as the engine is at work without end."""
    build = customers.build

    def endless(months: DataFrame, categories: DataFrame) -> DataFrame:
        built = build(months, categories)
        endless_rows = built.sparkSession.range(1 << 50).selectExpr("xxhash64(id) as noise").where("noise = 0")
        Path(mark).write_text(str(os.getpid()))
        return built.crossJoin(endless_rows).drop("noise")

    customers.build = endless
    medallion_etl.fn(enable_quality_checks=True)
