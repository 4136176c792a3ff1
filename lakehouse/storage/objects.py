"""Objects of an S3 store by their addresses, s3://bucket/key: read, list, write, remove.

obstore is Python around the client that delta-rs and Sail have inside: what a store does for it, it does for them.
Where the store is, and who asks, is in the AWS_* variables that `load_settings` sets.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store

if TYPE_CHECKING:
    from obstore import BytesStream, GetOptions

SCHEME = "s3://"
CHUNK = 1 << 20
BUFFER = 1 << 16
ASKED = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PATIENCE = timedelta(seconds=60)  # as long as a store may take to start again
REFUSALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidTokenId")


class Found(NamedTuple):
    """An object: its key under the address that was listed, and its bytes."""

    key: str
    bytes: int


def is_address(name: str) -> bool:
    """Say whether a name is the address of an object, not the path of a file."""
    return name.startswith(SCHEME)


def opened(location: str, start: int = 0) -> BufferedReader:
    """Open a file or an object for reading from a byte on; errors: OSError.

    An object is read in one request: another put under its address meanwhile does not show.
    """
    if not is_address(location):
        file = open(location, "rb")  # noqa: SIM115  # whoever asked closes it
        file.seek(start)
        return file
    store, key = located(location)
    options: GetOptions = {"range": {"offset": start}} if start else {}
    with told(location):
        return BufferedReader(_Stream(location, start, obstore.get(store, key, options=options).stream(CHUNK)), BUFFER)


def listed(address: str) -> list[Found]:
    """List the objects under an address, by their keys; errors: OSError."""
    store, prefix = located(address.rstrip("/") + "/")
    with told(address):
        found = [one for some in obstore.list(store, prefix) for one in some]
    return sorted(Found(one["path"].removeprefix(prefix), one["size"]) for one in found)


def put(address: str, content: bytes) -> None:
    """Write an object: readers see the old one or the new one, whole; errors: OSError."""
    store, key = located(address)
    with told(address):
        obstore.put(store, key, content)


def share(file: Path, address: str) -> None:
    """Write a file, named by its content, as an object, unless it is there already; errors: OSError."""
    store, key = located(address)
    with told(address), suppress(AlreadyExistsError):
        obstore.put(store, key, file, mode="create", use_multipart=False)


def remove(address: str, keys: Iterable[str]) -> None:
    """Remove objects under an address; those that are gone are no error. Errors: OSError."""
    store, prefix = located(address.rstrip("/") + "/")
    wanted = [prefix + key for key in keys]
    with told(address):
        if wanted:
            obstore.delete(store, wanted)


def located(address: str, patience: timedelta = PATIENCE) -> tuple[S3Store, str]:
    """Give the store of an address and the key in it; requests are repeated for so long while nothing answers."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    return _store(bucket, patience, *(os.environ.get(name, "") for name in ASKED)), key


@contextmanager
def told(address: str) -> Iterator[None]:
    """Turn what the store says into an OSError that says it in a few words."""
    try:
        yield
    except NotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", address) from None
    except BaseError as error:
        raise OSError(errno.EIO, reason_of(error), address) from None


def reason_of(error: BaseError) -> str:
    """Say in a few words why a request failed."""
    said = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", said)
    if code and code[1] == "NoSuchBucket":
        return "there is no such bucket"
    if code and code[1] in REFUSALS:
        return f"it refuses the user or the secret ({code[1]})"
    if code:
        return f"it answers {code[1]}"
    if "error sending request" in said:
        return "nothing answers there"
    return " ".join(said.split())[:300]


@cache
def _store(bucket: str, patience: timedelta, endpoint: str, *_user: str) -> S3Store:
    """Make the client of a bucket, from the environment; for each endpoint and user its own."""
    return S3Store(
        bucket,
        client_options={"allow_http": endpoint.startswith("http://"), "connect_timeout": timedelta(seconds=3)},
        retry_config={"retry_timeout": patience, "max_retries": 30},
    )


class _Stream(RawIOBase):
    """The chunks of an object, from a byte on, as a file."""

    def __init__(self, location: str, start: int, chunks: "BytesStream") -> None:
        self._location, self._at, self._chunks, self._rest = location, start, chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, into: "memoryview[int]") -> int:  # type: ignore[override]  # any buffer, of which this is one
        while not self._rest:
            with told(self._location):
                chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[: len(into)], self._rest[len(into) :]
        into[: len(taken)] = taken
        self._at += len(taken)
        return len(taken)
