"""The main job in service: a local Prefect server, a process worker, the deployments of prefect.yaml."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from deployments.prefect_file import FILE
from flows.orchestration import server
from lakehouse.ops import releases, runs
from lakehouse.releases import lease
from lakehouse.settings import load_settings
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.flows.command import answer, begun, digests, lakehouse, newest, run
from tests.flows.prefect_service import PROJECT, Service, service_of
from tests.waiting import HANG_SECONDS, wait_until

SILENT_SECONDS = 90  # heartbeats are 30 s apart, and later where much else is at work


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, receipts=2_000, days=40)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    settings = load_settings(lakehouse_home=home, prefect_api_url="")
    started = service_of(home, server.local_server(settings), DATA_PATH=str(source))
    content = yaml.safe_load(FILE.read_text())
    content["automations"][0]["trigger"]["within"] = SILENT_SECONDS
    file = home / "prefect.yaml"
    file.write_text(yaml.safe_dump(content))
    started.deploy(file)
    assert started.lakehouse("load", "--source", source).returncode == 0
    yield started
    server.stop_server(settings)


@pytest.fixture(scope="module")
def workers(service: Service) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The process workers that were begun; the last one is there."""
    begun = [begun_worker(service)]
    yield begun
    for worker in begun:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.fixture
def endless(service: Service) -> str:
    """Deploy the main job that never ends; give the deployment's id."""
    daily = service.named("/deployments")["daily"]
    flow_id = service.ask("POST", "/flows/", {"name": "endless-etl"})["id"]
    same = ("work_pool_name", "work_queue_name", "job_variables", "pull_steps", "tags")
    entrypoint = "tests/flows/endless.py:endless_etl"
    body = {name: daily[name] for name in same} | {"name": "test", "flow_id": flow_id, "entrypoint": entrypoint}
    deployment: str = service.ask("POST", "/deployments/", body)["id"]
    return deployment


def begun_worker(service: Service) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "etl-pool", "--type", "process"]
    with (service.home / "worker.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=PROJECT, env=service.environment, stdout=log, stderr=log, start_new_session=True
        )


def at_work(service: Service, deployment: str, mark: Path) -> tuple[str, list[int]]:
    """Begin a run that never ends; give its id and its processes once the engine is at work."""
    run = service.ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": {"mark": str(mark)}})
    wait_until(lambda: mark.exists() and bool(mark.read_text()))
    pid = int(mark.read_text())
    return run["id"], [pid, *children(pid)]


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] not in "ZX":
            found.append(int(entry.parent.name))
    return found


def is_running(pid: int) -> bool:
    return bool(lease._process(pid))


def is_held(service: Service) -> bool:
    storage = Storage(str(service.home / "tables"))
    holder = lease._holder(storage, storage.version(releases.TABLE))
    return holder is not None and holder.is_held


def last_message(service: Service) -> str:
    storage = Storage(str(service.home / "tables"))
    rows = storage.rows(runs.TABLE, storage.version(runs.TABLE) or 0).sort_by("ended_at").to_pylist()
    return str(rows[-1]["message"])


