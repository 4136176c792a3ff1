"""The files PostgreSQL is landed as: immutable, named by their content, with manifests that list them."""

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from lakehouse.errors import StorageFailed
from lakehouse.storage.durable import durable

_LINES = 20_000
PART = ".part"  # what a file is named while it is written
ABANDONED_SECONDS = 86_400


@dataclass(frozen=True)
class Extract:
    """One logical source and the file that holds it; no path when the last release has it as it is now.

    `fingerprint` is what the database says of its rows, or for a reference entity the hash of the file.
    """

    name: str
    entity: str
    path: Path | None
    sha256: str
    fingerprint: str
    rows: int
    units: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What the database says of the one snapshot that everything was read from."""

    snapshot: str
    read_at: str


def file_of(into: Path, entity: str, sha256: str) -> Path:
    """Name the file of a content."""
    return into / entity / f"{sha256[:16]}.csv"


def keep(into: Path, entity: str, lines: Iterable[bytes]) -> tuple[Path, str]:
    """Write lines to a file named by its content; a whole file that is there already stays. Gives its SHA-256 too.

    Errors: StorageFailed.
    """
    digest = hashlib.sha256()
    rows = iter(lines)

    def blocks() -> Iterable[bytes]:
        while block := b"".join(islice(rows, _LINES)):
            digest.update(block)
            yield block

    part = _written(into / entity, blocks())
    path = file_of(into, entity, digest.hexdigest())
    _named(part, path, digest.digest())
    return path, digest.hexdigest()


def forget_halves(into: Path) -> None:
    """Remove what was half written a day ago or more: whoever wrote it was killed."""
    for part in into.rglob(f".*{PART}"):
        with suppress(OSError):  # another process removed it, or it is not ours: it is in nobody's way
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                part.unlink()


def record(into: Path, read: Snapshot, extracts: Sequence[Extract]) -> Path:
    """Write the manifest of an extraction: the snapshot, and of every table and day its rows, units and file.

    It is named by the contents it lists: the same ones, found again later, are listed already. Errors: StorageFailed.
    """
    listed = json.dumps(sorted((found.name, found.sha256) for found in extracts))
    path = into / "manifests" / f"{hashlib.sha256(listed.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return path
    entities = dict.fromkeys(found.entity for found in extracts)
    tables = {entity: _table(into, [e for e in extracts if e.entity == entity]) for entity in entities}
    text = json.dumps({**asdict(read), "tables": tables}, indent=1) + "\n"
    part = _written(path.parent, [text.encode()])
    _named(part, path, hashlib.sha256(text.encode()).digest())
    return path


def _table(into: Path, extracts: list[Extract]) -> dict[str, object]:
    sources = [
        {
            "name": found.name,
            "rows": found.rows,
            "units": found.units,
            "fingerprint": found.fingerprint,
            "sha256": found.sha256,
            "file": str(file_of(into, found.entity, found.sha256).relative_to(into)),
        }
        for found in extracts
    ]
    return {"rows": sum(e.rows for e in extracts), "units": sum(e.units for e in extracts), "sources": sources}


def _written(folder: Path, blocks: Iterable[bytes]) -> Path:
    """Write a file under a name nobody reads; it is gone when anything fails."""
    part = folder / f".{uuid.uuid4().hex}{PART}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.writelines(blocks)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _failed(folder, error) from None
        raise
    return part


def _named(part: Path, path: Path, digest: bytes) -> None:
    """Give a written file its name, unless a whole one has it."""
    try:
        if not (path.exists() and hashlib.sha256(path.read_bytes()).digest() == digest):
            with durable(f"extract {path.parent.name}"):
                part.replace(path)
    except OSError as error:
        raise _failed(path.parent, error) from None
    finally:
        with suppress(OSError):
            part.unlink()


def _failed(folder: Path, error: OSError) -> StorageFailed:
    return StorageFailed("write", str(folder), str(error.strerror), "Nothing was landed; make room there.")
