"""What becomes of each delivery: decided by content, against the sources of the last release."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from lakehouse.kernels.growth import Grown
from lakehouse.ops import sources
from lakehouse.sources.landing import Delivery, Growth, Head

Row = dict[str, Any]
SAME_ID = "other bytes, those of {}, have its id already: add or remove an empty line at its end and deliver it again"
DELETED = "PostgreSQL has no row of it any more"


@dataclass(frozen=True)
class Admission:
    """The new table of sources, and which of them a run has to take in, take out, read again, or report.

    `revised` are current sources of which lines were decided about, `grown` new ones of which only the end is read.
    `is_recorded` says that the table of sources held every one of them with its status already, but for files that are
    still changing: they are not delivered yet.
    """

    rows: pa.Table
    new: tuple[Delivery, ...]
    superseded: frozenset[int]
    rejected: tuple[Delivery, ...]
    changing: tuple[Delivery, ...]
    revised: frozenset[int] = frozenset()
    grown: tuple[Grown, ...] = ()
    is_recorded: bool = True

    @property
    def landed_ids(self) -> frozenset[int]:
        """Give the sources whose lines come or go."""
        return self.superseded | {d.source_id for d in self.new}

    @property
    def touched_ids(self) -> frozenset[int]:
        return self.landed_ids | self.revised

    @property
    def is_news(self) -> bool:
        return bool(self.touched_ids)

    @property
    def current(self) -> list[int]:
        rows = self.rows.to_pylist()
        return sorted(row["source_id"] for row in rows if row["status"] == "current")


def admit(
    known: pa.Table,
    deliveries: Iterable[Delivery],
    run_id: str,
    now: datetime,
    decided: Collection[int] = (),
    deleted: Collection[str] = (),
) -> Admission:
    """Decide, by content, what each delivery is, and write it into the table of sources.

    What counts for a path is its newest readable content. The same content under several paths is current under
    one of them (the one that was, else the first) and a duplicate under the others; older content is superseded.
    What was withdrawn from a path stays out until other content came under it. Content that begins with what counted
    for its path keeps those lines, unless lines of either are among the `decided` sources. What counted for `deleted`
    paths goes. Readable content under a path ends what was rejected there before.
    """
    found = list(_apart(known, deliveries))
    settled = {one.path for one in found if not one.is_changing}
    kept = (r for r in known.to_pylist() if not (r["status"] == "changing" and r["path"] in settled))
    rows = {(r["path"], r["source_id"]): r for r in kept}
    heads = {path: head.source_id for path, head in heads_of(known).items()}
    for path in sorted(heads.keys() & set(deleted)):
        rows[path, heads.pop(path)] |= {"status": "deleted", "detail": DELETED}
    for one in found:
        if one.is_changing:
            waiting = replace(one, sha256="", bytes=0, problem=f"{one.changes}: the next run reads it")
            rows.setdefault((one.path, 0), _row(waiting, "changing", None, run_id, now))
            continue
        key = (one.path, one.source_id)
        if one.problem is not None:
            earlier = rows.setdefault(key, _row(one, "rejected", None, run_id, now))
            if earlier["status"] in ("rejected", "superseded"):  # by what was readable, and is there again
                rows[key] = earlier | {"status": "rejected", "detail": one.problem}
            continue
        for other in (k for k, row in rows.items() if k[0] == one.path and row["status"] == "rejected"):
            rows[other] |= {"status": "superseded"}
        is_withdrawn = key in rows and rows[key]["status"] == "withdrawn"
        if heads.get(one.path) != one.source_id and not is_withdrawn:
            rows[key] = _row(one, "current", heads.get(one.path), run_id, now)
        rows[key]["location"] = one.location  # the landing may be elsewhere by now
        rows[key]["fingerprint"] = one.fingerprint
        if not is_withdrawn:
            heads[one.path] = one.source_id
    return _admission(known, rows.values(), heads, found, decided)


def _apart(known: pa.Table, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
    """Refuse what has the id of other bytes: ids are the beginning of a hash, and sources are known by the whole."""
    owners = {row["source_id"]: (row["sha256"], row["path"]) for row in known.to_pylist() if row["sha256"]}
    for one in deliveries:
        sha256, path = owners.setdefault(one.source_id, (one.sha256, one.path)) if one.sha256 else ("", "")
        yield one if sha256 == one.sha256 else replace(one, sha256="", problem=SAME_ID.format(path))


def withdraw(known: pa.Table, path: str, detail: str) -> Admission:
    """Take out what counts for a path; under another path the same content goes on. Errors: KeyError, of a path."""
    heads = {path: head.source_id for path, head in heads_of(known).items()}
    withdrawn = path, heads.pop(path)
    rows = [
        row | {"status": "withdrawn", "detail": detail} if (row["path"], row["source_id"]) == withdrawn else row
        for row in known.to_pylist()
    ]
    return _admission(known, rows, heads, [])


def heads_of(known: pa.Table) -> dict[str, Head]:
    """Give what counts for each path: its newest readable content."""
    rows = (row for row in known.to_pylist() if row["status"] in ("current", "duplicate"))
    return {row["path"]: Head(row["source_id"], row["sha256"], row["bytes"]) for row in rows}


def in_declared_columns(known: pa.Table) -> pa.Table:
    """Give a table of sources, perhaps one of earlier code, the columns it has now."""
    return pa.Table.from_pylist(known.to_pylist(), sources.TABLE.arrow_schema)


def _admission(
    known: pa.Table,
    rows: Iterable[Row],
    heads: dict[str, int],
    found: list[Delivery],
    decided: Collection[int] = (),
) -> Admission:
    """Settle the status of every row, and say what that changes."""
    before = {r["source_id"]: r["path"] for r in known.to_pylist() if r["status"] == "current"}
    owners: dict[int, str] = {}
    for path in sorted(heads, key=lambda p: (before.get(heads[p]) != p, p)):
        owners.setdefault(heads[path], path)
    readable = [one for one in found if one.problem is None and not one.is_changing]
    by_source = {one.source_id: one for one in readable if owners.get(one.source_id) == one.path}
    new = tuple(by_source[s] for s in sorted(set(owners) - set(before)) if s in by_source)
    superseded = frozenset(set(before) - set(owners))
    grown = _grown(new, superseded, decided)
    settled = [_settled(row, heads, owners, grown) for row in sorted(rows, key=lambda r: (r["path"], r["source_id"]))]
    return Admission(
        rows=pa.Table.from_pylist(settled, sources.TABLE.arrow_schema),
        new=new,
        superseded=superseded,
        rejected=tuple(one for one in found if one.problem is not None),
        changing=tuple(one for one in found if one.is_changing),
        grown=tuple(Grown(s, growth.grown_from, growth.lines) for s, growth in grown.items()),
        is_recorded=_statuses(settled) == _statuses(known.to_pylist()),
    )


def _statuses(rows: Iterable[Row]) -> dict[tuple[str, int], str]:
    return {(row["path"], row["source_id"]): row["status"] for row in rows if row["status"] != "changing"}


def _grown(new: Iterable[Delivery], superseded: frozenset[int], decided: Collection[int]) -> dict[int, Growth]:
    """Choose the new sources that take over the lines of what they grew from: that goes, and goes to one only."""
    growths = {one.source_id: one.growth for one in new if one.growth}
    times = Counter(growth.grown_from for growth in growths.values())
    return {
        source_id: growth
        for source_id, growth in growths.items()
        if growth.grown_from in superseded
        and times[growth.grown_from] == 1
        and not {source_id, growth.grown_from} & set(decided)
    }


def _settled(row: Row, heads: dict[str, int], owners: dict[int, str], grown: dict[int, Growth]) -> Row:
    """Give a row its status; what was withdrawn once goes on saying by whom and why."""
    source, head = row["source_id"], heads.get(row["path"])
    if row["status"] in ("rejected", "changing") or head is None:
        return row
    if head != source:
        was_taken_out = row["status"] in ("withdrawn", "deleted") or (row["status"] == "superseded" and row["detail"])
        return row | {"status": "superseded", "detail": row["detail"] if was_taken_out else None}
    if owners[source] != row["path"]:
        return row | {"status": "duplicate", "detail": f"the same bytes as {owners[source]}"}
    if source in grown:
        row = row | {"carried_lines": grown[source].lines, "carried_bytes": grown[source].bytes}
    return row | {"status": "current", "detail": _origin(row)}


def _origin(row: Row) -> str | None:
    if row["carried_lines"] is None:
        return None
    return f"grown from source {row['supersedes']}, of which {row['carried_lines']} lines were kept"


def _row(found: Delivery, status: str, supersedes: int | None, run_id: str, now: datetime) -> Row:
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
        "carried_lines": None,
        "carried_bytes": None,
        "fingerprint": found.fingerprint,
    }
