"""The whole stack for a test: started once, pointed at by every command, its runs triggered through a worker."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.stack import stack
from infra.stack.plan import PROJECT, Plan, new_plan
from lakehouse.ops import releases
from lakehouse.releases.lease import NOTE
from lakehouse.settings import load_settings
from lakehouse.storage.objects import put
from lakehouse.storage.tables import Storage
from tests.flows.command import answer, lakehouse
from tests.waiting import HANG_SECONDS

FLOW = "medallion-etl/daily"
PARAMETERS = {"enable_quality_checks": "false", "min_rows_threshold": "100", "min_support": "0.02"}


@dataclass(frozen=True)
class Cluster:
    """A running stack, and the home its workers have."""

    plan: Plan
    home: Path

    @property
    def env(self) -> dict[str, str]:
        return self.plan.clients | {"PREFECT_HOME": str(self.home / "client")}

    def lakehouse(self, *arguments: object) -> str:
        """Run the command line against the stack, and hold it to success; give its output."""
        done = lakehouse(self.home, *arguments, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answer(self, *arguments: object) -> Any:
        return answer(self.home, *arguments, env=self.env)

    def deliver(self, file: Path) -> None:
        """Put a transactions file into the landing."""
        load_settings(**{n.lower(): v for n, v in self.plan.clients.items() if n.startswith("MINIO_")})
        put(f"{self.plan.clients['DATA_PATH']}/transactions/{file.name}", file.read_bytes())

    def begun(self, deployment: str = FLOW, parameters: Mapping[str, str] = PARAMETERS) -> subprocess.Popen[str]:
        """Trigger a run of a deployment and watch it; its exit code says how it ended."""
        asked = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
        return self._prefect("deployment", "run", deployment, "--watch", *asked)

    def run(self, deployment: str = FLOW, parameters: Mapping[str, str] = PARAMETERS) -> str:
        """Run a deployment, and hold it to success."""
        watching = self.begun(deployment, parameters)
        said, _ = watching.communicate(timeout=HANG_SECONDS)
        assert watching.returncode == 0, said + self.log("worker-etl")
        return said

    def states(self) -> list[str]:
        """Give the states of the runs there were, the newest first."""
        return [str(run["state"]) for run in self.answer("runs", "--limit", "200")]

    def log(self, name: str) -> str:
        return (self.plan.folder / "logs" / f"{name}.log").read_text(errors="replace")[-3_000:]

    def is_leased(self) -> bool:
        """Say whether somebody holds the lease."""
        load_settings(**{n.lower(): v for n, v in self.plan.clients.items() if n.startswith("MINIO_")})
        storage = Storage(self.plan.clients["LAKEHOUSE_ROOT"])
        version = storage.version(releases.TABLE)
        noted = storage.note(releases.TABLE, version, NOTE) if version is not None else None
        return noted is not None and '"is_held": true' in noted

    def _prefect(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "prefect", *words],
            cwd=PROJECT,
            env=self.plan.services | self.env | {"NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """Start the stack of a home, and end it."""
    plan = new_plan(home / "stack")
    try:
        stack.up(plan, lambda _: None)
        started = Cluster(plan, home)
        started.lakehouse("deploy")
        yield started
    finally:
        stack.down(plan.folder)
