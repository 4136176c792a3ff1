"""Run the command line as a user does: in a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakehouse import catalog
from lakehouse.engine.building import digest_of
from lakehouse.releases import release
from lakehouse.releases.release import Release
from lakehouse.storage.tables import Storage
from lakehouse.table import Layer
from tests.waiting import HANG_SECONDS

KEPT = ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "JDK_JAVA_OPTIONS")
SETUP = "import sys; sys.argv[0] = 'lakehouse'\n"
START = "\nfrom deployments.entry import main\nmain()\n"


def lakehouse(
    home: Path, *arguments: object, env: Mapping[str, str] | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `lakehouse ARGUMENTS`; `before` is Python that runs in its process first."""
    command, given = _asked(home, arguments, env, before)
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


def _asked(
    home: Path, arguments: tuple[object, ...], env: Mapping[str, str] | None, before: str
) -> tuple[list[str], dict[str, str]]:
    clean = {name: os.environ[name] for name in KEPT if name in os.environ}
    given = (
        clean
        | {"LAKEHOUSE_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", "SETTLE_SECONDS": "0"}
        | dict(env or {})
    )
    return [sys.executable, "-c", SETUP + before + START, *map(str, arguments)], given


def begun(
    home: Path, *arguments: object, env: Mapping[str, str] | None = None, before: str = ""
) -> subprocess.Popen[str]:
    """Begin `lakehouse ARGUMENTS` in a process group of its own, without waiting for it."""
    command, given = _asked(home, arguments, env, before)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=given, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def answer(home: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """Run a command with --json and read what it answers."""
    done = lakehouse(home, *arguments, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(home: Path, source: Path, *options: object, env: Mapping[str, str] | None = None) -> None:
    """Run the main job without Prefect and without suites, and hold it to success."""
    done = lakehouse(home, "run", "--source", source, "--no-prefect", "--no-checks", *options, env=env)
    assert done.returncode == 0, done.stderr


def digests(home: Path, release_id: int | None = None) -> dict[str, str]:
    """Digest the gold tables readers see, or those of a release."""
    storage = Storage(str(home / "tables"))
    seen = release.latest(storage) if release_id is None else release.at(storage, release_id)
    gold = catalog.tables(Layer.GOLD)
    return {t.qualified_name: digest_of(storage, t, seen.tables[t.qualified_name]) for t in gold}


def newest(home: Path) -> Release | None:
    """Give the release readers see, if any."""
    published = release.history(Storage(str(home / "tables")))
    return published[-1] if published else None
