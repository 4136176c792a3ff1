"""The data files of a table that no kept version needs: what they are, and their removal.

delta-rs's own vacuum would keep what a dead run committed last, does not see half-written files, and adds commits.
"""

from collections.abc import Iterable
from datetime import datetime

from pyarrow.fs import FileSelector

from lakehouse.storage.durable import durable
from lakehouse.storage.tables import Storage, storage_errors
from lakehouse.table import Table

LOG = "_delta_log/"


def unneeded_files(storage: Storage, table: Table, versions: Iterable[int], before: datetime) -> dict[str, int]:
    """List the files written before a time that none of the versions names, with their bytes; the log is none.

    Errors: StorageFailed, also when a version does not open.
    """
    if storage.version(table) is None:
        return {}
    needed = {file for version in versions for file in storage.dataset(table, version).files}
    with storage_errors("list", storage.uri(table)):
        found = storage.files(table).get_file_info(FileSelector("", recursive=True))
    old = (f for f in found if f.is_file and f.mtime_ns < before.timestamp() * 1e9)
    return {f.path: f.size for f in old if not f.path.startswith(LOG) and _data(f.path) not in needed}


def remove(storage: Storage, table: Table, files: Iterable[str]) -> None:
    """Delete files of a table by their path in it; errors: StorageFailed."""
    with storage_errors("remove files of", storage.uri(table)):
        for file in files:
            with durable(f"remove a file of {table.qualified_name}"):
                storage.files(table).delete_file(file)


def _data(path: str) -> str:
    """Give the data file that a checksum beside it (`.NAME.crc`, written by Hadoop's file system) belongs to."""
    folder, slash, name = path.rpartition("/")
    is_checksum = name.startswith(".") and name.endswith(".crc")
    return f"{folder}{slash}{name[1:-4]}" if is_checksum else path