@pytest.mark.usefixtures("workers")
def test_the_daily_deployment_completes_through_a_worker(service: Service, source: Path, tmp_path: Path) -> None:
    blocked = service.lakehouse("trigger", "medallion-etl/daily", "-p", "min_rows_threshold=1000000", "--watch")
    assert blocked.returncode == 3, blocked.stdout + blocked.stderr
    assert "Nothing was published" in blocked.stderr
    done = service.lakehouse("trigger", "medallion-etl/daily", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.last_run("medallion-etl")["state_type"] == "COMPLETED"
    assert "Completed" in done.stderr
    run(tmp_path, source)
    assert digests(service.home) == digests(tmp_path)
    (published,) = answer(service.home, "releases")
    assert published["verified"]
    assert "leaked" not in (service.home / "worker.log").read_text()


@pytest.mark.usefixtures("workers")
def test_a_cancelled_run_ends_its_work_and_gives_the_lease_back(
    service: Service, source: Path, endless: str, tmp_path: Path
) -> None:
    (source / "transactions" / "107_Tran.csv").write_text("2024-01-04|107|7|1 2 3\n")
    before = newest(service.home)
    run_id, processes = at_work(service, endless, tmp_path / "mark")
    assert len(processes) > 1, "the process of the checks"
    assert is_held(service)
    service.prefect("flow-run", "cancel", run_id)
    cancelled = service.ended(run_id)
    assert cancelled["state_type"] == "CANCELLED", cancelled["state"]
    wait_until(lambda: not any(map(is_running, processes)))
    assert not is_held(service)
    assert last_message(service).startswith("It was stopped before it had ended")
    assert newest(service.home) == before


@pytest.mark.usefixtures("workers")
def test_a_slot_that_fires_twice_gives_one_release(service: Service, source: Path) -> None:
    (source / "transactions" / "108_Tran.csv").write_text("2024-01-05|108|7|1 2 3\n")
    before = newest(service.home)
    daily = service.named("/deployments")["daily"]["id"]
    slot = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-01-01T09:00:00Z"}}
    asked = {"parameters": {"enable_quality_checks": False, "min_rows_threshold": 1}, "state": slot}
    twice = [service.ask("POST", f"/deployments/{daily}/create_flow_run", asked)["id"] for _ in range(2)]
    assert len(set(twice)) == 2
    assert [service.ended(one)["state_type"] for one in twice] == ["COMPLETED", "COMPLETED"]
    after = newest(service.home)
    assert after is not None
    assert after.release_id == (before.release_id if before else 0) + 1


def test_a_dead_worker_leaves_no_run_running(
    service: Service, workers: list[subprocess.Popen[bytes]], source: Path, endless: str, tmp_path: Path
) -> None:
    (source / "transactions" / "106_Tran.csv").write_text("2024-01-06|106|7|1 2 3\n")
    run_id, processes = at_work(service, endless, tmp_path / "mark")
    before = newest(service.home)
    os.killpg(workers[-1].pid, signal.SIGKILL)
    os.kill(processes[0], signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, processes)))
    assert service.flow_run(run_id)["state_type"] == "RUNNING"
    crashed = service.ended(run_id)
    assert crashed["state_type"] == "CRASHED"
    assert "No heartbeat" in crashed["state"]["message"]
    done = lakehouse(service.home, "run", "--source", source, "--no-prefect", "--no-checks", "--min-rows-threshold", 1)
    assert done.returncode == 0, done.stderr
    after = newest(service.home)
    assert after is not None
    assert after.release_id == (before.release_id if before else 0) + 1
    workers.append(begun_worker(service))


