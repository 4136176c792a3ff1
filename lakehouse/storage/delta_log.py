"""What the log of a Delta table says, read without opening the table."""

import json
from typing import Any

from pyarrow.fs import FileSystem, FileType

COMMIT_INFO = b'{"commitInfo":'


def is_newest(files: FileSystem, version: int) -> bool:
    """Say whether the log in a table's folder has a version and none after it.

    False also where that cannot be told so fast: of a version that only a checkpoint has.
    """
    there, after = files.get_file_info([_commit(version), _commit(version + 1)])
    return bool(there.is_file and after.type is FileType.NotFound)


def commit_info(files: FileSystem, version: int) -> dict[str, Any]:
    """Give what the commit that made a version says of itself; nothing where it does not.

    Errors: OSError, also for a commit that is cut short.
    """
    with files.open_input_stream(_commit(version)) as log:
        actions = log.read().splitlines()
    try:
        said = [json.loads(action)["commitInfo"] for action in actions if action.startswith(COMMIT_INFO)]
    except ValueError:
        said, actions = [], []
    if not actions:
        raise OSError(f"the commit of version {version} is cut short")
    return said[0] if said else {}


def run_of(commit: dict[str, Any]) -> str:
    """Give the run a commit names: delta-rs keeps it as a field, Spark in one text."""
    told = json.loads(commit.get("userMetadata") or "{}")
    return str(commit.get("run_id") or told.get("run_id") or "")


def _commit(version: int) -> str:
    return f"_delta_log/{version:020d}.json"
