"""The local Prefect server: started when needed, left running, found again by later processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from flows.run.console import error_console
from lakehouse.errors import ServiceDown, StorageFailed, WrongUse
from lakehouse.postgres.process_locks import take
from lakehouse.settings import Settings

SERVICE = "The Prefect server"
HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Record:
    """Where a home's server listens, and the process it is: an id alone may since mean another one."""

    port: int
    pid: int
    started: str


def local_server(settings: Settings) -> str:
    """Give the address of Prefect's API, after starting this home's server if none was named and none runs.

    Errors: ServiceDown, WrongUse for an address that is none, StorageFailed for a home that cannot be written.
    """
    if settings.prefect_api_url:
        return _server_at(settings.prefect_api_url)
    found = find_server(settings)
    return found or _start_server(_folder(settings))


def find_server(settings: Settings) -> str | None:
    """Give the address of the API that answers now; start nothing, wait for nothing. Errors: WrongUse."""
    if settings.prefect_api_url:
        require_address(settings.prefect_api_url)
        return None if _silence(settings.prefect_api_url) else settings.prefect_api_url.rstrip("/")
    record = _record(_folder(settings))
    if record is None or not _is_running(record) or _silence(_api_url(record)):
        return None
    return _api_url(record)


def stop_server(settings: Settings) -> bool:
    """Stop this home's server, never a named one; say whether there was one."""
    folder = _folder(settings)
    if _record(folder) is None:
        return False
    with _alone(folder):
        record = _record(folder)
        if record is None or not _is_running(record):
            return False
        _end(record)
        return True


def run_page(api_url: str, flow_run_id: str) -> str:
    """Give the address of a run's page; only version 2 of the pages draws the lineage of a report."""
    return f"{without_credentials(api_url).rstrip('/').removesuffix('/api')}/v2/runs/flow-run/{flow_run_id}"


def _server_at(api_url: str) -> str:
    require_address(api_url)
    if reason := _silence(api_url):
        remedy = "Start it, correct PREFECT_API_URL, or unset it for a local server."
        raise ServiceDown(SERVICE, without_credentials(api_url), reason, remedy)
    return api_url.rstrip("/")


def _start_server(folder: Path) -> str:
    with _alone(folder):
        record = _record(folder)
        if record is None or not _is_running(record):
            error_console().print("Starting the local Prefect server: some seconds.")
            record = _start(folder, _free_port(record))
        _wait(record, folder)
        return _api_url(record)


def _start(folder: Path, port: int) -> Record:
    # Prefect's own --background says it started even when the server then dies, and keeps no log.
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefect", "server", "start"],
            cwd=folder,
            env=_environment(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process.returncode = 0  # it is meant to outlive us: without a word from subprocess
    record = Record(port, process.pid, _start_of(process.pid) or "")
    _write(folder, record)
    return record


def _environment(folder: Path, port: int) -> dict[str, str]:
    # A PREFECT_ variable of the caller could give it another home's database, or a password.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_URL": f"http://{HOST}:{port}",  # in what it sends about runs
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
    }


def _wait(record: Record, folder: Path) -> None:
    api_url, log = _api_url(record), folder / "server.log"
    end = time.monotonic() + START_SECONDS
    while _is_running(record):
        if not _silence(api_url):
            return
        if time.monotonic() > end:
            _end(record)
            raise ServiceDown(SERVICE, api_url, f"no answer in {START_SECONDS:.0f} s", f"Its log is {log}.")
        time.sleep(POLL_SECONDS)
    raise ServiceDown(SERVICE, api_url, "it ended before it answered", f"Its log is {log}.")


def _end(record: Record) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)
        end = time.monotonic() + STOP_SECONDS
        while _is_running(record) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        if not _is_running(record):
            break
    with suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)


def _silence(api_url: str) -> str:
    """Say why the API does not answer; empty when it does."""
    parts = urlsplit(api_url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health")
        answer = connection.getresponse()
        is_prefect = answer.status == http.HTTPStatus.OK and answer.read(16).strip() == b"true"
        return "" if is_prefect else f"HTTP {answer.status} at /health, and not Prefect's answer"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def require_address(api_url: str) -> None:
    """See that an address is one of a server; errors: WrongUse."""
    if not _is_address(api_url):
        raise WrongUse("PREFECT_API_URL", without_credentials(api_url), "an address like http://127.0.0.1:4200/api")


def _is_address(api_url: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(api_url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    return False


def without_credentials(api_url: str) -> str:
    """Give an address as it may be shown: without the user and the password in it."""
    scheme, mark, rest = api_url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _folder(settings: Settings) -> Path:
    return settings.lakehouse_home.absolute() / "prefect"


def _api_url(record: Record) -> str:
    return f"http://{HOST}:{record.port}/api"


def _record(folder: Path) -> Record | None:
    try:
        return Record(**json.loads((folder / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(folder: Path, record: Record) -> None:
    draft = folder / "server.json.draft"
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(folder / "server.json")


def _free_port(before: Record | None) -> int:
    """Choose the port of the last time, so that a page kept open finds its server again, or else a free one."""
    for port in (before.port, 0) if before else (0,):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServiceDown(SERVICE, HOST, "no port is free", "End processes that listen on many ports.")


def _is_running(record: Record) -> bool:
    return bool(record.started) and _start_of(record.pid) == record.started


def _start_of(pid: int) -> str | None:
    """Give when a process started, in its system's words; None when it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: of processes that start together one starts the server, the others find it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(folder / "server.lock", inf)
    except OSError as error:
        remedy = "Set LAKEHOUSE_HOME to a folder that can be written."
        raise StorageFailed("write to", str(folder), error.strerror or str(error), remedy) from None
    assert lock is not None, "it is waited for"
    try:
        yield
    finally:
        os.close(lock)
