"""Whether an object store can be trusted with a lakehouse: that it answers, and that it keeps what Delta relies on."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from secrets import token_hex
from threading import Barrier

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from lakehouse.errors import ServiceDown, UnsafeStore
from lakehouse.storage.objects import located, reason_of

PATIENCE = timedelta(seconds=8)
WRITERS = 8
PROBES = "_probes"


@cache
def reach(address: str) -> None:
    """Make sure, once, that a store answers for an address: whoever waits on a wrong one waits for minutes.

    Errors: ServiceDown, within `PATIENCE`.
    """
    store, prefix = located(address.rstrip("/") + "/", PATIENCE)
    try:
        next(iter(obstore.list(store, prefix, chunk_size=1)), None)
    except BaseError as error:
        raise _down(address, error) from None


def probe(address: str) -> None:
    """Make sure that a store refuses to create what is there, lets one of many writers win, and lists what was written.

    Without that two runs could publish the same release. Errors: UnsafeStore naming what failed, ServiceDown.
    """
    store, prefix = located(address.rstrip("/") + "/", PATIENCE)
    folder = f"{prefix}{PROBES}/{token_hex(8)}/"
    try:
        _try(store, folder, address)
        obstore.delete(store, [folder + key for key in ("first", "raced")])
    except BaseError as error:
        raise _down(address, error) from None


def _try(store: S3Store, folder: str, address: str) -> None:
    first = [_is_created(store, f"{folder}first") for _ in range(2)]
    if first != [True, False]:
        found = "it wrote over an object that was to be created" if first[0] else "it did not create a new object"
        raise UnsafeStore(address, f"{found} (PUT with If-None-Match)")
    together = Barrier(WRITERS)

    def race() -> bool:
        together.wait()
        return _is_created(store, f"{folder}raced")

    with ThreadPoolExecutor(WRITERS) as writers:
        winners = sum(one.result() for one in [writers.submit(race) for _ in range(WRITERS)])
    if winners != 1:
        raise UnsafeStore(address, f"of {WRITERS} writers creating one object {winners} won (PUT with If-None-Match)")
    seen = {one["path"] for some in obstore.list(store, folder) for one in some}
    if seen != {f"{folder}first", f"{folder}raced"}:
        raise UnsafeStore(address, f"of 2 objects written it lists {len(seen)} (list after write)")


def _is_created(store: S3Store, key: str) -> bool:
    try:
        obstore.put(store, key, token_hex(8).encode(), mode="create", use_multipart=False)
    except AlreadyExistsError:
        return False
    return True


def _down(address: str, error: BaseError) -> ServiceDown:
    where = os.environ.get("AWS_ENDPOINT_URL", "AWS")
    remedy = "Check MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY and the bucket."
    return ServiceDown("The object store", where, f"{reason_of(error)} ({address})", remedy)
