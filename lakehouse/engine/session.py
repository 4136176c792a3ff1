"""The one place where an engine is started and a session is made."""

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from warnings import catch_warnings

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from lakehouse.engine.sink import rows_in_memory
from lakehouse.engine.spark_server import start_server
from lakehouse.errors import ServiceDown, WrongUse
from lakehouse.settings import Settings
from lakehouse.storage.places import require_nameable

PLAIN_PATH = re.compile(r"[A-Za-z0-9/\-._+&=@:;,!$'()]+")  # Sail looks for others under their escaped names
AUTHORIZATION = re.compile(r"(authorization=)[^\s;'\"]+")  # in an address of Spark Connect
IDLE_SECONDS = 7 * 86_400  # Sail ends a session that was asked nothing for so long; by itself after 15 minutes
HANDLER_SECONDS, UNTOLD_SECONDS = 2.0, 0.25
RETRIES = 4  # within five seconds; the default goes on for ten minutes


def require_readable(settings: Settings) -> None:
    """See that tables can be under the root of the settings, and that their engine finds them; errors: WrongUse."""
    require_nameable(settings.root)
    if settings.engine == "sail" and not settings.spark_remote:
        folders = settings.root, tempfile.gettempdir()
        if not any(map(PLAIN_PATH.fullmatch, folders)):
            expected = "a path of letters a to z, digits and -._+&=@:;,!$'() alone, or LAKEHOUSE_HOME must be one"
            raise WrongUse("TMPDIR", folders[1], expected)


def streamed_rows(frame: DataFrame, _schema: pa.Schema) -> pa.RecordBatchReader:
    """Run a frame and read its rows through the engine's protocol."""
    return pa.RecordBatchReader.from_stream(frame)


@dataclass(frozen=True)
class Engine:
    """A started engine: its name, its session, where another process reaches it, and how rows come out of it.

    `commits` says that it commits the frames of growing tables itself, instead of handing their rows over. `door` is a
    link to the folder `root`, for an engine that does not find tables by the name that folder has.
    """

    name: str
    session: SparkSession
    address: str
    server: Any = None
    rows: Callable[[DataFrame, pa.Schema], pa.RecordBatchReader] = streamed_rows
    commits: bool = False
    root: str = ""
    door: str = ""

    def way_to(self, uri: str) -> str:
        """Give the name by which the engine finds a table under its root."""
        return self.door + uri.removeprefix(self.root) if self.door else uri

    def interrupt(self) -> None:
        """End what the session has under way: who waits for it gets an error."""
        with suppress(Exception), catch_warnings(action="ignore"):  # of a server that is gone nothing is under way
            self.session.interruptAll()

    def stop(self) -> None:
        """Close the session, and what was started for it."""
        with suppress(Exception), catch_warnings(action="ignore"):  # of a server that is gone nothing is left to close
            self.session.interruptAll()
            self.session.stop()
        if self.server is not None:
            self.server.stop()
        if self.door:
            shutil.rmtree(Path(self.door).parent, ignore_errors=True)


