"""Commands in processes that have their imports behind them: a fork of a warm process instead of a cold start.

A server process imports what a run needs and starts nothing: no engine, no thread, no commit. Each command is a fork of
it, the leader of a process group of its own, and is killed, stopped and continued like any other process.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lakehouse.postgres.connection import connection, stop_embedded
from lakehouse.postgres.server import ROLE
from lakehouse.settings import load_settings
from lakehouse.storage import durable
from tests.flows.kept import KEPT
from tests.waiting import HANG_SECONDS, wait_until

Prepare = Callable[[], None]
END = ExitStack()  # of the tests
SMALL = {"COLUMNS": "200", "NO_COLOR": "1", "ENGINE_PARTITIONS": "1", "SETTLE_SECONDS": "0"}
IMPORTS = "tests.flows.imports"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([IMPORTS])


def as_it_is() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Command:
    """A command under way, and the file it says things in."""

    process: ForkServerProcess
    out: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def said(self) -> str:
        return self.out.read_text()

    def ended(self) -> int:
        """Wait for its end; give its exit code, -9 for a killed one."""
        self.process.join(HANG_SECONDS)
        assert self.process.exitcode is not None, f"it did not end: {self.said[-500:]}"
        return self.process.exitcode

    def stops(self) -> None:
        """Wait until it is stopped."""
        wait_until(lambda: _state(self.pid) in "TXZ", 0.01)
        assert _state(self.pid) == "T", f"it was not stopped: {self.said[-500:]}"

    def goes_on(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)


@contextmanager
def begun(
    home: Path, *arguments: object, env: Mapping[str, str] | None = None, before: Prepare = as_it_is
) -> Iterator[Command]:
    """Begin `lakehouse ARGUMENTS`; `before` is called in its process first. It is killed when it is left behind."""
    home.mkdir(parents=True, exist_ok=True)
    said = home / f"said-{time.monotonic_ns()}"
    with _under_way(home, arguments, env, before, said, said) as command:
        yield command


@contextmanager
def _under_way(
    home: Path,
    arguments: tuple[object, ...],
    env: Mapping[str, str] | None,
    before: Prepare,
    out: Path,
    errors: Path,
) -> Iterator[Command]:
    given = {name: os.environ[name] for name in KEPT if name in os.environ} | SMALL | {"LAKEHOUSE_HOME": str(home)}
    asked = (tuple(map(str, arguments)), given | dict(env or {}), before, (str(out), str(errors)))
    process = _context.Process(target=_command, args=asked)
    process.start()
    command = Command(process, out)
    try:
        yield command
    finally:
        if process.exitcode is None:
            os.kill(command.pid, signal.SIGKILL)
        process.join()


def done(home: Path, *arguments: object, env: Mapping[str, str] | None = None, before: Prepare = as_it_is) -> str:
    """Run a command to its end, hold it to success, and give what it said."""
    with begun(home, *arguments, env=env, before=before) as command:
        code = command.ended()
        assert code == 0, f"`lakehouse {' '.join(map(str, arguments))}` ended with {code}: {command.said[-2000:]}"
        return command.said


def answer(home: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Any:
    """Run a command with --json, hold it to success, and read what it answers."""
    with TemporaryDirectory(prefix="answer-") as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        with _under_way(home, (*arguments, "--json"), env, as_it_is, out, errors) as command:
            assert command.ended() == 0, errors.read_text()
        return json.loads(out.read_text())


def run(home: Path, source: Path, *options: object) -> None:
    """Run the main job without Prefect and without suites, with a PostgreSQL that stays, and hold it to success."""
    asked = ("run", "--source", source, "--no-prefect", "--no-checks", *options)
    with TemporaryDirectory(prefix="run-") as folder:
        said = Path(folder) / "said"
        with _under_way(home, asked, lasting_postgres(), as_it_is, said, said) as command:
            assert command.ended() == 0, command.said


@cache
def lasting_postgres() -> Mapping[str, str]:
    """Begin a PostgreSQL that stays until `END` is closed; give what names it."""
    return END.enter_context(postgres())


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Keep an embedded PostgreSQL running for all commands; give what names it in their environment.

    Its home has a short path, because the name of a socket may have 107 bytes.
    """
    with TemporaryDirectory(prefix="services-") as home:
        settings = load_settings(lakehouse_home=Path(home))
        with connection(settings):
            pass
        try:
            yield {
                "POSTGRES_HOST": str(Path(home) / "postgres" / "data"),
                "POSTGRES_USER": ROLE,
                "POSTGRES_DB": settings.postgres_db,
            }
        finally:
            stop_embedded(settings)


def told_to(log: Path) -> Prepare:
    """Write each step of a command to a file."""
    return partial(durable.watch, partial(_tell, log))


def killed_at(step: str, moment: str) -> Prepare:
    """Kill a command, with its process group, at a step."""
    return partial(durable.watch, partial(_kill, (step, moment)))


def stopped_at(step: str, moment: str = "before") -> Prepare:
    """Stop a command at a step, once."""
    return partial(durable.watch, partial(_stop, (step, moment)))


def interrupted_at(step: str) -> Prepare:
    """Interrupt a command, with its process group, as it begins a step."""
    return partial(durable.watch, partial(_interrupt, step))


def _command(arguments: tuple[str, ...], env: dict[str, str], before: Prepare, said: tuple[str, str]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began it may ignore interrupts
    for standard, file in enumerate(said, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), standard)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["lakehouse", *arguments]
    before()
    from deployments.entry import main

    main()


def _tell(log: Path, step: str, moment: str) -> None:
    if moment == "before":
        with log.open("a") as told:
            told.write(f"{step}\n")


def _kill(wanted: tuple[str, str], step: str, moment: str) -> None:
    if (step, moment) == wanted:
        os.killpg(0, signal.SIGKILL)


def _interrupt(wanted: str, step: str, moment: str) -> None:
    if (step, moment) == (wanted, "before"):
        durable.watch(durable.nobody)
        os.killpg(0, signal.SIGINT)


def _stop(wanted: tuple[str, str], step: str, moment: str) -> None:
    if (step, moment) == wanted:
        durable.watch(durable.nobody)
        os.kill(os.getpid(), signal.SIGSTOP)


def _state(pid: int) -> str:
    """Give the state of a process as the system names it; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
