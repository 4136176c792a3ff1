"""The process that counts and checks: order, failures, and what is left when either side dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakehouse.engine.session import Engine, start
from lakehouse.errors import LakehouseError, ServiceDown
from lakehouse.settings import load_settings
from quality.suites.worker import Worker
from tests.waiting import HANG_SECONDS, wait_until

NAMES = pa.table({"category_id": pa.array([1, 2], pa.int32()), "category_name": ["Bread", "Milk"]})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = start(load_settings(engine="sail"))
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def attached(engine: Engine) -> Iterator[Worker]:
    with Worker() as worker:
        worker.attach(engine.address).result(HANG_SECONDS)
        yield worker


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "source.csv").write_bytes(b"2013-01-01|102|530|20 3 1\n")
    return str(tmp_path / "source.csv")


@pytest.fixture
def stuck(tmp_path: Path) -> str:
    """A file whose reader waits for ever."""
    os.mkfifo(tmp_path / "stuck")
    return str(tmp_path / "stuck")


def test_sources_are_counted_before_an_engine_is_attached(source: str) -> None:
    with Worker() as worker:
        assert worker.submit_recount(source).result(HANG_SECONDS)[:3] == (1, 3, 26)


def test_a_failed_request_fails_alone(source: str) -> None:
    with Worker() as worker:
        missing, unattached = worker.submit_recount("no/such/file"), worker.submit_check("silver.categories", "x", 0)
        found = worker.submit_recount(source)
        with pytest.raises(LakehouseError, match="recount of no/such/file: .*No such file"):
            missing.result(HANG_SECONDS)
        with pytest.raises(LakehouseError, match="suite of silver.categories: no engine is attached"):
            unattached.result(HANG_SECONDS)
        assert found.result(HANG_SECONDS).lines == 1


def test_a_version_of_a_table_is_checked(attached: Worker, tmp_path: Path) -> None:
    uri = str(tmp_path / "categories")
    write_deltalake(uri, NAMES)
    write_deltalake(uri, pa.concat_tables([NAMES, NAMES]), mode="overwrite")
    first, second = (attached.submit_check("silver.categories", uri, version) for version in (0, 1))
    assert all(v.passed and v.version == 0 for v in first.result(HANG_SECONDS))
    broken = [v for v in second.result(HANG_SECONDS) if not v.passed]
    assert [(v.check, v.severity, v.version) for v in broken] == [("(category_id) is unique", "critical", 1)]


def test_checks_work_whatever_python_was_asked_for(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    write_deltalake(tmp_path / "names", NAMES)
    with Worker() as worker:
        worker.attach(engine.address).result(HANG_SECONDS)
        assert worker.submit_check("silver.categories", str(tmp_path / "names"), 0).result(HANG_SECONDS)


def test_a_version_that_is_not_there_blocks(attached: Worker, tmp_path: Path) -> None:
    uri = str(tmp_path / "categories")
    write_deltalake(uri, NAMES)
    found = attached.submit_check("silver.categories", uri, 7).result(HANG_SECONDS)
    assert {(v.passed, v.severity) for v in found} == {(False, "critical")}


def test_an_unknown_table_fails_with_the_known_ones(attached: Worker) -> None:
    with pytest.raises(LakehouseError, match="There is no table 'silver.nothing'.*silver.categories"):
        attached.submit_check("silver.nothing", "x", 0).result(HANG_SECONDS)


def test_documents_show_the_checks_so_far(attached: Worker, tmp_path: Path) -> None:
    uri = str(tmp_path / "categories")
    write_deltalake(uri, NAMES)
    attached.submit_check("silver.categories", uri, 0)
    attached.submit_documents(tmp_path / "documents").result(HANG_SECONDS)
    assert "silver.categories" in (tmp_path / "documents" / "index.html").read_text()


def test_when_the_process_dies_what_is_pending_fails_and_says_so(stuck: str, source: str) -> None:
    with Worker() as worker:
        pending = [worker.submit_recount(stuck), worker.submit_recount(source)]
        os.kill(worker.pid, signal.SIGKILL)
        for future in pending:
            with pytest.raises(ServiceDown, match="recount of .*: it ended with exit code -9"):
                future.result(HANG_SECONDS)
        with pytest.raises(ServiceDown, match="exit code -9"):
            worker.submit_recount(source).result(HANG_SECONDS)


def test_half_an_answer_of_a_process_that_died_is_none(stuck: str) -> None:
    with Worker() as worker:
        pending = worker.submit_recount(stuck)
        pipe = f"pipe:[{os.fstat(worker._answers.fileno()).st_ino}]"
        ends = (end for end in Path(f"/proc/{worker.pid}/fd").iterdir() if os.readlink(end) == pipe)
        with open(next(ends), "wb") as answers:
            answers.write(b'{"id": 1, "value": [1, ')
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(ServiceDown, match="recount of .*: it ended with exit code -9"):
            pending.result(HANG_SECONDS)


def test_closing_ends_the_process_at_once_and_fails_what_is_pending(stuck: str) -> None:
    with Worker() as worker:
        pending = worker.submit_recount(stuck)
    with pytest.raises(ServiceDown, match="it was closed"):
        pending.result(HANG_SECONDS)
    assert not is_running(worker.pid)
    with pytest.raises(ServiceDown, match="it was closed"):
        worker.submit_recount(stuck).result(HANG_SECONDS)


def test_a_killed_parent_leaves_no_orphan(stuck: str) -> None:
    script = (
        "import sys, time; from quality.suites.worker import Worker; worker = Worker();"
        "worker.submit_recount(sys.argv[1]); print(worker.pid, flush=True); time.sleep(10**6)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, stuck], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_running(child))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # one that has ended and was not yet asked how is no longer running
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_an_address_is_told_without_its_token() -> None:
    with Worker() as worker:
        attached = worker.attach("sc://127.0.0.1:9/;authorization=Bearer%20the-token")
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(ServiceDown, match=r"attach to sc://127\.0\.0\.1:9/:") as told:
            attached.result()
    assert "the-token" not in str(told.value)
