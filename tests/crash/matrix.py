"""Cut runs off before and after every durable step, and hold what is left to the promise.

Killed: the command is killed there with its process group; readers must see the last release as it was or, once it is
published, the new one whole; the same command again must end as one that nobody disturbed.
Interrupted: the same, as Ctrl-C does it, and the command ends by itself.
Stopped: the command is stopped there until its lease has run out and another run has published, and is continued: it
must not commit. Every step of the main job up to the publication is stopped with one of the seeds.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table as Grid

from lakehouse.exports.publish import holds
from tests.crash.scenes import OF_A_DAY, Scene, at, copied, look, scenes, unreadable
from tests.flows.command import newest
from tests.flows.warm import Prepare, begun, done, interrupted_at, killed_at, stopped_at

SEEDS = (1, 2, 3)  # of the samples: with each other steps are stopped, with all of them every one
MOMENTS = ("before", "after", "interrupted", "stopped")
ALIKE = 3  # of steps that differ in the table alone: the first, the last and one between
SHORT = {"LEASE_SECONDS": "1"}
KILLED, INTERRUPTED = -9, 130
LOST = "This run lost the lease"
ERRORS = Console(stderr=True)


@dataclass(frozen=True)
class Case:
    """A step of a scene at which a command was cut off, and what was wrong afterwards: empty when nothing was."""

    scene: str
    seed: int
    step: str
    moment: str
    problem: str


def points(played: list[Scene], seeds: Sequence[int]) -> Iterator[tuple[Scene, str, str]]:
    """Choose where to cut off: all steps of a day and of short commands, elsewhere those that no scene before had."""
    known: set[str] = set()
    for scene in played:
        steps = [s for s in scene.steps if s not in known] if _is_run(scene) and scene.name != OF_A_DAY else scene.steps
        known |= set(steps)
        chosen = list(steps) if scene.name == OF_A_DAY else [s for _, g in groupby(steps, _verb) for s in _few(list(g))]
        for number, step in enumerate(chosen):
            yield scene, step, "before"
            yield scene, step, "after"
            yield scene, step, "interrupted"
            may_commit = "publish" in scene.steps and scene.steps.index(step) <= scene.steps.index("publish")
            if _is_run(scene) and may_commit and number % len(seeds) == seeds.index(scene.seed):
                yield scene, step, "stopped"


def cases(seed: int, seeds: Sequence[int], every: int = 1) -> Iterator[Case]:
    """Try every so many-th point of the scenes of a seed."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as scratch, ExitStack() as stack:
        chosen = list(points(scenes(Path(scratch), seed, stack), seeds))[::every]
        for number, (scene, step, moment) in enumerate(track(chosen, f"seed {seed}", console=ERRORS)):
            home = Path(scratch) / str(number)
            yield Case(scene.name, seed, step, moment, cut_off(scene, step, moment, home))
            shutil.rmtree(home, ignore_errors=True)


def cut_off(scene: Scene, step: str, moment: str, home: Path) -> str:
    """Cut a command off; give what is wrong afterwards, or nothing."""
    copied(scene.home, home)
    if moment == "stopped":
        return stopped(scene, step, home)
    if moment == "interrupted":
        return ended(scene, interrupted_at(step), INTERRUPTED, home)
    return ended(scene, killed_at(step, moment), KILLED, home)


def ended(scene: Scene, cut: Prepare, wanted: int, home: Path) -> str:
    """Kill or interrupt a command at a step, hold it to an exit code, look at what is left, give it again."""
    env = at(scene.env, home)
    with begun(home, *scene.arguments, env=env, before=cut) as command:
        if (code := command.ended()) != wanted:
            return f"it was not cut off, it ended with {code}: {command.said[-500:]}"
        if "Traceback" in command.said:
            return f"it ended with a traceback: {command.said[-500:]}"
    if problem := unreadable(home):
        return f"then {problem}"
    seen = newest(home)
    if (seen.release_id if seen else 0) not in (scene.before, scene.releases):
        return f"then readers saw release {seen and seen.release_id}"
    if seen and seen.release_id == scene.releases != scene.before and seen.digests != scene.after.digests:
        return "then readers saw another new release"
    done(home, *scene.arguments, env=env)
    return _unlike(scene, home)


def stopped(scene: Scene, step: str, home: Path) -> str:
    """Stop a command at a step while another one works and publishes, and let it go on."""
    env = at(scene.env, home)
    with begun(home, *scene.arguments, env=env | SHORT, before=stopped_at(step)) as command:
        command.stops()
        done(home, *scene.arguments, env=env)
        published = _unlike(scene, home)
        command.goes_on()
        code = command.ended()
    held = scene.steps.index(step) > scene.steps.index("take the lease")
    if held and (code != 1 or LOST not in command.said):
        return f"who lost the lease ended with {code}: {command.said[-500:]}"
    if not held and code != 0:
        return f"who came too late ended with {code}: {command.said[-500:]}"
    now = newest(home)
    if now is None or now.release_id != scene.releases:
        return f"there are {now and now.release_id} releases instead of {scene.releases}"
    return published or _unlike(scene, home)


def _unlike(scene: Scene, home: Path) -> str:
    """Say in what a lakehouse differs from the undisturbed one."""
    if problem := unreadable(home):
        return f"in the end {problem}"
    found = look(home, scene.is_vacuum)
    for name, wanted in vars(scene.after).items():
        if getattr(found, name) != wanted:
            return f"in the end there are other {name}"
    last = newest(home)
    is_shown = last and holds(home / "exports", last.release_id, last.created_at)
    return "" if is_shown else "in the end the exports are left behind"


def _is_run(scene: Scene) -> bool:
    return scene.arguments[0] in ("run", "quarantine")


def _verb(step: str) -> str:
    return step.split(" ", 1)[0]


def _few(steps: list[str]) -> list[str]:
    return steps if len(steps) <= ALIKE else [steps[0], steps[len(steps) // 2], steps[-1]]


def main() -> None:
    """Run the matrix and print it; exit code 1 when anything was wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds of the samples")
    options.add_argument("--every", type=int, default=1, help="only every so many-th point")
    asked = options.parse_args()
    found: list[Case] = []
    for seed in asked.seeds:
        for case in cases(seed, asked.seeds, asked.every):
            found.append(case)
            if case.problem:
                ERRORS.print(case)
    show(found)
    sys.exit(any(case.problem for case in found))


def show(found: list[Case]) -> None:
    """Print a row per step, and how many cases of it were right."""
    seeds = sorted({case.seed for case in found})
    grid = Grid("", "step", *MOMENTS, title=f"{len(found)} commands cut off, seeds {', '.join(map(str, seeds))}")
    for scene, step in dict.fromkeys((case.scene, case.step) for case in found):
        grid.add_row(scene, step, *(_told(found, scene, step, moment) for moment in MOMENTS))
    Console(width=130).print(grid)


def _told(found: list[Case], scene: str, step: str, moment: str) -> str:
    here = [case for case in found if (case.scene, case.step, case.moment) == (scene, step, moment)]
    wrong = sum(bool(case.problem) for case in here)
    return f"{wrong} of {len(here)} wrong" if wrong else f"{len(here)} right" if here else ""


if __name__ == "__main__":
    main()
