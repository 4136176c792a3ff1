"""The embedded PostgreSQL of a home: its data, its processes, and who may connect."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lakehouse.postgres.process_locks import is_taken, take
from lakehouse.postgres.programs import ENVIRONMENT, Failed, Owner, owner_of, programs_of, run_as

ROLE = "lakehouse"
START_SECONDS = 120.0
STOP_SECONDS = 60.0
_SOCKET = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "wal_level": "minimal",  # a table made and filled in one transaction is then not written twice
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "log_checkpoints": "off",
    "jit": "off",
}


def adopt_or_start(folder: Path) -> int:
    """Give the process id of a server that answers."""
    lock = _server_lock(folder)
    if lock is None:
        return server_process(folder)[0]
    try:
        owner = owner_of(folder / "data")
        programs = programs_of(folder, owner)
        if not (folder / "data").exists():
            _make_data(folder, programs, owner, lock)
        return _start(folder, programs, owner, lock)
    finally:
        os.close(lock)


def stop(folder: Path, process: int) -> None:
    """Stop the server: connections are cut, what was committed is kept. Returns when no process of it is left."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        until = time.monotonic() + STOP_SECONDS
        if _is_left(folder, process) and process:
            with suppress(ProcessLookupError):
                os.kill(process, how)
        while _is_left(folder, process) and time.monotonic() < until:
            time.sleep(0.01)


def server_process(folder: Path) -> tuple[int, str]:
    """Read the server's process id and state (`starting`, `ready`, `stopping`); 0 when none is written."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return 0, ""
    return (int(lines[0]), lines[7].strip()) if len(lines) > 7 else (0, "")


def _is_left(folder: Path, process: int) -> bool:
    """Say whether a process of the server is left; as a living child of this one even when the folder was removed."""
    try:
        is_child = process > 0 and os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        is_child = False
    return is_child or is_taken(folder / "server.lock")


def _server_lock(folder: Path) -> int | None:
    """Take the server's lock; None when a server that outlived its keeper is ready."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        lock = take(folder / "server.lock")
        if lock is not None:
            return lock
        if server_process(folder)[1] == "ready" and is_alive(server_process(folder)[0]):
            return None
        time.sleep(0.02)
    raise Failed("a server that neither starts nor stops holds the folder", "End the processes named postgres.")


def is_alive(process: int) -> bool:
    """Say whether a process of this user lives."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return process > 0


def _make_data(folder: Path, programs: Path, owner: Owner | None, lock: int) -> None:
    """Run initdb in a folder beside, then rename: the data is whole or not there."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if owner:
        os.chown(new, owner.uid, owner.gid)
    arguments = ["--username", ROLE, "--auth=peer", "--locale=C", "--encoding=UTF8"]
    with _reached(new, owner) as (path, kept):
        done = run_as(owner, [str(programs / "initdb"), "-D", path, *arguments], [lock, *kept])
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise Failed(f"initdb said: {said[0]}", "See server.log beside the data.")
    new.rename(folder / "data")


def _start(folder: Path, programs: Path, owner: Owner | None, lock: int) -> int:
    data = folder / "data"
    wanted, found = owner.uid if owner else os.geteuid(), data.stat().st_uid
    if found != wanted:
        raise Failed(f"its data is of user {found}, and the server's user is {wanted}", "Copy a home with its owners.")
    for leftover in ("postmaster.pid", _SOCKET, f"{_SOCKET}.lock"):
        (data / leftover).unlink(missing_ok=True)  # its process is gone: the lock is ours
    _admit(data, owner)
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    with _reached(data, owner) as (path, kept):
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", path, *settings],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=[lock, *kept],
            start_new_session=True,
            cwd="/",
            env=ENVIRONMENT,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        if server_process(folder) == (server.pid, "ready"):
            return server.pid
        time.sleep(0.01)
    raise Failed("the server did not start", "See server.log beside the data.")


def _admit(data: Path, owner: Owner | None) -> None:
    """Let in over the socket who started the server, who it runs as and root: the kernel knows them, no password."""
    users = {0, os.geteuid(), owner.uid if owner else os.geteuid()}
    names = sorted(pwd.getpwuid(uid).pw_name for uid in users)
    (data / "pg_hba.conf").write_text("local all all peer map=home\n")
    (data / "pg_ident.conf").write_text("".join(f'home "{name}" {ROLE}\n' for name in names))


@contextmanager
def _reached(folder: Path, owner: Owner | None) -> Iterator[tuple[str, list[int]]]:
    """Name a folder for a process of another user, who may not be allowed through the folders above it.

    The folder is opened here and inherited: `/proc/self/fd/N` leads into it from wherever it is.
    """
    if owner is None:
        yield str(folder.absolute()), []
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{number}", [number]
    finally:
        os.close(number)
