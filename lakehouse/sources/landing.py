"""Which files wait in the landing: each read once, looked at again while it is young."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lakehouse.errors import BadInput
from lakehouse.storage.object_client import do_at_once
from lakehouse.storage.objects import is_address, list_objects, open_location

BLOCK = 1 << 20
ID_BYTES = 8  # of a source's hash are its id: sources are the same only when their whole hashes are
PROBED_LINES = 1_000
REMEDY = "Put transactions/*.csv under DATA_PATH, or name another --source."
READ, WRITTEN = "it changed while it was read", "it is still being written"


class Head(NamedTuple):
    """The content that counts for a path so far."""

    source_id: int
    sha256: str
    bytes: int


class Growth(NamedTuple):
    """The earlier content a file begins with: how many whole lines that holds, and how many bytes they take."""

    grown_from: int
    lines: int
    bytes: int


@dataclass(frozen=True)
class Delivery:
    """A file as found: its hash, or why it cannot be one of its entity.

    `changes` says in which way it is not yet what it will be, `growth` what it begins with, `modified_ns` when it was
    written last, `fingerprint` what PostgreSQL says of its rows.
    """

    entity: str
    path: str
    location: str
    sha256: str = ""
    bytes: int = 0
    problem: str | None = None
    changes: str | None = None
    growth: Growth | None = None
    modified_ns: int = 0
    fingerprint: str | None = None

    @property
    def source_id(self) -> int:
        """Give the first 8 bytes of the hash as a signed number; 0 when the file could not be read."""
        return int.from_bytes(bytes.fromhex(self.sha256)[:ID_BYTES], "big", signed=True) if self.sha256 else 0

    @property
    def is_changing(self) -> bool:
        return self.changes is not None


def transaction_files(landing: str | Path, heads: Mapping[str, Head] = {}) -> list[Delivery]:
    """List and read `transactions/*.csv` under a folder or an address; errors: BadInput when there never was one.

    `heads` are the contents known, by path: what a file grew from is found by them.
    """
    if is_address(str(landing)):
        return _transaction_objects(f"{str(landing).rstrip('/')}/transactions", heads)
    folder = Path(landing) / "transactions"
    files = {f"transactions/{file.name}": file for file in csv_files(folder)}
    if not files and not _have_come(heads):
        raise BadInput(str(folder), "there is no *.csv file", REMEDY)
    return [delivery("transactions", path, file, heads.get(path)) for path, file in files.items()]


def csv_files(folder: Path) -> list[Path]:
    """List what is named *.csv in a folder; errors: BadInput where there is no folder, or none that may be read."""
    try:
        with os.scandir(folder) as found:
            return [folder / name for name in sorted(one.name for one in found) if name.endswith(".csv")]
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(str(folder), "there is no such folder", REMEDY) from None
    except OSError as error:
        raise BadInput(str(folder), f"it cannot be opened ({error.strerror})", REMEDY) from None


def _have_come(heads: Iterable[str]) -> bool:
    """Say whether transactions were delivered before: whoever removes what was taken in leaves an empty landing."""
    return any(path.startswith("transactions/") for path in heads)


def _transaction_objects(folder: str, heads: Mapping[str, Head]) -> list[Delivery]:
    try:
        keys = [one.key for one in list_objects(folder) if one.key.endswith(".csv") and "/" not in one.key]
    except OSError as error:
        raise BadInput(folder, f"it cannot be listed: {error.strerror}", REMEDY) from None
    if not keys and not _have_come(heads):
        raise BadInput(folder, "there is no *.csv object", REMEDY)
    found = {f"transactions/{key}": f"{folder}/{key}" for key in keys}
    return do_at_once(lambda path: delivery("transactions", path, found[path], heads.get(path)), found)


def _object(entity: str, path: str, location: str, head: Head | None) -> Delivery:
    """Do for an object what `delivery` does for a file: an object is whole or not there, it is never being written."""
    found = Delivery(entity, path, location)
    try:
        read = _read(location, head.bytes if head else 0)
    except OSError as error:
        return replace(found, problem=f"it cannot be read: {error.strerror}")
    problem = _misshapen(read.start, entity)
    return replace(found, sha256=read.sha256, bytes=read.size, problem=problem, growth=_growth(read, head))


def delivery(entity: str, path: str, place: str | Path, head: Head | None = None) -> Delivery:
    """Read a file or an object once: its hash, size, whether it has the shape of its entity and begins as `head`."""
    if is_address(str(place)):
        return _object(entity, path, str(place), head)
    file = Path(place)
    location = str(file.absolute())
    found = Delivery(entity, writable(path), writable(location))
    if (found.path, found.location) != (path, location):
        return replace(found, problem="its name is not UTF-8")
    try:
        if not file.is_file():
            return replace(found, problem="it is no file")
        before = file.stat()
        read = _read(location, head.bytes if head else 0)
        after = file.stat()
    except OSError as error:
        return replace(found, problem=f"it cannot be read: {error.strerror}")
    found = replace(found, sha256=read.sha256, bytes=read.size, modified_ns=after.st_mtime_ns)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or read.size != after.st_size:
        return replace(found, changes=READ)
    return replace(found, problem=_misshapen(read.start, entity), growth=_growth(read, head))


def settled_deliveries(
    found: Iterable[Delivery],
    heads: Mapping[str, Head],
    seconds: float,
    wait: Callable[[float], None] = time.sleep,
) -> list[Delivery]:
    """Look again at the files that are new: one that was written to since it was read is changing.

    Waits until the youngest of them was written `seconds` ago, as far as anybody knows; with 0 nobody looks.
    """
    deliveries = list(found)
    new = {one.path for one in deliveries if _is_news(one, heads.get(one.path))} if seconds else set()
    ages = [time.time() - one.modified_ns / 1e9 for one in deliveries if one.path in new]
    if (left := seconds - min(ages, default=seconds)) > 0:
        wait(min(left, seconds))
    return [
        replace(one, changes=WRITTEN, problem=None) if one.path in new and _is_other(one) else one for one in deliveries
    ]


def _is_news(one: Delivery, head: Head | None) -> bool:
    """Say whether a file was read, perhaps before it had its shape, and holds what is not known of it."""
    return bool(one.sha256) and not one.is_changing and (head is None or head.sha256 != one.sha256)


def _is_other(one: Delivery) -> bool:
    """Say whether a file is no longer what was read, or not there any more; what came over an object comes later."""
    if is_address(one.location):
        return False
    with suppress(OSError):
        now = os.stat(one.location)
        return (now.st_size, now.st_mtime_ns) != (one.bytes, one.modified_ns)
    return True


def _growth(read: "Reading", head: Head | None) -> Growth | None:
    if head is None or read.beginning != head.sha256 or read.size == head.bytes:
        return None
    return Growth(head.source_id, read.lines, read.whole)


def writable(name: str) -> str:
    """Give a name as text that can be stored: bytes that are not UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class Reading(NamedTuple):
    """What a file holds.

    `start` are its first bytes, `beginning` the hash of as many bytes as were asked for (empty when there are fewer);
    these hold `lines` line feeds, the last one of which ends `whole` bytes.
    """

    sha256: str
    size: int
    start: bytes
    beginning: str
    lines: int
    whole: int


