"""The ledger: every row a source delivered is kept or in quarantine, hop by hop, in rows and in units."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.bronze import categories as bronze_categories
from lakehouse.bronze import product_categories as bronze_product_categories
from lakehouse.bronze import transactions
from lakehouse.ops import corrections, ledger, quarantine
from lakehouse.silver import categories, product_categories, receipts
from lakehouse.sources.landing import Delivery
from lakehouse.storage.tables import Storage
from lakehouse.table import Table
from quality.ledger.recount import Count, line_units

BRONZE = {
    "transactions": transactions.TABLE,
    "categories": bronze_categories.TABLE,
    "product_categories": bronze_product_categories.TABLE,
}


class Tally(NamedTuple):
    """What a hop left of a source."""

    rows: int = 0
    units: int = 0

    def and_one(self, line: str) -> "Tally":
        return Tally(self.rows + 1, self.units + line_units(line))


class Refused(NamedTuple):
    """What quarantine holds of a source, how much of it is waived, and the units that corrections took away."""

    kept: Tally = Tally()
    waived: Tally = Tally()
    corrected_away: int = 0


def accounts(
    storage: Storage, versions: Mapping[str, int], counted: Mapping[int, tuple[Delivery, Count]], run_id: str
) -> pa.Table:
    """Account for the sources counted: what was admitted is still in the landing, came to bronze and from it to silver.

    `counted` maps source_id to the delivery and what the independent reader counted in it. A corrected line counts
    as one row and with the units it was delivered with: it is in silver with those of its correction.
    """
    ids = sorted(counted)

    def rows_of(table: Table, columns: list[str]) -> pa.Table:
        wanted = pc.field("source_id").isin(ids)
        return storage.rows(table, versions[table.qualified_name], columns, wanted)

    lines = rows_of(quarantine.TABLE, ["source_id", "line_number", "line", "status"]).to_pylist()
    is_corrected = any(line["status"] == "replayed" for line in lines)
    decisions = rows_of(corrections.TABLE, ["source_id", "line_number", "decision", "line"]) if is_corrected else None
    refused = _refused(lines, _corrected(decisions))
    kept = _receipts(rows_of(receipts.TABLE, ["source_id", "units"])) | _reference(storage, versions, counted)
    bronze = {e: _counts(rows_of(t, ["source_id"])) for e, t in BRONZE.items()}
    found: list[dict[str, Any]] = []
    for source_id in ids:
        delivery, count = counted[source_id]
        landed = bronze[delivery.entity].get(source_id, 0)
        silver, (bad, waived, corrected_away) = kept.get(source_id, Tally()), refused.get(source_id, Refused())
        header = count.headers if delivery.entity == "product_categories" else 0
        hops = [("admitted to landing", "bytes", delivery.bytes, _bytes_left(delivery, count), 0, 0)]
        hops += [("landing to bronze", "rows", count.lines, landed, 0, 0)]
        hops += [("bronze to silver", "rows", landed - header, silver.rows + bad.rows, bad.rows, waived.rows)]
        if delivery.entity == "transactions":
            units = silver.units + corrected_away + bad.units
            hops += [("landing to silver", "units", count.units, units, bad.units, waived.units)]
        found += [_entry(run_id, delivery, *hop) for hop in hops]
    return pa.Table.from_pylist(found, ledger.TABLE.arrow_schema)


def earlier_counts(storage: Storage, versions: Mapping[str, int]) -> dict[int, Count]:
    """Give what the ledger says was counted in the sources known already."""
    rows = storage.rows(ledger.TABLE, versions[ledger.TABLE.qualified_name]).to_pylist()
    told = {(row["source_id"], row["hop"]): row["expected"] for row in rows}
    sizes = {source_id: expected for (source_id, hop), expected in told.items() if hop == "admitted to landing"}
    lines = {source_id: told[source_id, "landing to bronze"] for source_id in sizes}
    return {
        source_id: Count(
            lines=lines[source_id],
            units=told.get((source_id, "landing to silver"), 0),
            bytes=size,
            sha256="",
            headers=lines[source_id] - told[source_id, "bronze to silver"],
        )
        for source_id, size in sizes.items()
    }


def with_current_names(rows: pa.Table, current: Iterable[Delivery]) -> pa.Table:
    """Give the rows of a ledger with the names their sources have now."""
    names = {delivery.source_id: delivery.path for delivery in current}
    pairs = zip(rows["source_id"].to_pylist(), rows["path"].to_pylist(), strict=True)
    paths = pa.array([names.get(source_id, path) for source_id, path in pairs], pa.string())
    return rows.set_column(rows.schema.get_field_index("path"), rows.schema.field("path"), paths)


def _entry(
    run_id: str, delivery: Delivery, hop: str, control: str, expected: int, found: int, bad: int, waived: int
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
        "waived": waived,
        "difference": found - expected,
    }


def _counts(rows: pa.Table) -> dict[int, int]:
    return {v["values"]: v["counts"] for v in pc.value_counts(rows["source_id"]).to_pylist()}


def _corrected(decisions: pa.Table | None) -> dict[tuple[int, int], str]:
    """Give what is read in place of each line that was decided about, the last decision counting."""
    rows = decisions.sort_by("decision").to_pylist() if decisions is not None else []
    return {(row["source_id"], row["line_number"]): row["line"] or "" for row in rows}


def _refused(lines: list[dict[str, Any]], corrected: Mapping[tuple[int, int], str]) -> dict[int, Refused]:
    found: dict[int, Refused] = {}
    for row in lines:
        kept, waived, away = found.get(row["source_id"], Refused())
        line = row["line"]
        match row["status"]:
            case "replayed":
                away += line_units(line) - line_units(corrected.get((row["source_id"], row["line_number"]), ""))
            case "waived":
                kept, waived = kept.and_one(line), waived.and_one(line)
            case _:
                kept = kept.and_one(line)
        found[row["source_id"]] = Refused(kept, waived, away)
    return found


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