def test_days_are_taken_in_one_by_one_and_a_second_start_goes_on(service: Service, tmp_path: Path) -> None:
    files = {
        "1_Tran.csv": "2024-03-01|1|7|1 2\n2024-03-01|1|8|3\n",
        "2_Tran.csv": "2024-03-02|1|7|1 2\n2024-03-02|1|9|3\n",
        "3_Tran.csv": "2024-03-03|1|7|4 5\n2024-03-03|1|9|3\n",
        "4_Tran.csv": "2024-03-03|1|7|4 5\n2024-04-01|1|9|3\n",
    }
    write_sample(tmp_path / "source", receipts=400, days=3, stores=1)
    for name in (tmp_path / "source" / "transactions").iterdir():
        name.unlink()
    for name, text in files.items():
        (tmp_path / "source" / "transactions" / name).write_text(text)
    home = tmp_path / "home"
    lakehouse(home, "load", "--source", tmp_path / "source")
    code = """
from flows.backfill import backfill
asked = {"enable_quality_checks": False, "min_rows_threshold": 1, "order": "newest_first"}
print(backfill(first_day="2024-03-02", last_day="2024-03-03", **asked))
print(backfill(last_day="2024-03-03", **asked))
print(backfill(first_day="2024-03-02", last_day="2024-03-03", **asked))
print(backfill(releases="one_in_all", **asked))
"""
    env = service.environment | {"LAKEHOUSE_HOME": str(home), "DATA_PATH": str(tmp_path / "source")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[1, 2]", "[3]", "[]", "[4]"]
    assert "transactions/4_Tran.csv goes on waiting: it holds 2024-03-03 to 2024-04-01" in done.stderr
    days = [
        [
            str(row["sold_on"])
            for row in answer(home, "query", "select sold_on from gold.daily_sales order by 1", "-r", n)
        ]
        for n in (1, 2, 3, 4)
    ]
    march = ["2024-03-01", "2024-03-02", "2024-03-03"]
    assert days == [march[2:], march[1:], march, [*march, "2024-04-01"]]
    whole = tmp_path / "whole"
    run(whole, tmp_path / "source", "--min-rows-threshold", 1)
    assert digests(home) == digests(whole)
    again = lakehouse(home, "run", "--no-prefect", "--no-checks", "--min-rows-threshold", 1, env=env)
    assert "Nothing new since release 4" in again.stdout, again.stderr


def test_days_of_postgres_are_taken_in_one_by_one(service: Service, tmp_path: Path) -> None:
    write_sample(tmp_path / "source", receipts=400, days=3, stores=1)
    home, whole = tmp_path / "home", tmp_path / "whole"
    loaded = lakehouse(home, "load", "--source", tmp_path / "source", "--transactions")
    assert loaded.returncode == 0, loaded.stderr
    code = """
from flows.backfill import backfill
asked = {"min_rows_threshold": 200}  # more than the first day has
print(backfill(last_day="2024-01-02", **asked))
print(backfill(**asked))
print(backfill(**asked))
"""
    env = service.environment | {"LAKEHOUSE_HOME": str(home), "TRANSACTIONS_SOURCE": "postgres"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[1, 2]", "[3]", "[]"]
    assert "postgres/transactions/2024-01-03 goes on waiting: it holds 2024-01-03 to 2024-01-03" in done.stderr
    sold = "select sold_on from gold.daily_sales order by 1"
    days = [[row["sold_on"][-2:] for row in answer(home, "query", sold, "-r", number)] for number in (1, 2, 3)]
    assert days == [["01"], ["01", "02"], ["01", "02", "03"]]
    run(whole, tmp_path / "source", "--min-rows-threshold", 1)
    assert digests(home) == digests(whole)


def test_a_group_that_fails_leaves_the_others_published_and_fails_the_run_by_name(
    service: Service, source: Path
) -> None:
    (source / "transactions" / "109_Tran.csv").write_text("2024-01-03|109|7|1 2 3\n")
    before = """
import lakehouse.gold.clustering.segment_profiles as module
def build(segments): raise RuntimeError('the lamp is out')
module.build = build
"""
    known = answer(service.home, "releases") if (service.home / "tables").exists() else []
    done = lakehouse(service.home, "run", "--source", source, "--no-checks", before=before)
    assert done.returncode == 1
    failed = service.last_run("medallion-etl")
    assert failed["state_type"] == "FAILED"
    assert "clustering" in failed["state"]["message"]
    assert len(answer(service.home, "releases")) == len(known) + 1
    assert server.run_page(service.api_url, failed["id"]) in "".join(done.stdout.split())


def test_an_interrupted_command_ends_its_flow_run_too(service: Service, source: Path, tmp_path: Path) -> None:
    job = begun(tmp_path, "run", "--source", source, env={"PREFECT_API_URL": service.api_url})
    assert job.stderr is not None
    assert any("task_started silver" in line for line in job.stderr)
    os.killpg(job.pid, signal.SIGINT)
    said = job.communicate(timeout=HANG_SECONDS)[1]
    assert job.returncode == 130, said
    assert "flow_failed medallion-etl" in said
    assert "Traceback" not in said
    assert newest(tmp_path) is None
    begun_last = {"flow_runs": {"start_time": {"is_null_": False}}, "sort": "START_TIME_DESC", "limit": 1}
    assert [run["state"]["type"] for run in service.ask("POST", "/flow_runs/filter", begun_last)] == ["CRASHED"]


def test_a_single_group_is_published_as_a_release(service: Service, source: Path) -> None:
    if not (service.home / "tables").exists():
        run(service.home, source)
    before = answer(service.home, "status")["release"]
    asked = "from flows.groups import clustering; clustering(n_clusters=3)"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=PROJECT, env=service.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    newest = answer(service.home, "status")
    assert newest["release"] == before + 1
    assert newest["groups"]["clustering"] == before + 1
    assert len(answer(service.home, "query", "select * from gold.segment_profiles")) == 3
