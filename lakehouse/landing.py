"""Which files wait in the landing, which are known, and what becomes of each."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.errors import BadInput
from lakehouse.ops import sources

BLOCK = 1 << 20
PROBED_LINES = 1_000


@dataclass(frozen=True)
class Delivery:
    """A file as found: its hash, or why it cannot be one of its entity."""

    entity: str
    path: str
    location: str
    sha256: str = ""
    bytes: int = 0
    problem: str | None = None
    is_changing: bool = False

    @property
    def source_id(self) -> int:
        """Give the first 8 bytes of the hash as a signed number; 0 when the file could not be read."""
        return int.from_bytes(bytes.fromhex(self.sha256)[:8], "big", signed=True) if self.sha256 else 0


@dataclass(frozen=True)
class Admission:
    """The new table of sources, and which of them a run has to take in, take out, read again, or report.

    `revised` are current sources of which lines were decided about.
    """

    rows: pa.Table
    new: tuple[Delivery, ...]
    superseded: frozenset[int]
    rejected: tuple[Delivery, ...]
    changing: tuple[Delivery, ...]
    revised: frozenset[int] = frozenset()

    @property
    def landed(self) -> frozenset[int]:
        """Give the sources whose lines come or go."""
        return self.superseded | {d.source_id for d in self.new}

    @property
    def touched(self) -> frozenset[int]:
        return self.landed | self.revised

    @property
    def is_news(self) -> bool:
        return bool(self.touched)

    @property
    def current(self) -> list[int]:
        rows = self.rows.to_pylist()
        return sorted(row["source_id"] for row in rows if row["status"] == "current")


def transaction_files(landing: Path) -> list[Delivery]:
    """List and read `transactions/*.csv` under the landing; errors: BadInput when there is no landing or no file."""
    folder = landing / "transactions"
    remedy = "Put transactions/*.csv under DATA_PATH, or name another --source."
    if not folder.is_dir():
        raise BadInput(str(folder), "there is no such folder", remedy)
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise BadInput(str(folder), "there is no *.csv file", remedy)
    return [delivery("transactions", f"transactions/{file.name}", file) for file in files]


def delivery(entity: str, path: str, file: Path) -> Delivery:
    """Read a file once: its hash, its size, and whether it has the shape of its entity."""
    location = str(file.absolute())
    found = Delivery(entity, _writable(path), _writable(location))
    if (found.path, found.location) != (path, location):
        return replace(found, problem="its name is not UTF-8")
    try:
        if not file.is_file():
            return replace(found, problem="it is no file")
        before = file.stat()
        sha256, size, head = _read(file)
        after = file.stat()
    except OSError as error:
        return replace(found, problem=f"it cannot be read: {error.strerror}")
    found = replace(found, sha256=sha256, bytes=size)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        return replace(found, is_changing=True)
    return replace(found, problem=_misshapen(head, entity))


def admit(known: pa.Table, deliveries: Iterable[Delivery], run_id: str, now: datetime) -> Admission:
    """Decide, by content, what each delivery is, and write it into the table of sources.

    What counts for a path is its newest readable content. The same content under several paths is current under
    one of them (the one that was, else the first) and a duplicate under the others; older content is superseded.
    What was withdrawn from a path stays out until other content came under it.
    """
    found = list(deliveries)
    settled = {one.path for one in found if not one.is_changing}
    kept = (r for r in known.to_pylist() if not (r["status"] == "changing" and r["path"] in settled))
    rows = {(r["path"], r["source_id"]): r for r in kept}
    heads = heads_of(known)
    for one in found:
        if one.is_changing:
            waiting = replace(one, sha256="", bytes=0, problem="it changed while it was read: the next run reads it")
            rows.setdefault((one.path, 0), _row(waiting, "changing", None, run_id, now))
            continue
        key = (one.path, one.source_id)
        if one.problem is not None:
            rows.setdefault(key, _row(one, "rejected", None, run_id, now))
            continue
        is_withdrawn = key in rows and rows[key]["status"] == "withdrawn"
        if heads.get(one.path) != one.source_id and not is_withdrawn:
            rows[key] = _row(one, "current", heads.get(one.path), run_id, now)
        rows[key]["location"] = one.location  # the landing may be elsewhere by now
        if not is_withdrawn:
            heads[one.path] = one.source_id
    return _admission(known, rows.values(), heads, found)


def withdraw(known: pa.Table, path: str, detail: str) -> Admission:
    """Take out what counts for a path; under another path the same content goes on. Errors: KeyError, of a path."""
    heads = heads_of(known)
    withdrawn = path, heads.pop(path)
    rows = [
        row | {"status": "withdrawn", "detail": detail} if (row["path"], row["source_id"]) == withdrawn else row
        for row in known.to_pylist()
    ]
    return _admission(known, rows, heads, [])


def heads_of(known: pa.Table) -> dict[str, int]:
    """Give the source that counts for each path: its newest readable content."""
    return {r["path"]: r["source_id"] for r in known.to_pylist() if r["status"] in ("current", "duplicate")}


def _admission(
    known: pa.Table, rows: Iterable[dict[str, Any]], heads: dict[str, int], found: list[Delivery]
) -> Admission:
    """Settle the status of every row, and say what that changes."""
    before = {r["source_id"]: r["path"] for r in known.to_pylist() if r["status"] == "current"}
    owners: dict[int, str] = {}
    for path in sorted(heads, key=lambda p: (before.get(heads[p]) != p, p)):
        owners.setdefault(heads[path], path)
    ordered = sorted(rows, key=lambda row: (row["path"], row["source_id"]))
    settled = [_settled(row, heads, owners) for row in ordered]
    current = {r["source_id"] for r in settled if r["status"] == "current"}
    readable = [one for one in found if one.problem is None and not one.is_changing]
    by_source = {one.source_id: one for one in readable if owners.get(one.source_id) == one.path}
    return Admission(
        rows=pa.Table.from_pylist(settled, sources.TABLE.arrow_schema),
        new=tuple(by_source[s] for s in sorted(current - set(before)) if s in by_source),
        superseded=frozenset(set(before) - current),
        rejected=tuple(one for one in found if one.problem is not None),
        changing=tuple(one for one in found if one.is_changing),
    )


def _settled(row: dict[str, Any], heads: dict[str, int], owners: dict[int, str]) -> dict[str, Any]:
    """Give a row its status; what was withdrawn once goes on saying by whom and why."""
    source, head = row["source_id"], heads.get(row["path"])
    if row["status"] in ("rejected", "changing") or head is None:
        return row
    if head != source:
        was_withdrawn = row["status"] == "withdrawn" or (row["status"] == "superseded" and row["detail"])
        return row | {"status": "superseded", "detail": row["detail"] if was_withdrawn else None}
    if owners[source] != row["path"]:
        return row | {"status": "duplicate", "detail": f"the same bytes as {owners[source]}"}
    return row | {"status": "current", "detail": None}


def _row(found: Delivery, status: str, supersedes: int | None, run_id: str, now: datetime) -> dict[str, Any]:
    return {
        "source_id": found.source_id,
        "entity": found.entity,
        "path": found.path,
        "location": found.location,
        "sha256": found.sha256,
        "bytes": found.bytes,
        "delivered_at": now,
        "status": status,
        "supersedes": supersedes,
        "admitted_by": run_id,
        "detail": found.problem,
    }


def _writable(name: str) -> str:
    """Give a name as text that can be stored: bytes that are not UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read(file: Path) -> tuple[str, int, bytes]:
    digest, size, head = hashlib.sha256(), 0, b""
    with file.open("rb") as octets:
        while block := octets.read(BLOCK):
            head = head or block
            size += len(block)
            digest.update(block)
    return digest.hexdigest(), size, head


_FIELDS: dict[str, Callable[[bytes], bool]] = {
    "transactions": lambda line: line.count(b"|") == 3,
    "categories": lambda line: b"|" in line,
    "product_categories": lambda line: line.count(b"|") == 1,
}


def _misshapen(head: bytes, entity: str) -> str | None:
    """Say why the first lines cannot be the entity's; None when some of them can."""
    if not head.strip(b"\xef\xbb\xbf\r\n"):
        return "it is empty"
    if b"\0" in head:
        return "it is binary, not text"
    lines = head.split(b"\n", PROBED_LINES)[:PROBED_LINES]
    if not any(map(_FIELDS[entity], lines)):
        return f"none of its first {len(lines)} lines has the fields of {entity} separated by |"
    return None
