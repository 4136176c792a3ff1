"""The client of an S3 store: made from what the environment says, patient while nothing answers.

boto3 takes a third of a second to import and to get ready: that is done when an object is asked for, and not before.
"""

import errno
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from http.client import HTTPException
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient

    from lakehouse.settings import ObjectStoreAccess

SCHEME = "s3://"
PATIENCE = timedelta(seconds=60)  # as long as a store may take to start again
CONNECT_SECONDS, ANSWER_SECONDS = 3, 30
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
AT_ONCE = 4
REFUSALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "InvalidTokenId",
    "InvalidToken",
    "ExpiredToken",
)
PUT_OFF = ("SlowDown", "TooManyRequests", "ConditionalRequestConflict")  # nothing of it was done
PASSING = ("RequestTimeout", "ConditionalRequestConflict")  # what a store asks to be asked again
UNREAD = dict.fromkeys(("profile", "config_file", "credentials_file"), (None, None, None, None))
NO_STORE = "what answers there is no S3 store"
_one_by_one = Lock()  # clients serve threads at once, and are not made so
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Place(NamedTuple):
    """Where an object is, or objects under a prefix: the client that speaks to its store, its bucket and its key."""

    client: "BaseClient"
    bucket: str
    key: str


def place_of(address: str, patience: timedelta = PATIENCE) -> Place:
    """Give the place that an address names; no answer takes longer than the patience. Errors: OSError, of no user."""
    from lakehouse.settings import object_store_access

    access = object_store_access()
    if not (access.user and access.secret):
        raise OSError(errno.EACCES, "no user is named: MINIO_ACCESS_KEY and MINIO_SECRET_KEY say who asks", address)
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    with _one_by_one:
        client = _client(access, min(ANSWER_SECONDS, patience.total_seconds()))
    return Place(client, bucket, key)


def ask(request: Callable[[], Answer], patience: timedelta = PATIENCE, *, is_harmless: bool = True) -> Answer:
    """Make a request of a client, and again while nothing answers for so long.

    A request that is not harmless when it comes twice is repeated only where it cannot have come, or was put off by the
    store. Errors: botocore's.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    until, pause = time.monotonic() + patience.total_seconds(), FIRST_PAUSE
    while True:
        try:
            return request()
        except (BotoCoreError, ClientError) as error:
            may_pass = _is_passing(error) if is_harmless else _is_unsent(error) or code_of(error) in PUT_OFF
            if not may_pass or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def do_at_once(do: Callable[[Asked], Answer], on: Iterable[Asked]) -> list[Answer]:
    """Do the same for many, some at once; give the answers in their order. What fails first ends it."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        begun = [threads.submit(do, one) for one in on]
        try:
            return [one.result() for one in begun]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def object_errors(address: str) -> Iterator[None]:
    """Turn what the client raises into an OSError that says it in a few words."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        if code_of(error) == "NoSuchKey":
            raise FileNotFoundError(errno.ENOENT, "there is no such object", address) from None
        raise OSError(errno.EIO, reason_of(error), address) from None


def code_of(error: Exception) -> str:
    """Give the code of a store's refusal; of what is none, and did not come from a store, nothing."""
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def status_of(error: Exception) -> int:
    """Give the HTTP status of a store's refusal; of what is none, 0."""
    return int((getattr(error, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def reason_of(error: Exception) -> str:
    """Say in a few words why a request failed."""
    from botocore import exceptions as of_boto
    from botocore import parsers

    match error:
        case of_boto.ClientError():
            return _refusal(error)
        case of_boto.SSLError():
            return f"no safe connection comes about: {' '.join(str(error).split())[:300]}"
        case of_boto.ReadTimeoutError():
            return "it does not answer in time"
        case of_boto.IncompleteReadError() | of_boto.ResponseStreamingError():
            return "it breaks off in the middle"
        case of_boto.HTTPClientError() if not _is_babble(error):
            return "nothing answers there"
        case of_boto.ConnectionError():
            return "nothing answers there"
        case of_boto.HTTPClientError() | parsers.ResponseParserError():
            return NO_STORE
        case _:
            return " ".join(str(error).split())[:300]


def _refusal(error: Exception) -> str:
    code = code_of(error)
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if code == "PreconditionFailed":
        return "another object was put there meanwhile"
    if code in REFUSALS:
        return f"it refuses the user or the secret ({code})"
    if code == "500":  # what the client makes of success with anything but XML
        return NO_STORE
    if code.isdigit() and status_of(error) < 500:  # not a word of the protocol, only of HTTP
        return f"{NO_STORE} (it answers {code})"
    return f"it answers {code}"


def _is_passing(error: Exception) -> bool:
    """Say whether the same request may be answered a moment later."""
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

    if isinstance(error, ClientError):
        status = status_of(error)
        return (status >= 500 and status != 501) or status == 429 or code_of(error) in PASSING
    broke_off = isinstance(error, HTTPClientError | IncompleteReadError) and not _is_babble(error)
    return broke_off or _is_unsent(error)


def _is_unsent(error: Exception) -> bool:
    """Say whether nobody can have got the request."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import SSLError

    return isinstance(error, NoConnection) and not isinstance(error, SSLError)


def _is_babble(error: Exception) -> bool:
    """Say whether somebody answered, and not in HTTP."""
    cause = getattr(error, "kwargs", {}).get("error")
    said = (cause, *getattr(cause, "args", ()))
    return any(isinstance(one, HTTPException) and not isinstance(one, ConnectionError) for one in said)


@cache
def _session(access: "ObjectStoreAccess") -> "Session":
    """Say who asks, and nothing but what is given says it: no file, no profile, no service of the machine."""
    from boto3.session import Session
    from botocore.session import Session as Core

    core = Core(UNREAD)
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)  # half of a list's time
    return Session(access.user, access.secret, access.session or None, access.region, core)


@cache
def _client(access: "ObjectStoreAccess", answer_seconds: float) -> "BaseClient":
    """Make a client; for each endpoint and user its own.

    A store that is named is asked without a proxy. What is put is held by the store to the SHA-256 that it is signed
    with, as every S3 store does; checksums that came later are left out, because not every store knows them.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=answer_seconds,
        max_pool_connections=32,
        retries={"mode": "standard", "total_max_attempts": 1},  # `ask` is patient
        proxies={} if access.endpoint else None,
        ignore_configured_endpoint_urls=True,
        signature_version="s3v4",
        s3={"addressing_style": "path" if access.endpoint else "auto", "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return _session(access).client("s3", endpoint_url=access.endpoint or None, verify=_authorities(), config=config)


def _authorities() -> str | None:
    """Give the file of the authorities that this machine trusts, as delta-rs does; None: those that boto3 brings."""
    paths = ssl.get_default_verify_paths()
    known = (paths.cafile, paths.capath and f"{paths.capath}/ca-certificates.crt")
    return next((path for path in known if path and os.path.isfile(path)), None)
