"""Whether an object store can be trusted with a lakehouse: that it answers, and that it keeps what Delta relies on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from secrets import token_hex
from threading import Barrier

from lakehouse.errors import ServiceDown, UnsafeStore
from lakehouse.settings import object_store_access
from lakehouse.storage.object_client import Place, object_errors, place_of
from lakehouse.storage.objects import create, delete, pages_of

PATIENCE = timedelta(seconds=8)
WRITERS = 8
PROBES = "_probes"


@cache
def reach(address: str) -> None:
    """Make sure, once, that a store answers for an address: whoever waits on a wrong one waits for minutes.

    Errors: ServiceDown, when it has not answered for `PATIENCE`.
    """
    with _store_errors(address):
        next(pages_of(place_of(address.rstrip("/") + "/", PATIENCE), address, PATIENCE, at_most=1))


def probe(address: str) -> None:
    """Make sure that a store refuses to create what is there, lets one of many writers win, and lists what was written.

    Without that two runs could publish the same release. Errors: UnsafeStore naming what failed, ServiceDown.
    """
    with _store_errors(address):
        place = place_of(address.rstrip("/") + "/", PATIENCE)
        folder = place._replace(key=f"{place.key}{PROBES}/{token_hex(8)}/")
        first, raced = (folder._replace(key=folder.key + name) for name in ("first", "raced"))
        _try(folder, first, raced, address)
        for one in (first, raced):
            delete(one, PATIENCE)


def _try(folder: Place, first: Place, raced: Place, address: str) -> None:
    created = [_is_created(first) for _ in range(2)]
    if created != [True, False]:
        found = "it wrote over an object that was to be created" if created[0] else "it did not create a new object"
        raise UnsafeStore(address, f"{found} (PUT with If-None-Match)")
    together = Barrier(WRITERS)

    def race() -> bool:
        together.wait()
        return _is_created(raced)

    with ThreadPoolExecutor(WRITERS) as writers:
        winners = sum(one.result() for one in [writers.submit(race) for _ in range(WRITERS)])
    if winners != 1:
        raise UnsafeStore(address, f"of {WRITERS} writers creating one object {winners} won (PUT with If-None-Match)")
    seen = {one["Key"] for page in pages_of(folder, address, PATIENCE) for one in page.get("Contents", ())}
    if seen != {first.key, raced.key}:
        raise UnsafeStore(address, f"of 2 objects written it lists {len(seen)} (list after write)")


def _is_created(place: Place) -> bool:
    """Create an object; asked twice, a store would rightly refuse what came of the first request."""
    return create(place, token_hex(8).encode(), PATIENCE, is_harmless=False)


@contextmanager
def _store_errors(address: str) -> Iterator[None]:
    """Turn what goes wrong with a store into one sentence that names it."""
    try:
        with object_errors(address):
            yield
    except OSError as error:
        where = object_store_access().endpoint or "AWS"
        remedy = "Check MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY and the bucket."
        raise ServiceDown("The object store", where, f"{error.strerror} ({address})", remedy) from None
