"""What tests share: engines that start once, homes of their own, an environment without the developer's settings."""

import os
import signal
from collections.abc import Generator, Iterator
from io import StringIO
from pathlib import Path
from typing import TypeVar

import pytest
from rich.console import Console
from xdist.scheduler import LoadFileScheduling

from flows.report.events import Events
from flows.report.recorded import plain_step, run_recorded
from flows.report.report import RunFacts
from flows.run.request import new_request
from flows.run.steps import run_medallion
from lakehouse.engine.session import Engine, start
from lakehouse.engine.spark_server import installed_java
from lakehouse.errors import ServiceDown
from lakehouse.parameters import new_parameters
from lakehouse.settings import Settings, load_settings
from quality.suites.worker import Worker
from tests.examples import register_profiles
from tests.file_systems import ONLY_ROOT_MOUNTS
from tests.histories.world import Kept
from tests.reference import MISSING
from tests.stack.reasons import NO_COMPOSE

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
ALLOWED_SKIPS = (  # what is not of this machine, and what only root can try or root cannot
    *(MISSING, NO_COMPOSE),
    *(ONLY_ROOT_MOUNTS, "only root runs the server as somebody else", "root may read everything"),
)
FOREIGN = ("LAKEHOUSE_", "POSTGRES_", "PREFECT_")
OURS = ("LAKEHOUSE_REFERENCE_DATA", "LAKEHOUSE_HISTORIES")
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # small tables: compiling well costs more than it saves

ONE_BY_ONE = ("tests/histories/test_histories.py", "tests/histories/test_storage_faults.py")
LONGEST = (
    *ONE_BY_ONE,
    "tests/flows/orchestration/test_prefect.py",
    "tests/flows/test_runs.py",
    "tests/lakehouse/engine/test_session.py",
)

for name in list(os.environ):  # before a test module is imported: some libraries read it then
    if name not in OURS and (name.startswith(FOREIGN) or name.lower() in Settings.model_fields):
        del os.environ[name]
os.environ["JDK_JAVA_OPTIONS"] = SMALL_JVM
os.environ["TOKIO_WORKER_THREADS"] = "1"  # engines here have little to do, and handing it around costs
register_profiles()
# Whoever began the tests may ignore interrupts (a script in the background, some CI), and what is begun would inherit
# that. With Python's own handler here, what is begun has the default one.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, in the environment as well."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from _started("sail", tmp_path_factory.mktemp("sail"))


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    try:
        installed_java()
    except ServiceDown as missing:
        pytest.skip(missing.reason)
    yield from _started("spark", tmp_path_factory.mktemp("spark"))


@pytest.fixture(scope="session", params=["sail", "spark"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn; both start once and stay."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def kept(sail: Engine) -> Iterator[Kept]:
    """An engine and a worker that stay from run to run."""
    with Worker() as worker:
        yield Kept(sail, worker)


class ByFile(LoadFileScheduling):
    """Give each process a file at a time, but the tests of some files one by one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return nodeid if file in ONE_BY_ONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: a process that came to it last would end long after the others."""
    rank = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _held_to_run((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _held_to_run((yield))


def _held_to_run(report: Report) -> Report:
    """In continuous integration make a skip a failure, unless its reason is an allowed one."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        reason = str(said).removeprefix("Skipped: ")
        if reason not in ALLOWED_SKIPS:
            report.outcome, report.longrepr = "failed", f"skipped, where nothing may be: {reason}"
    return report


def run_lakehouse(home: Path, source: Path | None, engine: str = "sail", **parameters: object) -> RunFacts:
    """Run the main job in this process, without Prefect; errors are the job's own."""
    settings = load_settings(lakehouse_home=home, engine=engine, settle_seconds=0)
    request = new_request("medallion-etl", settings, new_parameters(**parameters), source)
    events = Events(settings.logs, request.flow, request.run_id, Console(file=StringIO()))
    return run_recorded(request, events, plain_step(events), run_medallion, lambda _: None)


def _started(name: str, home: Path) -> Iterator[Engine]:
    engine = start(load_settings(lakehouse_home=home, engine=name))
    yield engine
    engine.stop()
