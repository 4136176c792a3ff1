"""Where the lines of a release's sources come from: the files they were delivered in, else its bronze tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc

from lakehouse.bronze.lines import RESTORED
from lakehouse.errors import StorageFailed
from lakehouse.kernels.lines import delivered_lines
from lakehouse.releases.release import Snapshot
from lakehouse.sources import landing
from lakehouse.sources.landing import Delivery
from quality.ledger.ledger import BRONZE

FILE, LINES = "its file", "the release's bronze lines"


class Origin(NamedTuple):
    """Where the lines of a source come from."""

    path: str
    taken_from: str


def sources_of(opened: Snapshot, folder: Path) -> tuple[list[Delivery], list[Origin]]:
    """Find every current source of a release: its file, or one made in the folder of its lines in bronze.

    Errors: StorageFailed.
    """
    rows = opened.rows("ops.sources", filters=pc.field("status") == "current").sort_by("path").to_pylist()
    found = {row["source_id"]: _at_its_place(row) for row in rows}
    missing = [row for row in rows if found[row["source_id"]] is None]
    for entity in BRONZE:
        _write_lines(opened, entity, [row["source_id"] for row in missing if row["entity"] == entity], folder)
    deliveries = [found[row["source_id"]] or _restored_delivery(row, folder) for row in rows]
    origins = [Origin(row["path"], FILE if found[row["source_id"]] else LINES) for row in rows]
    return deliveries, origins


def _at_its_place(row: Mapping[str, Any]) -> Delivery | None:
    """Give the file of a source, while it holds the bytes that were delivered."""
    found = landing.delivery(row["entity"], row["path"], row["location"])
    return found if found.sha256 == row["sha256"] and not found.is_changing else None


def _restored_delivery(row: Mapping[str, Any], folder: Path) -> Delivery:
    """Name the file made of a source's lines; it has bytes of its own, and all of them are to be read."""
    file = _file_of(row["source_id"], folder)
    return Delivery(row["entity"], row["path"], str(file), row["sha256"], file.stat().st_size)


def _file_of(source_id: int, folder: Path) -> Path:
    return folder / f"{source_id}{RESTORED}"


def _write_lines(opened: Snapshot, entity: str, ids: list[int], folder: Path) -> None:
    """Write the lines that bronze has of sources to a file each; reading it gives the same lines."""
    if not ids:
        return
    rows = opened.rows(BRONZE[entity].qualified_name, filters=pc.field("source_id").isin(ids)).sort_by("line_number")
    for source_id in ids:
        lines = rows.filter(pc.field("source_id") == source_id)["line"]
        try:
            folder.mkdir(exist_ok=True)
            with _file_of(source_id, folder).open("xb") as file:
                file.writelines(delivered_lines(line for chunk in lines.chunks for line in chunk.to_pylist()))
        except OSError as error:
            raise StorageFailed("write", str(folder), str(error.strerror), "Make room there.") from None
