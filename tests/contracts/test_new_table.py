"""A table is added by adding its file: nothing else is edited."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest

from tests.waiting import HANG_SECONDS

PROJECT = Path(__file__).resolve().parents[2]

STORE_SALES = '''
"""Receipts and units per store."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.silver import receipts
from lakehouse.table import BIGINT, INT, Column, Expression, Layer, Table

TABLE = Table(
    layer=Layer.GOLD,
    group="summary",
    name="store_sales",
    doc="One row per store.",
    inputs={"receipts": receipts.TABLE},
    columns=(
        Column("store_id", INT, "The store."),
        Column("receipts", BIGINT, "Its receipts."),
        Column("units", BIGINT, "Units sold there."),
    ),
    keys=("store_id",),
    checks=(Expression("units >= receipts", why="a receipt holds at least one unit"),),
)


def build(receipts: DataFrame) -> DataFrame:
    return receipts.groupBy("store_id").agg(F.count("*").alias("receipts"), F.sum("units").alias("units"))
'''

LOOK = """
import json, sys
import lakehouse
from lakehouse import catalog
from lakehouse.documents.catalogue import catalogue
from lakehouse.storage.tables import Storage
from lakehouse.table import Layer
from quality.suites.suites import suite_of

table = catalog.entry("gold.store_sales").table
print(json.dumps({
    "package": lakehouse.__file__,
    "built": [t.qualified_name for t in (*catalog.tables(Layer.SILVER), *catalog.tables(Layer.GOLD))],
    "group": [t.qualified_name for t in catalog.tables(Layer.GOLD, "summary")],
    "released": [t.qualified_name for t in catalog.released_tables()],
    "downstream": sorted(catalog.downstream("bronze.transactions")),
    "checks": [e.meta["check"] for e in suite_of(table).expectations],
    "page": catalogue(),
    "version": Storage(sys.argv[1]).create(table, "a run"),
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the project with one more file says of itself."""
    copy = tmp_path_factory.mktemp("project")
    for room in ("lakehouse", "quality"):
        copytree(PROJECT / room, copy / room, ignore=ignore_patterns("__pycache__"))
    (copy / "lakehouse/gold/summary/store_sales.py").write_text(STORE_SALES, encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-c", LOOK, str(copy / "tables")],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(copy)
    return found


def test_it_is_in_the_catalogue_after_its_input(seen: dict[str, Any]) -> None:
    assert "gold.store_sales" in seen["downstream"]
    assert seen["built"].index("silver.receipts") < seen["built"].index("gold.store_sales")


def test_it_is_built_with_its_group_and_released(seen: dict[str, Any]) -> None:
    assert "gold.store_sales" in seen["group"]
    assert "gold.store_sales" in seen["released"]


def test_it_has_a_suite(seen: dict[str, Any]) -> None:
    assert "(store_id) is unique" in seen["checks"]
    assert "store_id is not null" in seen["checks"]
    assert "units >= receipts (a receipt holds at least one unit)" in seen["checks"]


def test_it_is_documented_with_its_lineage(seen: dict[str, Any]) -> None:
    assert "## gold.store_sales\n\nOne row per store." in seen["page"]
    assert "silver_receipts --> gold_store_sales" in seen["page"]


def test_it_has_a_place_in_storage(seen: dict[str, Any]) -> None:
    assert seen["version"] == 0
