"""The main job in service: a local Prefect server, a process worker, the deployments of prefect.yaml."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import server
from lakehouse.sample import write_sample
from lakehouse.settings import load_settings
from tests.flows.command import KEPT, answer, digests, lakehouse, run

PROJECT = Path(__file__).resolve().parents[2]
POOLS = ("etl-pool", "ml-pool")


@dataclass(frozen=True)
class Service:
    """A home with a server, a worker, the deployments and a landing."""

    home: Path
    api_url: str
    environment: dict[str, str]

    def prefect(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def last_run(self, flow_name: str) -> dict[str, Any]:
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED"]}}}
        named = {"name": {"any_": [flow_name]}}
        asked = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": ended, "flows": named}
        content = json.dumps(asked).encode()
        request = urllib.request.Request(
            f"{self.api_url}/flow_runs/filter", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as found:
            (newest,) = json.load(found)
        assert isinstance(newest, dict)
        return newest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, receipts=2_000, days=40)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    settings = load_settings(lakehouse_home=home, prefect_api_url="")
    api_url = server.local_server(settings)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "LAKEHOUSE_HOME": str(home),
        "DATA_PATH": str(source),
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    started = Service(home, api_url, environment)
    for pool in POOLS:
        started.prefect("work-pool", "create", pool, "--type", "process")
    started.prefect("deploy", "--all")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "etl-pool", "--type", "process"]
    log = (home / "worker.log").open("w")
    worker = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield started
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    log.close()
    server.stop_server(settings)


@pytest.mark.timeout(420)
def test_the_daily_deployment_completes_through_a_worker(service: Service, source: Path, tmp_path: Path) -> None:
    lakehouse(service.home, "load", "--source", source)
    said = service.prefect("deployment", "run", "medallion-etl/daily", "--watch", "--watch-timeout", "240")
    assert service.last_run("medallion-etl")["state_type"] == "COMPLETED", said
    run(tmp_path, source)
    assert digests(service.home) == digests(tmp_path)
    (newest,) = answer(service.home, "releases")
    assert newest["verified"]


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(200)
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
