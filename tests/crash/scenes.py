"""What is played in the crash matrix: a lakehouse as it is before, a command, and how the lakehouse is after it."""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from lakehouse.exports.folders import current_folder
from lakehouse.exports.manifest import manifest_in
from lakehouse.releases import release
from lakehouse.releases.pins import Pins, read_pins
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.flows.command import digests, newest
from tests.flows.warm import begun, done, killed_at, postgres, told_to

RUN = ("run", "--no-prefect", "--no-checks", "--min-support", "0.02", "--source")
RECEIPTS, DAYS, STORES = 400, 40, 3
OLD_SECONDS = 3 * 86_400
OF_A_DAY = "a day"


@dataclass(frozen=True)
class Look:
    """What a lakehouse shows: gold, how releases stand, the front end's files, and after a vacuum old data files."""

    digests: Mapping[str, str]
    standing: Pins
    frontend: Mapping[str, str]
    files: frozenset[str]


@dataclass(frozen=True)
class Scene:
    """A lakehouse, a command, and what must come of it: the look after it, and its durable steps in their order."""

    name: str
    seed: int
    home: Path
    arguments: tuple[object, ...]
    env: Mapping[str, str]
    before: int
    after: Look
    releases: int
    steps: tuple[str, ...]

    @property
    def is_vacuum(self) -> bool:
        return self.arguments == ("vacuum",)


@dataclass
class Stage:
    """Where the scenes of a seed are made: each begins with a lakehouse that an earlier one left."""

    folder: Path
    seed: int
    env: Mapping[str, str]
    made: list[Scene] = field(default_factory=list)

    def play(self, name: str, home: Path, *arguments: object, **env: str) -> Path:
        """Play a command to its end on a copy of a lakehouse, and note the scene; give the copy."""
        played = self.folder / name.replace(" ", "-")
        log = played.with_suffix(".steps")
        copied(home, played)
        seen = newest(home)
        given = {**self.env, **env, "FRONTEND_PATH": "frontend"}
        done(played, *arguments, env=at(given, played), before=told_to(log))
        steps = tuple(dict.fromkeys(log.read_text().splitlines()))
        last = newest(played)
        after = look(played, is_vacuum=arguments == ("vacuum",))
        number = seen.release_id if seen else 0
        self.made.append(
            Scene(name, self.seed, home, arguments, given, number, after, last.release_id if last else 0, steps)
        )
        return played


def at(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """Put the front end beside a home."""
    return dict(env) | {"FRONTEND_PATH": str(home / env["FRONTEND_PATH"])}


def scenes(folder: Path, seed: int, open_until: ExitStack) -> list[Scene]:
    """Make the scenes of a seed; PostgreSQL runs until the stack is left."""
    landing, held_back = folder / "landing", folder / "held-back"
    write_sample(landing, receipts=RECEIPTS, days=DAYS, stores=STORES, seed=seed)
    last = max((landing / "transactions").iterdir())
    shutil.move(last, held_back)
    stage = Stage(folder, seed, open_until.enter_context(postgres()))
    run = (*RUN, landing)
    first, dead, old = (folder / name for name in ("first", "dead", "old"))
    done(first, *run, env=stage.env)
    shutil.move(held_back, last)
    day = stage.play(OF_A_DAY, first, *run)
    stage.play("the first run", folder / "nothing", *run)
    copied(first, dead)
    with begun(dead, *run, env=stage.env, before=killed_at("publish", "before")) as killed:
        assert killed.ended() == -9, killed.said
    stage.play("after a killed run", dead, *run)
    stage.play("a line waived", day, "quarantine", "waive", *_a_line(day), "--who", "Ana", "--why", "lost")
    stage.play("a rollback", day, "rollback", "1")
    stage.play("a pin", day, "pin", "1")
    copied(day, old)
    for file in (old / "tables").rglob("*.parquet"):
        os.utime(file, (time.time() - OLD_SECONDS,) * 2)
    stage.play("a vacuum", old, "vacuum", KEEP_DAILY="0", KEEP_MONTHLY="0")
    stage.play("a sync", day, "export", "--sync")
    return stage.made


def _a_line(home: Path) -> tuple[str, int]:
    """Name a line in quarantine by its path and number."""
    storage = Storage(str(home / "tables"))
    opened = release.Snapshot(storage, release.latest(storage))
    paths = {row["source_id"]: row["path"] for row in opened.rows("ops.sources").to_pylist()}
    line = (
        opened.rows("ops.quarantine").sort_by([("source_id", "ascending"), ("line_number", "ascending")]).to_pylist()[0]
    )
    return paths[line["source_id"]], line["line_number"]


def copied(home: Path, into: Path) -> None:
    """Copy a lakehouse, its exports and its extracts; services stay where they are."""
    into.mkdir(parents=True)
    for made in ("tables", "extracts"):
        if (home / made).exists():
            shutil.copytree(home / made, into / made)
    exports = current_folder(home / "exports")
    if exports is not None:
        shutil.copytree(exports, into / exports.name)
        (into / "exports").symlink_to(exports.name)


def look(home: Path, is_vacuum: bool = False) -> Look:
    """See a lakehouse as its readers do."""
    storage, frontend = Storage(str(home / "tables")), home / "frontend"
    synced = (file for file in frontend.rglob("*") if file.is_file())
    tables = (f for f in (home / "tables").rglob("*.parquet") if f.stat().st_mtime < time.time() - OLD_SECONDS / 2)
    return Look(
        digests=digests(home),
        read_pins=read_pins(storage),
        frontend={str(f.relative_to(frontend)): sha256(f.read_bytes()).hexdigest() for f in synced},
        files=frozenset(str(f.relative_to(home)) for f in tables if is_vacuum and "_delta_log" not in f.parts),
    )


def unreadable(home: Path) -> str:
    """Name a release that is not what was published, and exports of no release; empty when all is well."""
    storage = Storage(str(home / "tables"))
    history, expired = release.history(storage), read_pins(storage).expired
    numbers = [one.release_id for one in history]
    if numbers != list(range(1, len(numbers) + 1)):
        return f"the releases are {numbers}"
    for one in history:
        if one.release_id not in expired and digests(home, one.release_id) != one.digests:
            return f"release {one.release_id} is not what was published"
    manifest = manifest_in(home / "exports")
    shown = manifest.release_id if manifest else None
    return "" if shown in (None, *numbers[-2:]) else f"the exports are of release {shown}"
