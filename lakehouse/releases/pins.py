"""How releases stand: pinned by hand, or expired. A log, which outlives failed runs and rollbacks."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.ops import retention
from lakehouse.storage.tables import Storage


@dataclass(frozen=True)
class Pins:
    """The releases that are pinned, and those that expired, by number."""

    pinned: frozenset[int]
    expired: frozenset[int]


@dataclass(frozen=True)
class Change:
    """Who changes how releases stand, in which run, when and why."""

    run_id: str
    who: str
    at: datetime
    why: str | None = None


def read_pins(storage: Storage) -> Pins:
    """Read what holds now: the last state each release was given."""
    last = {row["release_id"]: row["state"] for row in _rows(storage)}
    pinned, _, expired = (frozenset(n for n, state in last.items() if state == s) for s in retention.STATES)
    return Pins(pinned, expired)


def set_pin(storage: Storage, releases: Iterable[int], state: str, change: Change) -> None:
    """Give releases a state; errors: StorageFailed, also when somebody else did so meanwhile."""
    head = storage.create(retention.TABLE, change.run_id)
    rows: list[dict[str, object]] = [
        {
            "change_id": number,
            "release_id": release_id,
            "state": state,
            "who": change.who,
            "why": change.why,
            "changed_at": change.at,
            "run_id": change.run_id,
        }
        for number, release_id in enumerate(releases, len(_rows(storage)) + 1)
    ]
    storage.append(retention.TABLE, rows, change.run_id, after=head)


def _rows(storage: Storage) -> list[dict[str, Any]]:
    """Give every row, the first one first."""
    version = storage.version(retention.TABLE)
    if version is None:
        return []
    rows: list[dict[str, Any]] = storage.rows(retention.TABLE, version).sort_by("change_id").to_pylist()
    return rows
