"""What is declared and what a server has, as values, and the difference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Facts = dict[str, Any]


class Kind(StrEnum):
    """What is put into service, in the order in which it is made; it is removed in the opposite order."""

    WORK_POOL = "work pool"
    WORK_QUEUE = "work queue"
    DEPLOYMENT = "deployment"
    WEBHOOK = "webhook"
    AUTOMATION = "automation"


@dataclass(frozen=True)
class Thing:
    """One thing that is declared, or on a server; `key` is the server's id of it. Facts not declared are not compared.

    `is_ours` says that this project made it, so that it goes when it is no longer declared.
    """

    kind: Kind
    name: str
    facts: Facts
    key: str = ""
    is_ours: bool = True


@dataclass(frozen=True)
class Change:
    """What makes a server match: `fields` are what differs, each with what is there and what is declared."""

    action: str
    thing: Thing
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)


def changes(wanted: Sequence[Thing], found: Sequence[Thing]) -> list[Change]:
    """Compare; what has a name that is declared once but found twice is removed but for the first."""
    there: dict[tuple[Kind, str], Thing] = {}
    for thing in found:
        there.setdefault((thing.kind, thing.name), thing)
    kept = [there[thing.kind, thing.name] for thing in wanted if (thing.kind, thing.name) in there]
    gone = [thing for thing in found if thing.is_ours and not any(thing is one for one in kept)]
    order = list(Kind)
    made = [change for thing in wanted for change in _changes_of(thing, there.get((thing.kind, thing.name)))]
    removed = sorted(gone, key=lambda thing: (-order.index(thing.kind), thing.name))
    return [*sorted(made, key=lambda change: order.index(change.thing.kind)), *(Change("remove", t) for t in removed)]


def _changes_of(thing: Thing, found: Thing | None) -> Iterator[Change]:
    if found is None:
        yield Change("create", thing)
        return
    different = dict(_different("", {name: found.facts.get(name) for name in thing.facts}, thing.facts))
    if different:
        yield Change("update", Thing(thing.kind, thing.name, thing.facts, found.key), different)


def _different(name: str, there: object, declared: object) -> Iterator[tuple[str, tuple[object, object]]]:
    """Name what differs as narrowly as it can be: the key of a mapping in a mapping."""
    if isinstance(there, dict) and isinstance(declared, dict):
        for key in [*declared, *(key for key in there if key not in declared)]:
            yield from _different(f"{name}.{key}" if name else str(key), there.get(key), declared.get(key))
    elif there != declared:
        yield name, (there, declared)
