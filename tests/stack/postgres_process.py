"""A PostgreSQL of a test's own: a process on a port of the loopback, that wants a password of everybody."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from lakehouse.postgres.programs import installations
from tests.waiting import HANG_SECONDS

NO_CONTRIB = "no PostgreSQL with pg_trgm runs on this machine"


@contextmanager
def postgres(password: str) -> Iterator[int]:
    """Give the port of a new server, whose superuser is `postgres` with that password."""
    programs, owner = _programs(), _owner()
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-roles-", dir="/tmp"))
    secret, data, log = folder / "password", folder / "data", folder / "log"
    secret.write_text(password)
    for path in (folder, secret):
        shutil.chown(path, owner)
    port = _free_port()
    try:
        how = ["-U", "postgres", "--pwfile", str(secret), "--auth=scram-sha-256", "--locale=C", "--encoding=UTF8"]
        _run([programs / "initdb", "-D", data, *how], owner)
        settings = f"-h 127.0.0.1 -p {port} -k {folder} -c log_statement=all -c fsync=off"
        _run([programs / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "120", "-o", settings, "start"], owner)
        _wait(port, password)
        yield port
    finally:
        if (data / "postmaster.pid").exists():
            _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], owner)
        shutil.rmtree(folder)


def server_log(port: int) -> str:
    """Read all that the server on a port wrote."""
    return next(
        path for path in Path("/tmp").glob("lakehouse-roles-*/log") if f"port {port}" in path.read_text()
    ).read_text()


def _programs() -> Path:
    for programs in installations():
        share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
        if share.returncode == 0 and (Path(share.stdout.strip()) / "extension" / "pg_trgm.control").exists():
            return programs
    pytest.skip(NO_CONTRIB)


def _owner() -> str:
    """Name who the server runs as; PostgreSQL refuses root."""
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _run(command: list[object], owner: str) -> None:
    subprocess.run(
        [str(word) for word in command],
        check=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"},
        user=owner if os.geteuid() == 0 else None,
        timeout=HANG_SECONDS,
    )


def _wait(port: int, password: str) -> None:
    until = time.monotonic() + HANG_SECONDS
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
