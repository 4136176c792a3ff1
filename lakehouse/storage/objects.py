"""Objects of an S3 store by their addresses, s3://bucket/key: read, list, write, remove.

Where the store is, and who asks, is in the AWS_* variables that `load_settings` sets.
"""

import errno
from collections.abc import Iterable, Iterator
from datetime import timedelta
from http import HTTPStatus
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lakehouse.storage.object_client import (
    NO_STORE,
    PATIENCE,
    SCHEME,
    Place,
    ask,
    do_at_once,
    object_errors,
    place_of,
    status_of,
)

if TYPE_CHECKING:
    from botocore.response import StreamingBody

CHUNK = 1 << 20
BUFFER = 1 << 16


class Found(NamedTuple):
    """An object: its key under the address that was listed, and its bytes."""

    key: str
    bytes: int


def is_address(name: str) -> bool:
    """Say whether a name is the address of an object, not the path of a file."""
    return name.startswith(SCHEME)


def open_location(location: str, start: int = 0) -> BufferedReader:
    """Open a file or an object for reading from a byte on; errors: OSError.

    An object is read as it was when it was opened: another put under its address meanwhile does not show, or is an
    error where the store breaks off.
    """
    if not is_address(location):
        file = open(location, "rb")  # noqa: SIM115  # whoever asked closes it
        file.seek(start)
        return file
    return BufferedReader(_Content(location, start), BUFFER)


def list_objects(address: str) -> list[Found]:
    """List the objects under an address, by their keys; errors: OSError."""
    place = place_of(address.rstrip("/") + "/")
    with object_errors(address):
        found = [one for page in pages_of(place, address) for one in page.get("Contents", ())]
    return sorted(Found(one["Key"].removeprefix(place.key), one["Size"]) for one in found)


def pages_of(
    place: Place, address: str, patience: timedelta = PATIENCE, at_most: int = 1_000
) -> Iterator[dict[str, Any]]:
    """List what is under a place, page by page, so many in each; errors: OSError where no store answers, botocore's."""
    asked = {"Bucket": place.bucket, "Prefix": place.key, "MaxKeys": at_most}
    while True:
        page = ask(lambda: place.client.list_objects_v2(**asked), patience)
        if "Name" not in page:  # a list says which bucket it is of; other XML reads as an empty one
            raise OSError(errno.EIO, NO_STORE, address)
        yield page
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def put(address: str, content: bytes) -> None:
    """Write an object: readers see the old one or the new one, whole; errors: OSError."""
    client, bucket, key = place_of(address)
    with object_errors(address):
        ask(lambda: client.put_object(Bucket=bucket, Key=key, Body=content))


def share(file: Path, address: str) -> None:
    """Write a file, named by its content, as an object, unless it is there already; errors: OSError."""
    place = place_of(address)
    with object_errors(address):
        create(place, file.read_bytes())


def create(place: Place, content: bytes, patience: timedelta = PATIENCE, *, is_harmless: bool = True) -> bool:
    """Write an object unless there is one; say whether it was written. Errors: botocore's."""
    from botocore.exceptions import ClientError

    client, bucket, key = place

    def put_if_none_match() -> object:
        return client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")

    try:
        ask(put_if_none_match, patience, is_harmless=is_harmless)
    except ClientError as error:
        if status_of(error) != HTTPStatus.PRECONDITION_FAILED:
            raise
        return False
    return True


def remove(address: str, keys: Iterable[str]) -> None:
    """Remove objects under an address; those that are gone are no error. Errors: OSError.

    One by one, some at once: not every store removes many in one request.
    """
    place = place_of(address.rstrip("/") + "/")
    with object_errors(address):
        do_at_once(lambda key: delete(place._replace(key=place.key + key)), keys)


def delete(place: Place, patience: timedelta = PATIENCE) -> None:
    """Remove an object; errors: botocore's."""
    client, bucket, key = place
    ask(lambda: client.delete_object(Bucket=bucket, Key=key), patience)


class _Content(RawIOBase):
    """What an object holds from a byte on, as a file.

    Where the store breaks off, it is asked for the rest of the same content: of another it says that it is another.
    """

    _body: "StreamingBody | None" = None

    def __init__(self, location: str, start: int) -> None:
        self._location, self._place, self._at, self._etag = location, place_of(location), start, ""
        with object_errors(location):
            self._body = ask(self._get)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, into: "memoryview[int]") -> int:  # type: ignore[override]  # any buffer, of which this is one
        with object_errors(self._location):
            read: int = ask(lambda: self._read(into))
        self._at += read
        return read

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK) or b"", b""))

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        super().close()

    def _read(self, into: "memoryview[int]") -> int:
        from botocore.exceptions import ResponseStreamingError
        from urllib3.exceptions import HTTPError

        if self._body is None:
            self._body = self._get()
        try:
            return int(self._body.readinto(into))
        except HTTPError as error:  # as TLS that breaks, of which botocore knows nothing
            self._forget_body()
            raise ResponseStreamingError(error=error) from error
        except Exception:
            self._forget_body()
            raise

    def _forget_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _get(self) -> "StreamingBody":
        same = {"IfMatch": self._etag} if self._etag else {}
        part = {"Range": f"bytes={self._at}-"} if self._at else {}
        answer = self._place.client.get_object(Bucket=self._place.bucket, Key=self._place.key, **same, **part)
        if "ETag" not in answer:
            raise OSError(errno.EIO, NO_STORE, self._location)
        self._etag = answer["ETag"]
        return answer["Body"]
