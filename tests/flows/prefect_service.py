"""A local Prefect server and the commands that speak to it, as a user has them."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.flows.command import KEPT, lakehouse
from tests.waiting import HANG_SECONDS, wait_until

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Service:
    """A home with a server, and what the processes that use it are given."""

    home: Path
    api_url: str
    environment: dict[str, str]

    def prefect(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def lakehouse(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        return lakehouse(self.home, *arguments, env=self.environment | env)

    def deploy(self, file: Path | None = None, *options: str, **env: str) -> list[dict[str, Any]]:
        """Run `lakehouse deploy`; give the changes it tells."""
        chosen = ("--file", file) if file else ()
        done = self.lakehouse("deploy", "--json", *chosen, *options, **env)
        assert done.returncode == 0, done.stderr
        told: list[dict[str, Any]] = json.loads(done.stdout)
        return told

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the server's API itself; again, as Prefect's own client does, while it says that it is busy."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.api_url + path, content, {"Content-Type": "application/json"}, method=method
        )
        for pause in (1, 2, 4, 8, 16, None):
            try:
                with urllib.request.urlopen(request, timeout=600) as answer:
                    said = answer.read()
                break
            except urllib.error.HTTPError as refused:
                if refused.code != HTTPStatus.SERVICE_UNAVAILABLE or pause is None:
                    raise
                time.sleep(pause)
        return json.loads(said) if said else None

    def named(self, path: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.ask("POST", f"{path}/filter", {})}

    def flow_run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run_id}")
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait for a run's end."""
        wait_until(lambda: self.flow_run(run_id)["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), 0.5)
        return self.flow_run(run_id)

    def last_run(self, flow_name: str) -> dict[str, Any]:
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED"]}}}
        named = {"name": {"any_": [flow_name]}}
        asked = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": ended, "flows": named}
        newest: dict[str, Any] = self.ask("POST", "/flow_runs/filter", asked)[0]
        return newest


def service_of(home: Path, api_url: str, **env: str) -> Service:
    """Describe the server of a home."""
    clean = {name: os.environ[name] for name in KEPT if name in os.environ}
    given = {"LAKEHOUSE_HOME": str(home), "PREFECT_API_URL": api_url, "PREFECT_HOME": str(home / "prefect")}
    return Service(home, api_url, clean | given | {"PREFECT_WORKER_QUERY_SECONDS": "2"} | env)