def _read(location: str, length: int) -> Reading:
    digest, size, start, beginning, lines, whole = hashlib.sha256(), 0, b"", "", 0, 0
    with open_location(location) as octets:
        while block := octets.read(min(BLOCK, length - size) if size < length else BLOCK):
            digest.update(block)
            start += block[: BLOCK - len(start)]
            if size < length:
                lines += block.count(b"\n")
                whole = size + end if (end := block.rfind(b"\n") + 1) else whole
            size += len(block)
            beginning = digest.hexdigest() if size == length else beginning
    return Reading(digest.hexdigest(), size, start, beginning, lines, whole)


_FIELDS: dict[str, Callable[[bytes], bool]] = {
    "transactions": lambda line: line.count(b"|") == 3,
    "categories": lambda line: b"|" in line,
    "product_categories": lambda line: line.count(b"|") == 1,
}


def _misshapen(head: bytes, entity: str) -> str | None:
    """Say why the first lines cannot be the entity's; None when some of them can."""
    if not head.strip(b"\xef\xbb\xbf\r\n"):
        return "it is empty"
    lines = head.split(b"\n", PROBED_LINES)[:PROBED_LINES]
    if any(b"\0" not in line and _FIELDS[entity](line) for line in lines):
        return None  # a zero byte is of its line, which breaks a rule; where every line has one, it is other than UTF-8
    if b"\0" in head:
        return "it is binary, not text"
    return f"none of its first {len(lines)} lines has the fields of {entity} separated by |"
