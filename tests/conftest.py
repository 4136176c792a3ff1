"""What tests share: engines that start once, homes of their own, an environment without the developer's settings."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.engine import Engine, start
from lakehouse.errors import ServiceDown
from lakehouse.settings import Settings, load_settings
from lakehouse.spark_server import installed_java
from tests.reference import MISSING

ALLOWED_SKIPS = (MISSING, "root may read everything")
FOREIGN = ("LAKEHOUSE_", "POSTGRES_", "PREFECT_")
OURS = ("LAKEHOUSE_NO_SKIPS", "LAKEHOUSE_REFERENCE_DATA")
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # small tables: compiling well costs more than it saves

for name in list(os.environ):  # before a test module is imported: some libraries read it then
    if name not in OURS and (name.startswith(FOREIGN) or name.lower() in Settings.model_fields):
        del os.environ[name]


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
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("JDK_JAVA_OPTIONS", SMALL_JVM)
        engines = _started("spark", tmp_path_factory.mktemp("spark"))
        engine = next(engines)
    yield engine
    yield from engines


@pytest.fixture(scope="session", params=["sail", "spark"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn; both start once and stay."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield
    return _held_to_run(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield
    return _held_to_run(report)


def _held_to_run(report):
    """Where nothing may be skipped, make a skip a failure, unless its reason is an allowed one."""
    if os.environ.get("LAKEHOUSE_NO_SKIPS") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason not in ALLOWED_SKIPS:
            report.outcome, report.longrepr = "failed", f"skipped, where nothing may be: {reason}"
    return report


def _started(name: str, home: Path) -> Iterator[Engine]:
    engine = start(load_settings(lakehouse_home=home, engine=name))
    yield engine
    engine.stop()
