"""Connections to PostgreSQL: the server of the settings, or one embedded in the home that starts by itself.

The embedded server listens on a Unix socket in its own data folder and on no port, lets in the user who started it,
and stops about two seconds after the last process that used it has ended. `postgres_keeper` holds it.
"""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lakehouse.errors import ServiceDown
from lakehouse.postgres import keeper, server
from lakehouse.postgres.process_locks import hold_lock, is_taken, take
from lakehouse.postgres.programs import installations
from lakehouse.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

_LONGEST_SOCKET = 100  # bytes; 104 on macOS, 108 on Linux
_START_SECONDS = 150
_CONNECT_SECONDS = 10
_used: dict[Path, int] = {}
_using = threading.Lock()


@contextmanager
def connection(settings: Settings) -> Iterator[Connection]:
    """Open a connection; its transaction commits when the block ends and rolls back when it raises.

    Errors: ServiceDown when no server answers, or when it refuses or goes away inside the block or at its end.
    """
    with _server(settings) if settings.postgres_host else _embedded(settings) as opened:
        is_done = False
        try:
            with opened:
                yield opened
                is_done = True
        except psycopg.Error as error:
            undone = "What was under way was rolled back: remove the cause, then do it again."
            remedy = "It may have been kept or not: look before you do it again." if is_done else undone
            raise ServiceDown("PostgreSQL", address(settings), _reason(error), remedy) from None
        finally:
            opened.close()  # psycopg leaves one open that could not commit


def address(settings: Settings) -> str:
    """Name the server in a message."""
    if settings.postgres_host:
        return f"{settings.postgres_host}:{settings.postgres_port}/{settings.postgres_db}"
    return str(_folder(settings))


def status(settings: Settings) -> str:
    """Say in one sentence where PostgreSQL is and whether it runs, without starting it. Errors: ServiceDown."""
    folder = _folder(settings)
    if not settings.postgres_host and not is_taken(folder / "server.lock"):
        found = next(installations(), None)
        if found is None:
            reason = "no PostgreSQL runs on this machine"
            raise ServiceDown("PostgreSQL", str(folder), reason, "Install PostgreSQL, or set POSTGRES_HOST.")
        return f"PostgreSQL is embedded in {folder} and not running; it starts at first use with {found}."
    with connection(settings) as opened:
        version = opened.info.server_version
    where = f"at {address(settings)}" if settings.postgres_host else f"embedded in {folder}"
    return f"PostgreSQL {version // 10000}.{version % 10000} answers {where}."


def stop_embedded(settings: Settings) -> bool:
    """Stop the embedded server even while it is used; False when none was running."""
    folder = _folder(settings)
    try:
        return (folder / "server.lock").exists() and _stop(folder)
    except PermissionError:
        raise ServiceDown(
            "The embedded PostgreSQL", str(folder), "it belongs to another user", "Stop it as that user."
        ) from None
    except OSError as error:
        remedy = "Stop it where its folder can be written."
        raise ServiceDown("The embedded PostgreSQL", str(folder), str(error.strerror), remedy) from None


def _stop(folder: Path) -> bool:
    with hold_lock(folder / "start.lock"):
        running = is_taken(folder / "server.lock")
        if is_taken(folder / "keeper.lock"):
            with suppress(ProcessLookupError):
                os.kill(int((folder / "keeper.lock").read_text()), signal.SIGTERM)
            if (ended := take(folder / "keeper.lock", seconds=2 * server.STOP_SECONDS)) is not None:
                os.close(ended)
        server.stop(folder, server.server_process(folder)[0])  # when its keeper was killed
    if is_taken(folder / "server.lock"):
        raise ServiceDown("The embedded PostgreSQL", str(folder), "it does not stop", "End its processes.")
    return running


def _folder(settings: Settings) -> Path:
    return settings.lakehouse_home.absolute() / "postgres"


def _no_answer(settings: Settings, error: psycopg.Error) -> ServiceDown:
    remedy = "Start it, or correct POSTGRES_*." if settings.postgres_host else "See server.log there."
    return ServiceDown("PostgreSQL", address(settings), _reason(error), remedy)


