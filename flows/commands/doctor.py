"""Whether a run would find what it needs."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flows.orchestration.server import find_server, without_credentials
from lakehouse.engine import session
from lakehouse.errors import LakehouseError
from lakehouse.postgres import connection
from lakehouse.releases import release
from lakehouse.settings import Settings
from lakehouse.sources import landing
from lakehouse.storage.tables import Storage

LEAST_FREE = 2 << 30


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    is_well: bool
    found: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a run needs; starts the engine for a moment, changes nothing."""
    looks: dict[str, Callable[[], str]] = {
        "python": platform.python_version,
        "home": lambda: _writable(settings.lakehouse_home),
        "tables": lambda: _tables(settings),
        "landing": lambda: _landing(settings),
        "postgres": lambda: connection.status(settings),
        "engine": lambda: _engine(settings),
    }
    found = [_look(what, look) for what, look in looks.items()]
    return [*found, _look("prefect", lambda: _prefect(settings))]


def _look(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except (LakehouseError, OSError) as error:
        return Finding(what, False, str(error))


def _writable(folder: Path) -> str:
    """Say that a folder, or what is there of the way to it, may be written and has room; errors: OSError."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    with tempfile.NamedTemporaryFile(dir=there):
        free = shutil.disk_usage(there).free
    if free < LEAST_FREE:
        raise OSError(f"{folder} has {free >> 20} MiB free: a run wants {LEAST_FREE >> 20}")
    return f"{folder}, {free >> 30} GiB free"


def _prefect(settings: Settings) -> str:
    api = find_server(settings)
    return f"answers at {without_credentials(api)}" if api else "no API answers: runs go without it"


def _tables(settings: Settings) -> str:
    session.require_readable(settings)
    published = release.history(Storage(settings.root))
    return f"{settings.root}, {f'release {published[-1].release_id}' if published else 'no release yet'}"


def _landing(settings: Settings) -> str:
    if not settings.data_path:
        return "DATA_PATH is not set: runs need --source"
    files = landing.transaction_files(settings.data_path)
    refused = [f"{one.path}: {one.problem}" for one in files if one.problem]
    if refused:
        raise OSError("; ".join(refused))
    return f"{settings.data_path}, {len(files)} transactions files"


def _engine(settings: Settings) -> str:
    with tempfile.TemporaryDirectory() as logs:
        started = session.start(settings.model_copy(update={"logs_path": Path(logs)}))
        try:
            rows = started.session.range(3).count()
        finally:
            started.stop()
    return f"{started.name} counts to {rows}"
