"""Kill a run before and after every durable step, and hold what is left to the promise.

For every step and every seed: a lakehouse with a release is given more, a run is killed there with its process
group, readers must see the last release as it was (or, once it is published, the new one whole), and the next run
must end with the digests of a run that nobody disturbed.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table as Grid

from lakehouse.exports.folders import current_folder
from lakehouse.exports.publish import exported
from lakehouse.sample import write_sample
from tests.flows.command import begun, digests, newest, run

MOMENTS = ("before", "after")
TELL = """
import lakehouse.durable as durable
def tell(step, moment):
    if moment == "before":
        with open({log!r}, "a") as log:
            log.write(step + chr(10))
durable.watched_by(tell)
"""
KILL = """
import os, signal
import lakehouse.durable as durable
def kill(step, moment):
    if (step, moment) == ({step!r}, {moment!r}):
        os.killpg(os.getpgid(0), signal.SIGKILL)
durable.watched_by(kill)
"""
RUN = ("run", "--no-prefect", "--no-checks", "--min-support", "0.02", "--source")
RECEIPTS, DAYS, STORES = 400, 40, 3


@dataclass(frozen=True)
class Scene:
    """A lakehouse with a release, what is delivered next, and what it must come to."""

    seed: int
    home: Path
    landing: Path
    before: dict[str, str]
    undisturbed: dict[str, str]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A step of a scene at which a run was killed, and what was wrong afterwards: empty when nothing was."""

    seed: int
    step: str
    moment: str
    problem: str


def scene(folder: Path, seed: int) -> Scene:
    """Publish all files but one, and learn from an undisturbed run which steps there are and what it ends with."""
    landing, held_back = folder / "landing", folder / "held back"
    write_sample(landing, receipts=RECEIPTS, days=DAYS, stores=STORES, seed=seed)
    last = max((landing / "transactions").iterdir())
    shutil.move(last, held_back)
    home, other, log = folder / "home", folder / "undisturbed", folder / "steps"
    run(home, landing, *RUN[3:5])
    before = digests(home)
    shutil.move(held_back, last)
    copied(home, other)
    done = begun(other, *RUN, landing, before=TELL.format(log=str(log)))
    _, said = done.communicate()
    if done.returncode:
        raise SystemExit(said)
    return Scene(seed, home, landing, before, digests(other), tuple(dict.fromkeys(log.read_text().splitlines())))


def copied(home: Path, into: Path) -> None:
    """Copy a lakehouse, its exports and its extracts; services stay where they are."""
    for made in ("tables", "extracts"):
        shutil.copytree(home / made, into / made)
    exports = current_folder(home / "exports")
    if exports is not None:
        shutil.copytree(exports, into / exports.name)
        (into / "exports").symlink_to(exports.name)


def cut_off(scene: Scene, step: str, moment: str, home: Path) -> str:
    """Kill a run at a step, look at what is left, run again; give what is wrong, or nothing."""
    copied(scene.home, home)
    killed = begun(home, *RUN, scene.landing, before=KILL.format(step=step, moment=moment))
    _, said = killed.communicate()
    if killed.returncode != -9:
        return f"the run was not killed, it ended with {killed.returncode}: {said[-200:]}"
    seen = newest(home)
    number = seen.release_id if seen else 0
    expected = {1: scene.before, 2: scene.undisturbed}.get(number)
    if expected is None or digests(home) != expected:
        return f"after the kill readers saw release {number} with other digests"
    if exported(home / "exports") not in (1, number):
        return f"after the kill the exports were of release {exported(home / 'exports')}"
    run(home, scene.landing, *RUN[3:5])
    if digests(home) != scene.undisturbed:
        return "the next run ended with other digests"
    after = newest(home)
    return "" if after and exported(home / "exports") == after.release_id else "the next run left the exports behind"


def cases(scene: Scene, folder: Path, chosen: int | None) -> Iterator[Case]:
    """Cut runs off at every step of a scene, or at every so many-th."""
    points = [(step, moment) for step in scene.steps for moment in MOMENTS]
    for number, (step, moment) in enumerate(track(points[:: chosen or 1], f"seed {scene.seed}", console=ERRORS)):
        home = folder / str(number)
        yield Case(scene.seed, step, moment, cut_off(scene, step, moment, home))
        shutil.rmtree(home, ignore_errors=True)


ERRORS = Console(stderr=True)


def main() -> None:
    """Run the matrix and print it; exit code 1 when anything was wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the samples")
    options.add_argument("--every", type=int, help="only every so many-th point")
    asked = options.parse_args()
    found: list[Case] = []
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            found += cases(scene(folder, seed), folder / "homes", asked.every)
    grid = Grid("step", *MOMENTS, title=f"{len(found)} runs killed, seeds {', '.join(map(str, asked.seeds))}")
    for step in dict.fromkeys(case.step for case in found):
        grid.add_row(step, *(_told(found, step, moment) for moment in MOMENTS))
    Console(width=110).print(grid)
    for case in found:
        if case.problem:
            ERRORS.print(f"seed {case.seed}, {case.moment} {case.step}: {case.problem}")
    sys.exit(any(case.problem for case in found))


def _told(found: list[Case], step: str, moment: str) -> str:
    here = [case for case in found if (case.step, case.moment) == (step, moment)]
    wrong = sum(bool(case.problem) for case in here)
    return f"{wrong} of {len(here)} wrong" if wrong else f"{len(here)} right" if here else ""


if __name__ == "__main__":
    main()
