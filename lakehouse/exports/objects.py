"""Exports as objects: every file of a release under a prefix of its own, then one small object that names it.

A reader gets `current.json` and then what it names; that outlives the next publication, as folders do.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lakehouse.errors import BadInput, StorageFailed
from lakehouse.exports.manifest import MANIFEST, Manifest, file_of, manifest_in
from lakehouse.storage.durable import durable
from lakehouse.storage.object_client import do_at_once
from lakehouse.storage.objects import list_objects, open_location, put, remove

POINTER = "current.json"
REMEDY = "Check that it exists and may be written, then run this again."
log = logging.getLogger(__name__)


class Current(NamedTuple):
    """What the pointer says: the release, and the prefix under which its files are."""

    release_id: int
    prefix: str


def current(address: str) -> Current | None:
    """Read the pointer; None where nothing was published. Errors: StorageFailed."""
    try:
        with open_location(f"{address}/{POINTER}") as file:
            return Current(**json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StorageFailed("read", f"{address}/{POINTER}", _reason(error), REMEDY) from None


def is_mirrored(folder: Path, address: str) -> bool:
    """Say whether what is published under an address are the exports in a folder, by names and sizes.

    Errors: StorageFailed.
    """
    manifest = manifest_in(folder)
    if manifest is None or current(address) != (pointer := _pointer(folder, manifest)):
        return False
    sizes = {path: file.bytes for path, file in manifest.files.items()} | {MANIFEST: (folder / MANIFEST).stat().st_size}
    try:
        return dict(list_objects(f"{address}/{pointer.prefix}")) == sizes
    except OSError as error:
        raise StorageFailed("read exports of", address, _reason(error), REMEDY) from None


def mirror(folder: Path, address: str) -> None:
    """Publish a folder of exports, as its manifest lists it, under an address; errors: StorageFailed.

    What is there is written again, and so made whole. What was published before the last publication is removed.
    """
    manifest = manifest_in(folder)
    if manifest is None:
        raise StorageFailed("publish", str(folder), "it has no manifest", "Publish it: `lakehouse export`.")
    new = _pointer(folder, manifest)
    before = current(address)
    try:
        do_at_once(
            lambda path: put(f"{address}/{new.prefix}/{path}", (folder / path).read_bytes()),
            (*manifest.files, MANIFEST),
        )
        with durable("point to the exports"):
            put(f"{address}/{POINTER}", json.dumps(new._asdict()).encode())
        staying = tuple(f"{kept.prefix}/" for kept in (new, before) if kept)
        outlived = [one.key for one in list_objects(address) if one.key.startswith("releases/")]
        remove(address, [key for key in outlived if not key.startswith(staying)])
    except OSError as error:
        raise StorageFailed("publish exports as", address, _reason(error), REMEDY) from None
    log.info("published %d objects of release %d as %s", len(manifest.files), manifest.release_id, address)


def _pointer(folder: Path, manifest: Manifest) -> Current:
    content = (folder / MANIFEST).read_bytes()
    return Current(manifest.release_id, f"releases/{manifest.release_id}-{file_of(content).sha256[:12]}")


@contextmanager
def fetch(address: str) -> Iterator[Path]:
    """Copy the exports under an address into a folder, which is there for as long as it is used.

    Whether each file is what the manifest says is left to the reader. Errors: BadInput where nothing was published,
    StorageFailed.
    """
    now = current(address)
    if now is None:
        raise BadInput(address, "it has no exports", "Publish them first: `lakehouse export`.")
    with TemporaryDirectory(prefix="exports-") as name:
        folder = Path(name)
        try:
            _copy(f"{address}/{now.prefix}", MANIFEST, folder)
            manifest = manifest_in(folder)
            if manifest is None:
                raise BadInput(address, "its manifest is not one of exports", "Publish them again: `lakehouse export`.")
            do_at_once(lambda path: _copy(f"{address}/{now.prefix}", path, folder), manifest.files)
        except OSError as error:
            raise StorageFailed("read exports of", address, _reason(error), REMEDY) from None
        yield folder


def _copy(prefix: str, path: str, folder: Path) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with open_location(f"{prefix}/{path}") as file:
        (folder / path).write_bytes(file.read())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
