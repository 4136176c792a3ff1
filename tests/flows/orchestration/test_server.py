"""The local Prefect server: one per home, found again, never confused with another process."""

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from flows.orchestration import server
from lakehouse.errors import LakehouseError, ServiceDown, StorageFailed, WrongUse
from lakehouse.settings import Settings, load_settings
from tests.waiting import wait_until

pytestmark = pytest.mark.timed

PROJECT = Path(__file__).resolve().parents[3]
START_IN_ITS_OWN_PROCESS = """
import sys
from flows.orchestration.server import local_server
from lakehouse.settings import load_settings
settings = load_settings(lakehouse_home=sys.argv[1], prefect_api_url="")
print("ready", flush=True)
sys.stdin.readline()
print(local_server(settings))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = load_settings(lakehouse_home=tmp_path_factory.mktemp("home"), prefect_api_url="")
    yield settings
    server.stop_server(settings)


def empty_home(folder: Path) -> Settings:
    return load_settings(lakehouse_home=folder, prefect_api_url="")


def record(settings: Settings) -> dict[str, object]:
    kept: dict[str, object] = json.loads((settings.lakehouse_home / "prefect" / "server.json").read_text())
    return kept


def write_record(settings: Settings, **facts: object) -> None:
    folder = settings.lakehouse_home / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.json").write_text(json.dumps(facts))


def test_processes_that_start_together_get_one_server(home: Settings) -> None:
    command = [sys.executable, "-c", START_IN_ITS_OWN_PROCESS, str(home.lakehouse_home)]
    starters = [subprocess.Popen(command, cwd=PROJECT, text=True, stdin=PIPE, stdout=PIPE) for _ in range(3)]
    assert [starter.stdout.readline() for starter in starters if starter.stdout] == ["ready\n"] * 3
    for starter in starters:
        assert starter.stdin
        starter.stdin.write("go\n")
        starter.stdin.flush()
    outputs = [starter.communicate()[0] for starter in starters]
    assert len(set(outputs)) == 1
    assert server.find_server(home) == outputs[0].strip()


def test_a_running_server_is_found_again_with_one_question_and_without_waiting(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_url = server.local_server(home)
    asked, ask = [], server._silence
    monkeypatch.setattr(server, "_silence", lambda url: asked.append(url) or ask(url))
    monkeypatch.setattr(server, "_start_server", lambda _: pytest.fail("it starts one, or waits for one"))
    assert server.find_server(home) == server.local_server(home) == api_url
    assert asked == [api_url] * 2


def test_the_server_is_detached_listens_on_loopback_and_keeps_its_state_in_the_home(home: Settings) -> None:
    server.local_server(home)
    pid = record(home)["pid"]
    environment = Path(f"/proc/{pid}/environ")
    assert (home.lakehouse_home / "prefect" / "prefect.db").exists()
    assert os.getsid(int(str(pid))) == pid
    if environment.exists():
        variables = environment.read_text().split("\0")
        assert {"PREFECT_SERVER_ANALYTICS_ENABLED=false", "DO_NOT_TRACK=1", "PREFECT_SERVER_API_HOST=127.0.0.1"} <= set(
            variables
        )


def test_the_pages_of_the_server_know_its_own_api(home: Settings) -> None:
    api_url = server.local_server(home)
    with urllib.request.urlopen(api_url.replace("/api", "/ui-settings")) as answer:
        assert json.load(answer)["api_url"] == api_url
    page = urllib.request.Request(server.run_page(api_url, "0" * 32), headers={"Accept": "text/html"})
    with urllib.request.urlopen(page) as answer:
        assert "text/html" in answer.headers["Content-Type"]


def test_a_stopped_server_is_gone_and_the_next_one_has_its_port(home: Settings) -> None:
    api_url = server.local_server(home)
    assert server.stop_server(home)
    assert server.find_server(home) is None
    assert not server.stop_server(home)
    assert server.local_server(home) == api_url


def test_a_home_without_a_server_has_none(tmp_path: Path) -> None:
    settings = empty_home(tmp_path / "home")
    assert server.find_server(settings) is None
    assert not server.stop_server(settings)
    assert not settings.lakehouse_home.exists()


def test_a_record_of_another_process_with_the_same_id_is_not_the_server(tmp_path: Path) -> None:
    settings = empty_home(tmp_path)
    write_record(settings, port=1, pid=os.getpid(), started="another time")
    assert server.find_server(settings) is None
    assert not server.stop_server(settings)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"port": 1}'])
def test_a_broken_record_is_no_record(tmp_path: Path, content: str) -> None:
    settings = empty_home(tmp_path)
    write_record(settings)
    (tmp_path / "prefect" / "server.json").write_text(content)
    assert server.find_server(settings) is None


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ServiceDown, match=r"ended before it answered.*server\.log"):
        server.local_server(empty_home(tmp_path))


def test_a_server_that_never_answers_is_ended_and_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(server, "START_SECONDS", 0.2)
    settings = empty_home(tmp_path)
    with pytest.raises(ServiceDown, match=r"no answer in.*server\.log"):
        server.local_server(settings)
    assert not server.stop_server(settings)


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="LAKEHOUSE_HOME"):
        server.local_server(empty_home(tmp_path / "file"))


@pytest.fixture
def named() -> Iterator[str]:
    class Prefect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"true" if self.path == "/api/health" else b"<html>")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Prefect) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_a_named_server_is_used_and_no_other_is_started(tmp_path: Path, named: str) -> None:
    settings = load_settings(lakehouse_home=tmp_path / "home", prefect_api_url=f"{named}/api/")
    assert server.local_server(settings) == f"{named}/api"
    assert server.find_server(settings) == f"{named}/api"
    assert not server.stop_server(settings)
    assert not settings.lakehouse_home.exists()


def test_a_named_server_without_api_in_its_address_is_told(tmp_path: Path, named: str) -> None:
    settings = load_settings(lakehouse_home=tmp_path, prefect_api_url=named)
    with pytest.raises(ServiceDown, match="not Prefect's answer"):
        server.local_server(settings)


def test_a_named_server_that_is_down_is_told_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = load_settings(lakehouse_home=tmp_path, prefect_api_url=f"http://me:secret@127.0.0.1:{port}/api")
    with pytest.raises(ServiceDown, match="refused") as told:
        server.local_server(settings)
    assert "secret" not in str(told.value)
    assert server.find_server(settings) is None


def test_the_page_of_a_run_is_told_without_a_password() -> None:
    assert server.run_page("http://me:secret@host:4200/api", "7") == "http://host:4200/v2/runs/flow-run/7"


@pytest.mark.parametrize(
    "address",
    ["localhost:4200/api", "ftp://host/api", "http://", "http://host:port/api", "http://host:99999/api", "nonsense"],
)
def test_an_address_that_is_none_is_wrong_use(tmp_path: Path, address: str) -> None:
    settings = load_settings(lakehouse_home=tmp_path, prefect_api_url=address)
    with pytest.raises(WrongUse, match="PREFECT_API_URL"):
        server.local_server(settings)
    with pytest.raises(WrongUse, match="PREFECT_API_URL"):
        server.find_server(settings)
    assert issubclass(WrongUse, LakehouseError)


@pytest.mark.parametrize(
    ("api_url", "page"),
    [
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200/v2/runs/flow-run/r1"),
        ("https://host/prefect/api/", "https://host/prefect/v2/runs/flow-run/r1"),
    ],
)
def test_the_page_of_a_run(api_url: str, page: str) -> None:
    assert server.run_page(api_url, "r1") == page


def test_asking_for_a_server_does_not_import_prefect() -> None:
    code = "import sys, flows.orchestration.server; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_a_schedule_becomes_runs(home: Settings) -> None:
    api_url = server.local_server(home)

    def ask(path: str, **body: object) -> Any:
        content = json.dumps(body).encode()
        request = urllib.request.Request(api_url + path, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    flow_id = ask("/flows/", name="scheduled")["id"]
    schedule = {"schedule": {"cron": "0 6 * * *", "timezone": "America/Sao_Paulo"}, "active": True}
    ask("/deployments/", name="daily", flow_id=flow_id, schedules=[schedule])
    wait_until(lambda: ask("/flow_runs/count") >= 3, 0.5)
