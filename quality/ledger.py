"""The ledger: every row a source delivered is kept or in quarantine, hop by hop, in rows and in units."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.bronze import categories as bronze_categories
from lakehouse.bronze import product_categories as bronze_product_categories
from lakehouse.bronze import transactions
from lakehouse.kernels.reference import HEADER
from lakehouse.landing import Delivery
from lakehouse.ops import ledger, quarantine
from lakehouse.silver import categories, product_categories, receipts
from lakehouse.storage import Storage
from lakehouse.table import Table
from quality.recount import MARK, Count, line_units

BRONZE = {
    "transactions": transactions.TABLE,
    "categories": bronze_categories.TABLE,
    "product_categories": bronze_product_categories.TABLE,
}


class Tally(NamedTuple):
    """What a hop left of a source."""

    rows: int = 0
    units: int = 0


def accounts(
    storage: Storage, versions: Mapping[str, int], counted: Mapping[int, tuple[Delivery, Count]], run_id: str
) -> pa.Table:
    """Account for the sources counted: what was admitted is still in the landing, came to bronze and from it to silver.

    `counted` maps source_id to the delivery and what the independent reader counted in it.
    """
    ids = sorted(counted)

    def rows_of(table: Table, columns: list[str]) -> pa.Table:
        wanted = pc.field("source_id").isin(ids)
        return storage.rows(table, versions[table.qualified_name], columns, wanted)

    refused = _refused(rows_of(quarantine.TABLE, ["source_id", "line"]))
    kept = _receipts(rows_of(receipts.TABLE, ["source_id", "units"])) | _reference(storage, versions, counted)
    bronze = {e: _counts(rows_of(t, ["source_id"])) for e, t in BRONZE.items()}
    found: list[dict[str, Any]] = []
    for source_id in ids:
        delivery, count = counted[source_id]
        lines = bronze[delivery.entity].get(source_id, 0)
        silver, bad = kept.get(source_id, Tally()), refused.get(source_id, Tally())
        header = _has_header(delivery)
        hops = [("admitted to landing", "bytes", delivery.bytes, _bytes_left(delivery, count), 0)]
        hops += [("landing to bronze", "rows", count.lines, lines, 0)]
        hops += [("bronze to silver", "rows", lines - header, silver.rows + bad.rows, bad.rows)]
        if delivery.entity == "transactions":
            hops += [("landing to silver", "units", count.units, silver.units + bad.units, bad.units)]
        found += [_entry(run_id, delivery, *hop) for hop in hops]
    return pa.Table.from_pylist(found, ledger.TABLE.arrow_schema)


def earlier_counts(storage: Storage, versions: Mapping[str, int]) -> dict[int, Count]:
    """Give what the ledger says was counted in the sources known already."""
    rows = storage.rows(ledger.TABLE, versions[ledger.TABLE.qualified_name]).to_pylist()
    told = {(row["source_id"], row["hop"]): row["expected"] for row in rows}
    sizes = {source_id: expected for (source_id, hop), expected in told.items() if hop == "admitted to landing"}
    return {
        source_id: Count(told[source_id, "landing to bronze"], told.get((source_id, "landing to silver"), 0), size, "")
        for source_id, size in sizes.items()
    }


def _entry(
    run_id: str, delivery: Delivery, hop: str, control: str, expected: int, found: int, bad: int
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "source_id": delivery.source_id,
        "entity": delivery.entity,
        "path": delivery.path,
        "hop": hop,
        "control": control,
        "expected": expected,
        "found": found,
        "quarantined": bad,
        "difference": found - expected,
    }


def _counts(rows: pa.Table) -> dict[int, int]:
    return {v["values"]: v["counts"] for v in pc.value_counts(rows["source_id"]).to_pylist()}


def _refused(rows: pa.Table) -> dict[int, Tally]:
    tallies: dict[int, Tally] = {}
    for row in rows.to_pylist():
        before = tallies.get(row["source_id"], Tally())
        tallies[row["source_id"]] = Tally(before.rows + 1, before.units + line_units(row["line"]))
    return tallies


def _receipts(rows: pa.Table) -> dict[int, Tally]:
    sums = rows.group_by("source_id").aggregate([("units", "count"), ("units", "sum")]).to_pylist()
    return {row["source_id"]: Tally(row["units_count"], row["units_sum"]) for row in sums}


def _reference(
    storage: Storage, versions: Mapping[str, int], counted: Mapping[int, tuple[Delivery, Count]]
) -> dict[int, Tally]:
    """Count what silver keeps of the reference entities, each of which has one current source."""
    names = storage.count(categories.TABLE, versions[categories.TABLE.qualified_name])
    lines = storage.rows(product_categories.TABLE, versions[product_categories.TABLE.qualified_name], ["lines"])
    kept = {"categories": names, "product_categories": pc.sum(lines["lines"]).as_py() or 0}
    return {s: Tally(kept[d.entity]) for s, (d, _) in counted.items() if d.entity in kept}


def _bytes_left(delivery: Delivery, count: Count) -> int:
    """Count the bytes of the delivery that are still there: all, or none when they are other bytes by now."""
    return count.bytes if count.sha256 == delivery.sha256 else 0


def _has_header(delivery: Delivery) -> int:
    if delivery.entity != "product_categories":
        return 0
    with open(delivery.location, "rb") as file:
        first = file.readline().removeprefix(MARK).removesuffix(b"\n").removesuffix(b"\r")
    return int(first == HEADER.encode())
