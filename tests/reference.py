"""The reference data: a retailer's real receipts, outside the project and never part of it.

`LAKEHOUSE_REFERENCE_DATA` names the folder that holds `supermarket_co`. Tests that need it are skipped without it.
"""

import os
import shutil
import tarfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv

MISSING = "the reference data is not there: set LAKEHOUSE_REFERENCE_DATA"


def reference_folder() -> Path | None:
    """Find the folder `supermarket_co`, None where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LAKEHOUSE_REFERENCE_DATA", beside)) / "supermarket_co"
    return folder if (folder / "transactions.tar.xz").is_file() else None


def unpack(into: Path) -> Path:
    """Put products/ and transactions/ under `into`; give `into`. Skips the test where there is no reference data."""
    folder = _folder()
    shutil.copytree(folder / "products", into / "products", dirs_exist_ok=True)
    with tarfile.open(folder / "transactions.tar.xz") as archive:
        archive.extractall(into, filter="data")
    return into


@cache
def reference_receipts() -> pa.Table:
    """Read all receipts, once: month 'YYYY-MM', customer_id, products. Skips the test where there are none."""
    with tarfile.open(_folder() / "transactions.tar.xz") as archive:
        members = sorted((m for m in archive if m.isfile()), key=lambda m: m.name)
        lines = pa.concat_tables(
            csv.read_csv(
                archive.extractfile(member),
                csv.ReadOptions(column_names=["sold_on", "store_id", "customer_id", "products"]),
                csv.ParseOptions(delimiter="|"),
                csv.ConvertOptions(column_types={"sold_on": pa.string(), "products": pa.string()}),
            )
            for member in members
        )
    tokens = pc.split_pattern(lines["products"], " ").combine_chunks()
    return pa.table(
        {
            "month": pc.utf8_slice_codeunits(lines["sold_on"], 0, 7),
            "customer_id": lines["customer_id"],
            "products": pa.ListArray.from_arrays(tokens.offsets, tokens.values.cast(pa.int32())),
        }
    )


def _folder() -> Path:
    folder = reference_folder()
    if folder is None:
        pytest.skip(MISSING)
    return folder