def _reason(error: psycopg.Error) -> str:
    """Shorten libpq's message, which names hosts and users but never a password, to its last cause."""
    if error.diag.message_primary:
        return error.diag.message_primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line.rpartition("failed: ")[2] for line in lines if "failed: " in line]
    return (causes or lines or [type(error).__name__])[-1].removeprefix("FATAL:").strip(" .")


@contextmanager
def _server(settings: Settings) -> Iterator[Connection]:
    try:
        opened = psycopg.connect(
            host=settings.postgres_host,
            port=settings.postgres_port,
            dbname=settings.postgres_db,
            user=settings.postgres_user or None,
            password=settings.postgres_password.get_secret_value() or None,
            connect_timeout=5,
            application_name="lakehouse",
            client_encoding="utf8",
        )
    except psycopg.OperationalError as error:
        raise _no_answer(settings, error) from None
    yield opened


@contextmanager
def _embedded(settings: Settings) -> Iterator[Connection]:
    folder = _folder(settings)
    try:
        _use(folder)
    except OSError as error:
        remedy = "Set LAKEHOUSE_HOME to a folder of your own."
        raise ServiceDown("PostgreSQL", str(folder), str(error.strerror), remedy) from None
    with _short(folder / "data") as host:
        try:
            opened = _connect(folder, host, settings.postgres_db)
        except psycopg.OperationalError as error:
            raise _no_answer(settings, error) from None
        yield opened


def _use(folder: Path) -> None:
    """Hold the users' lock until this process ends; wait while a keeper that saw nobody stops the server."""
    lock = folder / "users.lock"
    with _using:
        mine = _used.get(folder)
        if mine is not None and lock.exists() and os.path.samestat(os.fstat(mine), lock.stat()):
            os.utime(mine)
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(number, fcntl.LOCK_SH)
        os.utime(number)
        if mine is not None:
            os.close(mine)
        _used[folder] = number


@contextmanager
def _short(data: Path) -> Iterator[str]:
    """Name the socket's folder in a way libpq takes: a path that is not too long and has no comma."""
    path = str(data)
    if len(os.fsencode(path)) + len("/.s.PGSQL.5432") < _LONGEST_SOCKET and "," not in path:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lakehouse-", dir="/tmp") as place:
        (Path(place) / "data").symlink_to(data)
        yield f"{place}/data"


def _connect(folder: Path, host: str, database: str) -> Connection:
    """Connect; start the server when nobody keeps it; wait while it starts or stops."""
    until = time.monotonic() + _CONNECT_SECONDS
    while True:
        if not is_taken(folder / "keeper.lock"):
            _start(folder)
        try:
            return _open(host, database)
        except psycopg.OperationalError as error:
            if f'database "{database}" does not exist' in str(error):
                _create_database(host, database)
            elif time.monotonic() > until:
                raise
            else:
                time.sleep(0.02)


def _open(host: str, database: str) -> Connection:
    return psycopg.connect(
        host=host,
        port=5432,
        user=server.ROLE,
        dbname=database,
        connect_timeout=5,
        application_name="lakehouse",
        client_encoding="utf8",
    )


def _create_database(host: str, database: str) -> None:
    with _open(host, "postgres") as opened:
        opened.autocommit = True
        opened.execute("SELECT pg_advisory_lock(1)")
        known = opened.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if known is None:
            opened.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))


def _start(folder: Path) -> None:
    """Start a keeper, unless another process just did, and wait until its server is ready."""
    with hold_lock(folder / "start.lock"):
        if is_taken(folder / "keeper.lock"):
            return
        log = folder / "server.log"
        with log.open("ab") as out:
            if out.tell() > 1 << 20:
                out.truncate(0)
            said = _said_by_keeper(folder, out.fileno())
    if said != "ready":
        reason, _, remedy = said.partition("\n")
        raise ServiceDown("The embedded PostgreSQL", str(folder), reason or "its keeper died", remedy or f"See {log}.")


def _said_by_keeper(folder: Path, log: int) -> str:
    """Run the keeper's file; it forks, so the process started here ends at once and leaves no zombie."""
    command = [sys.executable, "-I", str(Path(keeper.__file__)), str(folder)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=_START_SECONDS,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return "it did not start in time"
    return done.stdout
