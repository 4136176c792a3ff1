"""Runs of deployments: which there are, how to begin one, how it goes."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deployments.parameters import wrong_parameters
from deployments.server import pages, send
from lakehouse import errors
from lakehouse.errors import LakehouseError, NotFound, WrongUse

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POLL_SECONDS = 1.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
Row = dict[str, Any]


def list_deployments(client: "SyncPrefectClient") -> list[Row]:
    """List the deployments of the server by their full names."""
    flows = {flow["id"]: flow["name"] for flow in pages(client, "/flows/filter")}
    rows = [
        one | {"full_name": f"{flows[one['flow_id']]}/{one['name']}"} for one in pages(client, "/deployments/filter")
    ]
    return sorted(rows, key=lambda row: str(row["full_name"]))


def recent(client: "SyncPrefectClient", limit: int) -> list[Row]:
    """List the last runs that began or wait now, newest first."""
    names = {one["id"]: one["full_name"] for one in list_deployments(client)}
    flows = {flow["id"]: flow["name"] for flow in pages(client, "/flows/filter")}
    due = {"state": {"type": {"any_": [*ENDED, "RUNNING", "PENDING", "CANCELLING", "PAUSED"]}}}
    waiting = {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": _now()}}
    rows = [
        run
        for asked in (due, waiting)
        for run in send(
            client,
            "POST",
            "/flow_runs/filter",
            {"flow_runs": asked, "sort": "EXPECTED_START_TIME_DESC", "limit": limit},
        )
    ]
    for run in rows:
        run["deployment"] = names.get(run["deployment_id"], flows.get(run["flow_id"], ""))
    return sorted(rows, key=lambda run: str(run["expected_start_time"]), reverse=True)[:limit]


def asked_parameters(given: Sequence[str]) -> dict[str, object]:
    """Read `name=value` pairs: a value is JSON, or else the text it is; errors: WrongUse."""
    found: dict[str, object] = {}
    for pair in given:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise WrongUse("--param", pair, "name=value")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def begin_run(client: "SyncPrefectClient", name: str, parameters: Mapping[str, object]) -> Row:
    """Begin a run of a deployment; errors: NotFound, and WrongUse for what its flow does not take. Then none begins."""
    there = {one["full_name"]: one for one in list_deployments(client)}
    if name not in there:
        raise NotFound("deployment", name, list(there))
    chosen = there[name]
    given = chosen["parameters"] | dict(parameters)
    for wrong, reason in wrong_parameters(chosen["parameter_openapi_schema"], given):
        raise WrongUse(f"--param {wrong}", parameters.get(wrong), f"one that {name} takes: {reason}")
    body = {"parameters": given, "state": {"type": "SCHEDULED"}}
    run: Row = send(client, "POST", f"/deployments/{chosen['id']}/create_flow_run", body)
    return run | {"deployment": name, "work_pool_name": chosen["work_pool_name"]}


def has_worker(client: "SyncPrefectClient", pool: str) -> bool:
    """Say whether a worker of a pool is there to take runs."""
    return any(worker["status"] == "ONLINE" for worker in pages(client, f"/work_pools/{pool}/workers/filter"))


def watch_run(client: "SyncPrefectClient", run_id: str, tell: Callable[[str], None]) -> Row:
    """Tell a run's states and log lines until it has ended; give it as it then is."""
    state, lines = "", 0
    while True:
        run: Row = send(client, "GET", f"/flow_runs/{run_id}")
        for line in _logs(client, run_id, lines):
            lines += 1
            tell(f"  {line}")
        if run["state_name"] != state:
            state = run["state_name"]
            tell(f"{state}{': ' if run['state']['message'] else ''}{run['state']['message'] or ''}")
        if run["state_type"] in ENDED:
            return run
        time.sleep(POLL_SECONDS)


def exit_code(run: Row) -> int:
    """Give what a run's end means on the command line: 0 done, else as the error that it names exits, or 1."""
    if run["state_type"] == "COMPLETED":
        return 0
    kinds = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, LakehouseError)
    }
    named = re.search(r"exception:? (\w+): ", run["state"]["message"] or "")
    return kinds.get(named[1], 1) if named else 1


def _logs(client: "SyncPrefectClient", run_id: str, after: int) -> Iterator[str]:
    asked = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
    for number, line in enumerate(pages(client, "/logs/filter", **asked)):
        if number >= after:
            yield line["message"].partition("Traceback (most recent call last)")[0].rstrip()


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()
