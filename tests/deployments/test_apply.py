"""`lakehouse deploy` against a real server: it shows, changes, removes, repairs, and leaves what is not its own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.prefect_file import FILE
from flows.orchestration import server
from lakehouse.settings import load_settings
from tests.flows.command import lakehouse
from tests.flows.prefect_service import Service, service_of
from tests.waiting import wait_until

CONTENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
NOTIFYING = ["long-run", "failed-run"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    settings = load_settings(lakehouse_home=home, prefect_api_url="")
    yield service_of(home, server.local_server(settings))
    server.stop_server(settings)


@pytest.fixture(scope="module")
def deployed(service: Service) -> Service:
    service.deploy()
    return service


def declaring(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(CONTENT | changes))
    return path


def told(changes: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(change["action"], change["kind"], change["name"]) for change in changes]


def test_a_plan_shows_everything_and_changes_nothing(service: Service) -> None:
    first = service.deploy(None, "--plan")
    assert {("create", "work pool", "etl-pool"), ("create", "deployment", "medallion-etl/daily")} <= set(told(first))
    assert service.ask("POST", "/work_pools/count", {}) == service.ask("POST", "/deployments/count", {}) == 0
    assert service.deploy(None, "--plan") == first


def test_what_was_planned_is_done_and_the_second_time_changes_nothing(service: Service) -> None:
    plan = service.deploy(None, "--plan")
    assert service.deploy() == plan
    done = service.lakehouse("deploy")
    assert done.returncode == 0
    assert "The server matches: nothing changes." in done.stderr
    pools = service.named("/work_pools")
    assert (pools["etl-pool"]["type"], pools["etl-pool"]["concurrency_limit"]) == ("process", 4)
    daily = service.named("/deployments")["daily"]
    (schedule,) = daily["schedules"]
    assert (schedule["slug"], schedule["schedule"]["cron"], schedule["active"]) == ("daily-0600", "0 6 * * *", True)
    assert daily["global_concurrency_limit"]["limit"] == 1
    assert {"sales-lakehouse", "etl", "scheduled"} == set(daily["tags"])
    assert set(service.named("/automations")) == {"silent-run-crashed", "unbegun-run-crashed"}
    assert "Left out, because NOTIFICATION_URL is not set: long-run, failed-run." in done.stderr


def test_what_is_no_longer_declared_is_gone_and_what_others_made_stays(deployed: Service, tmp_path: Path) -> None:
    flow_id = deployed.ask("POST", "/flows/", {"name": "of-others"})["id"]
    deployed.ask("POST", "/deployments/", {"name": "theirs", "flow_id": flow_id, "tags": ["etl"]})
    deployed.ask("POST", "/work_pools/", {"name": "their-pool", "type": "process"})
    deployed.ask("POST", "/automations/", automation_of_others())
    less: list[dict[str, Any]] = [
        dict(one) for one in CONTENT["deployments"] if "data_loading" not in one["entrypoint"]
    ]
    less[0].pop("schedules")
    fewer = [one for one in CONTENT["automations"] if one["name"] != "unbegun-run-crashed"]
    changes = deployed.deploy(declaring(tmp_path, deployments=less, automations=fewer))
    assert sorted(told(changes)) == [
        ("remove", "automation", "unbegun-run-crashed"),
        ("remove", "deployment", "data-loading/manual"),
        ("update", "deployment", "medallion-etl/daily"),
    ]
    assert {"automation-of-others", "silent-run-crashed"} == set(deployed.named("/automations"))
    assert deployed.named("/deployments")["daily"]["schedules"] == []
    assert "theirs" in deployed.named("/deployments")
    assert "their-pool" in deployed.named("/work_pools")
    due = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    assert deployed.ask("POST", "/flow_runs/count", due) == 0
    assert len(deployed.deploy()) == 3


def test_what_was_changed_by_hand_is_repaired(deployed: Service) -> None:
    daily = deployed.named("/deployments")["daily"]
    (schedule,) = daily["schedules"]
    deployed.ask("PATCH", f"/deployments/{daily['id']}/schedules/{schedule['id']}", {"active": False})
    deployed.ask("PATCH", "/work_pools/ml-pool", {"concurrency_limit": 9})
    deployed.ask("PATCH", "/work_pools/etl-pool/queues/exports", {"priority": 7})
    changes = deployed.deploy()
    assert {change["name"]: change["changes"] for change in changes} == {
        "ml-pool": {"concurrency_limit": {"found": 9, "declared": 2}},
        "etl-pool/exports": {"priority": {"found": 7, "declared": 2}},
        "medallion-etl/daily": {"schedules.daily-0600.active": {"found": False, "declared": True}},
    }
    assert deployed.deploy() == []


def test_a_typo_is_told_with_its_line_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(FILE.read_text().replace("    schedules:", "    shedules:", 1))
    line = FILE.read_text()[: FILE.read_text().index("    schedules:")].count("\n") + 1
    done = lakehouse(tmp_path / "home", "deploy", "--file", path)
    assert done.returncode == 2
    assert f"prefect.yaml, line {line}: the key shedules is unknown here; known are name, entrypoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_run_that_takes_long_and_one_that_fails_are_told_to_the_webhook(deployed: Service, tmp_path: Path) -> None:
    soon = [dict(one) for one in CONTENT["automations"]]
    for one in soon:
        one["trigger"] = one["trigger"] | ({"within": 10} if one["name"] == "long-run" else {})
    file = declaring(tmp_path, automations=soon)
    with listening() as (url, received):
        changes = deployed.deploy(file, NOTIFICATION_URL=url)
        assert told(changes) == [("create", "webhook", "sales-lakehouse-notifications")] + [
            ("create", "automation", name) for name in NOTIFYING
        ]
        assert deployed.deploy(file, NOTIFICATION_URL=url) == []
        deployment = deployed.named("/deployments")["daily"]["id"]
        run = deployed.ask("POST", f"/deployments/{deployment}/create_flow_run", {})
        deployed.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "RUNNING"}, "force": True})
        wait_until(lambda: bool(received))
        begun = f"Running for two hours: medallion-etl, run {run['name']}, Running. "
        assert json.loads(received[0])["text"].startswith(begun)
        lost = {"type": "FAILED", "message": 'The "lamp" is out\nand dark'}
        deployed.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": lost, "force": True})
        wait_until(lambda: len(received) > 1)
        text = json.loads(received[1])["text"]
        assert text.startswith(f'Failed: medallion-etl, run {run["name"]}, Failed. The "lamp" is out\nand dark http')
        assert run["id"] in text
    changed = deployed.deploy(file, NOTIFICATION_URL=f"{url}?token=hush")
    assert changed[0]["changes"] == {"url": {"found": "(hidden)", "declared": "(hidden)"}}
    assert "hush" not in json.dumps(changed)
    assert sorted(told(deployed.deploy())) == [
        ("remove", "automation", "failed-run"),
        ("remove", "automation", "long-run"),
        ("remove", "webhook", "sales-lakehouse-notifications"),
    ]


@pytest.mark.parametrize("url", ["hooks.example.org/hush", "ftp://hooks.example.com/hush"])
def test_an_address_that_is_none_is_told_without_it(tmp_path: Path, url: str) -> None:
    done = lakehouse(tmp_path, "deploy", env={"NOTIFICATION_URL": url})
    assert done.returncode == 2
    assert "NOTIFICATION_URL is '(hidden)'" in done.stderr
    assert url not in done.stderr


def asked_for(service: Service) -> list[str]:
    """Name the runs somebody asked for; those of a schedule the server makes by itself, at its own time."""
    return sorted(run["id"] for run in service.ask("POST", "/flow_runs/filter", {}) if not run["auto_scheduled"])


def test_a_wrong_trigger_begins_nothing(deployed: Service) -> None:
    before = asked_for(deployed)
    for asked, reason in {
        ("medallion-etl/daily", "-p", "clusters=3"): "there is no parameter clusters; there is source_path, enable",
        ("medallion-etl/daily", "-p", "n_clusters=1"): "1 is less than the minimum of 2",
        ("medallion-etl/daily", "-p", "n_clusters"): "it must be name=value",
        ("medallion-etl/nightly",): "There is no deployment 'medallion-etl/nightly'. There is: analytics/manual",
    }.items():
        done = deployed.lakehouse("trigger", *asked)
        assert done.returncode == 2, done.stderr
        assert reason in done.stderr
    assert asked_for(deployed) == before


def test_a_trigger_without_a_worker_says_so(deployed: Service) -> None:
    done = deployed.lakehouse("trigger", "clustering/manual", "-p", "n_clusters=5", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert deployed.flow_run(run["id"])["parameters"]["n_clusters"] == 5
    assert run["page"] == server.run_page(deployed.api_url, run["id"])
    assert "No worker of ml-pool is there" in done.stderr
    listed = json.loads(deployed.lakehouse("runs", "--json").stdout)
    assert ("clustering/manual", run["page"]) in {(row["of"], row["page"]) for row in listed}
    names = {row["deployment"]: row for row in json.loads(deployed.lakehouse("deployments", "--json").stdout)}
    assert names["medallion-etl/daily"]["schedules"] == ["0 6 * * * America/Sao_Paulo"]
    assert names["output-sync/manual"]["queue"] == "etl-pool/exports"


def automation_of_others() -> dict[str, Any]:
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": ["prefect.flow-run.Failed"],
        "threshold": 1,
        "within": 0,
    }
    return {"name": "automation-of-others", "trigger": trigger, "actions": [{"type": "do-nothing"}]}


class listening:  # noqa: N801  it reads as a verb
    """A webhook on loopback, and the bodies it was sent."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        received = self.received

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)

    def __enter__(self) -> tuple[str, list[bytes]]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/hook", self.received

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
