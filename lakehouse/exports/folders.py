"""Folders that are published by a link to them: written once, swapped in by one rename, removed when outlived."""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from lakehouse.errors import BadInput, StorageFailed
from lakehouse.postgres.process_locks import take
from lakehouse.storage.durable import durable

LOCK_SECONDS = 300


@contextmanager
def folder_errors(action: str, where: Path) -> Iterator[None]:
    """Turn what the file system says into one sentence; errors: StorageFailed."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check that it may be written, has room and is not itself a mount point, then run this again."
        raise StorageFailed(action, str(where), reason, remedy) from error


@contextmanager
def hold_exports(into: Path) -> Iterator[None]:
    """Let one publisher at a time work beside `into`; the lock of one that is killed is free again.

    Errors: StorageFailed, when one that neither ends nor goes on has it for longer than `LOCK_SECONDS`.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    lock = take(into.with_name(f".{into.name}.lock"), LOCK_SECONDS)
    if lock is None:
        reason = f"another process has been at it for more than {LOCK_SECONDS} s"
        raise StorageFailed("publish exports as", str(into), reason, "End it if it hangs, then run this again.")
    try:
        yield
    finally:
        os.close(lock)


def versions(into: Path) -> list[Path]:
    """Give every folder made for `into`, the published one, outlived ones and what killed publishers left."""
    return [folder for folder in into.parent.iterdir() if _is_version(into, folder.name)]


def current_folder(into: Path) -> Path | None:
    """Give the published folder, None before the first; errors: BadInput when `into` is not ours to replace."""
    # Whether it is a link is asked last: another publisher may put the first one there at any moment.
    if into.is_dir() and any(into.iterdir()) and not into.is_symlink():
        raise BadInput(str(into), "it is a folder with other files", "Empty it or choose another OUTPUT_PATH.")
    if into.exists() and not into.is_dir() and not into.is_symlink():
        raise BadInput(str(into), "it is a file, not a folder", "Remove it or choose another OUTPUT_PATH.")
    if not into.is_symlink():
        return None
    target = os.readlink(into)
    if _is_version(into, target):
        return into.with_name(target)
    raise BadInput(str(into), f"it is a link to {target}", "Remove the link or choose another OUTPUT_PATH.")


def write_version(into: Path, files: Mapping[str, bytes], release_id: int) -> Path:
    """Write files, in their order, to a new folder beside `into`, or nothing at all."""
    folder = into.with_name(f".{into.name}-{release_id}-{token_hex(4)}")
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def swap(into: Path, folder: Path) -> None:
    """Make `into` a link to a folder beside it: one rename, before which readers see all of the old one."""
    link = into.with_name(f".{into.name}.next")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    if into.is_dir() and not into.is_symlink():
        into.rmdir()
    with durable(f"swap {into.name}"):
        os.replace(link, into)


def remove_others(into: Path, keep: Collection[Path]) -> None:
    """Remove every folder made for `into` but these."""
    for folder in versions(into):
        if folder not in keep:
            shutil.rmtree(folder)


def put(path: Path, content: bytes) -> None:
    """Write a file so that readers see its old content or its new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_bytes(content)
    with durable(f"put {path.name}"):
        os.replace(part, path)


def part_of(path: Path) -> Path:
    """Name the unfinished file that `put` renames; one that was killed leaves it."""
    return path.with_name(f".{path.name}.part")


def _is_version(into: Path, name: str) -> bool:
    return re.fullmatch(rf"\.{re.escape(into.name)}-\d+-[0-9a-f]{{8}}", name) is not None