def start(settings: Settings) -> Engine:
    """Start the engine the settings name, or connect to the server they name; errors: ServiceDown, WrongUse.

    From here on Arrow takes memory where numpy does: of what it would keep in pools of its own, numpy gets nothing.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    if settings.spark_remote:
        return _remote(settings)
    return _spark(settings) if settings.engine == "spark" else _sail(settings)


@contextmanager
def running_engine(settings: Settings) -> Iterator[Engine]:
    """Start the engine the settings name, and end it; errors: ServiceDown."""
    engine = start(settings)
    try:
        yield engine
    finally:
        engine.stop()


def _sail(settings: Settings) -> Engine:
    os.environ.setdefault("RUST_LOG", "off")
    os.environ["SAIL_EXECUTION__BATCH_SIZE"] = "32768"
    os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(settings.engine_partitions)
    os.environ["SAIL_SPARK__SESSION_TIMEOUT_SECS"] = str(IDLE_SECONDS)
    os.environ["SAIL_PARQUET__PUSHDOWN_FILTERS"] = "true"  # decode first what decides whether a row is wanted
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")  # no pages of 2 MiB, here and in what is started from here
    from pysail.spark import SparkConnectServer  # reads these variables when it is imported

    server = SparkConnectServer(ip="127.0.0.1", port=0)
    with _interrupts_kept():
        server.start(background=True)
    address = f"sc://127.0.0.1:{server.listening_address[1]}"
    with _first_contact("Sail", address, "Run again. A Ctrl-C just as it begins ends it."):
        session = _set_up(_session(address), settings)
    return Engine("sail", session, address, server, rows_in_memory, root=settings.root, door=_door(settings.root))


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Let Sail have SIGINT, and take it back: it ends its server at it, and whoever waits for an answer would wait on.

    Until Sail has it, which takes milliseconds, an interrupt ends the process as a kill does: none is lost.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread may say who gets signals
        yield
        return
    own = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN if own is signal.SIG_IGN else signal.SIG_DFL)
    try:
        yield
        _wait_for_handler()
    finally:
        signal.signal(signal.SIGINT, own)


@cache  # Sail asks for signals once in a process
def _wait_for_handler() -> None:
    """Wait until something other than Python handles SIGINT; where the system does not tell, as long as it may take."""
    if _handled() is None:
        return time.sleep(UNTOLD_SECONDS)
    end = time.monotonic() + HANDLER_SECONDS
    while time.monotonic() < end and not (_handled() or 0) >> (signal.SIGINT - 1) & 1:
        time.sleep(0.001)
    return None


def _handled() -> int | None:
    """Give the signals that something handles, a bit each; None where the system does not tell."""
    try:
        told = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(told[1], 16) if told else None


def _door(root: str) -> str:
    """Make a link of a plain name to a folder that has none; of a process that is killed it stays."""
    if PLAIN_PATH.fullmatch(root):
        return ""
    link = Path(tempfile.mkdtemp(prefix="lakehouse-"), "tables")
    link.symlink_to(Path(root).absolute(), target_is_directory=True)
    return str(link)


def _spark(settings: Settings) -> Engine:
    server = start_server(settings.engine_partitions, settings.logs.absolute() / "spark.log")
    return Engine("spark", _session(server.address), server.address, server, commits=True)


def _remote(settings: Settings) -> Engine:
    place = urlsplit(settings.spark_remote.partition(";")[0])
    if place.scheme != "sc" or not place.hostname or place.path not in ("", "/"):
        raise WrongUse("SPARK_REMOTE", settings.spark_remote.partition(";")[0], "an address like sc://host:15002")
    # As a token of its own the client would send it over TLS alone, which a server in the same network may not have.
    token = settings.spark_remote_token.get_secret_value()
    asked = f"authorization={quote(f'Bearer {token}')}" if token else ""
    address = settings.spark_remote + ("" if ";" in settings.spark_remote else "/;") + asked
    remedy = "Start it, or correct SPARK_REMOTE and SPARK_REMOTE_TOKEN."
    with _first_contact("The Spark Connect server", f"{place.hostname}:{place.port or 15002}", remedy):
        session = _set_up(_session(address), settings)
    return Engine("spark", session, address, commits=True)


@contextmanager
def _first_contact(service: str, where: str, remedy: str) -> Iterator[None]:
    """Turn what a server, or the network, says at first contact into one sentence."""
    try:
        with catch_warnings(action="ignore"):
            yield
    except PySparkException as error:
        said = AUTHORIZATION.sub(r"\1(hidden)", " ".join(str(error).split()))
        found = re.search(r'details = "(.*?)"', said)
        reason = (found[1] if found else said)[:300]
        raise ServiceDown(service, where, reason, remedy) from None


def _session(address: str) -> SparkSession:
    """Connect to a server: when it does not answer it is gone, and waiting brings nothing."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    session = SparkSession.builder.remote(address).create()
    session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES)])
    return session


def _set_up(session: SparkSession, settings: Settings) -> SparkSession:
    try:
        session.conf.set("spark.sql.session.timeZone", "UTC")
        session.conf.set("spark.sql.shuffle.partitions", str(settings.engine_partitions))
    except BaseException:
        session.client.close()  # or it would ask the server again when the interpreter ends
        raise
    return session
