"""Processes that outlive who started them: begun, waited for, found again, ended. Each leads a group of its own.

What runs is written down as a process id with the time it began, because an id alone may since mean another process.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lakehouse.errors import ServiceDown
from lakehouse.postgres.programs import Owner

POLL_SECONDS = 0.1
TERM_SECONDS = 2.0  # between two signals to end: Prefect's worker ignores the first
END_SECONDS = 30.0


@dataclass(frozen=True)
class Service:
    """A process to be: its command and environment, and how to tell that it answers.

    `handed` is a folder that it gets opened, its path being the word `{handed}` of the command: `owner` may not be
    allowed through the folders above it.
    """

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path = Path("/")
    owner: Owner | None = None
    handed: Path | None = None
    patience_seconds: float = 180


@dataclass(frozen=True)
class Running:
    """The process that leads a service's group."""

    pid: int
    began: str


def begin(service: Service, folder: Path) -> None:
    """Start a service unless it runs; its log goes to `logs/` in the folder."""
    if running(service.name, folder):
        return
    for made in ("logs", "run"):
        (folder / made).mkdir(parents=True, exist_ok=True)
    handed = os.open(service.handed, os.O_RDONLY) if service.handed else None
    command = [word.replace("{handed}", f"/proc/self/fd/{handed}") for word in service.command]
    try:
        with log_of(service.name, folder).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=service.cwd,
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[handed] if handed is not None else [],
                user=service.owner.uid if service.owner else None,
                group=service.owner.gid if service.owner else None,
                extra_groups=[] if service.owner else None,
            )
    finally:
        if handed is not None:
            os.close(handed)
    process.returncode = 0  # it is meant to outlive us: without a word from subprocess
    record = Running(process.pid, _began(process.pid) or "")
    _record(service.name, folder).write_text(json.dumps(asdict(record)))


def await_ready(service: Service, folder: Path) -> None:
    """Wait until a service answers; errors: ServiceDown with its last words when it ended or takes too long."""
    until = time.monotonic() + service.patience_seconds
    while not service.is_ready():
        is_there = running(service.name, folder) is not None
        if not is_there or time.monotonic() > until:
            reason = "it does not answer" if is_there else "it ended"
            said = log_of(service.name, folder).read_text(errors="replace").strip().splitlines()[-3:]
            raise ServiceDown(service.name, "this machine", f"{reason}: {' '.join(said)[-500:]}", "See its log.")
        time.sleep(POLL_SECONDS)


def running(name: str, folder: Path) -> Running | None:
    """Find the process of a service, if it lives."""
    record = _read(name, folder)
    return record if record and _began(record.pid) == record.began else None


def kill(name: str, folder: Path) -> None:
    """End a service's own process at once, and nothing it started."""
    if found := running(name, folder):
        os.kill(found.pid, signal.SIGKILL)
        _await_end(lambda: _began(found.pid) == found.began)


def end(name: str, folder: Path) -> None:
    """End a service and what it started: asked first, then at once."""
    record = _read(name, folder)
    if record is None or not _is_ours(record):
        return
    until, asked = time.monotonic() + END_SECONDS, 0.0
    while _is_ours(record) and time.monotonic() < until:
        if time.monotonic() - asked > TERM_SECONDS:
            asked = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM) if running(name, folder) else os.killpg(record.pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(record.pid, signal.SIGKILL)
    _await_end(lambda: _is_ours(record))
    _record(name, folder).unlink(missing_ok=True)


def members(group: int) -> dict[int, str]:
    """Give the processes of a group that are more than a name, with their commands."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, pgid = _stat(int(entry.name))[:3]
            if int(pgid) == group and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def log_of(name: str, folder: Path) -> Path:
    """Name the log of a service."""
    return folder / "logs" / f"{name}.log"


def will_say(words: str, log: Path) -> Callable[[], bool]:
    """Make a look for words in what is added to a log from now on."""
    before = log.stat().st_size if log.exists() else 0
    return lambda: words.encode() in log.read_bytes()[before:]


def _is_ours(record: Running) -> bool:
    """Say whether something of a service's group is left; a number that leads another group by now is not ours."""
    began = _began(record.pid)
    return bool(members(record.pid)) if began in (None, record.began) else False


def _await_end(is_there: Callable[[], bool]) -> None:
    while is_there():
        time.sleep(POLL_SECONDS / 10)


def _began(pid: int) -> str | None:
    """Tell when a process began, in ticks since the machine did; None when it is gone."""
    with suppress(OSError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that ended leaves its name until somebody asks
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _stat(pid: int) -> list[str]:
    """Read the state, parent, group … of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _record(name: str, folder: Path) -> Path:
    return folder / "run" / f"{name}.json"


def _read(name: str, folder: Path) -> Running | None:
    try:
        return Running(**json.loads(_record(name, folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
