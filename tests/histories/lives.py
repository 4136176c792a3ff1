"""Let a history happen to a lakehouse, and compare where it leads with every other way there."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.histories.shop import Shop
from tests.histories.steps import History, Run
from tests.histories.world import FIRST, Digests, Kept, World


@dataclass
class Memory:
    """What the digests of a state of the shop were, wherever it was reached; and a home that has a release."""

    digests: dict[object, Digests] = field(default_factory=dict)
    begun: Path | None = None
    lived: Counter[str] = field(default_factory=Counter)

    def said(self) -> str:
        """Say what happened so far."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.lived.items()))


def lived_through(history: History, folder: Path, kept: Kept, memory: Memory, is_compared: bool) -> None:
    """Let a history happen, and hold the end of it to every other way there, and to a lakehouse that is fresh."""
    world = begun(folder / "world", kept, memory, history.begins_empty)
    for step in history.steps:
        world.take(step)
        memory.lived[type(step).__name__] += 1
    world.settle()
    memory.lived["releases"] += len(world.published)
    if not world.published:
        return
    found, key = world.digests(), world.shop.key
    if is_compared and key not in memory.digests:
        memory.digests[key] = fresh_digests(world.shop, folder / "fresh", kept)
        memory.lived["fresh"] += 1
    assert found == memory.digests.setdefault(key, found)


def begun(folder: Path, kept: Kept, memory: Memory, is_empty: bool) -> World:
    """Make a world that is empty, or a copy of one with a release."""
    if is_empty:
        return World(folder, kept)
    if memory.begun is None:
        first = World(folder.parent.parent / "begun", kept, FIRST)
        first.take(Run())
        memory.begun = first.folder
    shutil.copytree(memory.begun / "home", folder / "home", symlinks=True)
    world = World(folder, kept, FIRST)
    world.published.append(Shop().taking_in(world.landing))
    return world


def fresh_digests(shop: Shop, folder: Path, kept: Kept) -> Digests:
    """Digest a fresh lakehouse that is given the files that count, and then what was decided about their lines."""
    fresh = World(folder, kept, dict(shop.heads))
    if not fresh.has_transactions:
        fresh.put("transactions/none.csv", b"2024-01-10|1|7|4 x\n")
    fresh.take(Run())
    held = set(shop.contents)
    if decided := tuple(d for d in shop.decided.values() if d.content in held):
        fresh.decide_all(decided)
    return fresh.digests()
