"""The commands about what is in service: deploy it, list it, begin a run of it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deployments.plan import Change, Kind
from flows.commands.output import print_facts, print_table
from flows.commands.reading import AsJson
from flows.run.console import error_console
from lakehouse.settings import load_settings

SHOWN = 100
HIDDEN = "(hidden)"


def deploy(
    plan: Annotated[bool, typer.Option("--plan", help="Show the difference, and change nothing.")] = False,
    file: Annotated[Path | None, typer.Option(help="Another file than the project's prefect.yaml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make the Prefect server match prefect.yaml: pools, queues, deployments, schedules, automations."""
    from deployments.apply import apply
    from deployments.apply import plan as changes_to
    from deployments.declared_state import declared_state
    from deployments.prefect_file import FILE, read_declaration
    from flows.orchestration.client import connect

    settings = load_settings()
    content = read_declaration(file or FILE)
    things, left_out = declared_state(content, settings.notification_url.get_secret_value())
    with connect(settings) as client:
        todo = changes_to(client, things, content.name)
        print_table([_row(change, as_json) for change in todo], as_json, "The server matches: nothing changes.")
        if left_out:
            error_console().print(f"Left out, because NOTIFICATION_URL is not set: {', '.join(left_out)}.")
        if not plan and todo:
            apply(client, things, content.name, todo)
            error_console().print(f"The server matches now: {len(todo)} changes, read back.")


def deployments(as_json: AsJson = False) -> None:
    """List what is in service: its schedules, where its runs wait, what it is asked."""
    from deployments.runs import list_deployments
    from flows.orchestration.client import connect

    with connect(load_settings()) as client:
        rows = [
            {
                "deployment": one["full_name"],
                "schedules": [_said(schedule) for schedule in one["schedules"]],
                "queue": f"{one['work_pool_name']}/{one['work_queue_name']}",
                "paused": one["paused"],
                "parameters": one["parameters"],
            }
            for one in list_deployments(client)
        ]
    print_table(rows, as_json, "Nothing is deployed: `lakehouse deploy` does it.")


def runs(
    limit: Annotated[int, typer.Option(min=1, max=200, help="The newest so many.")] = 20, as_json: AsJson = False
) -> None:
    """List the last runs, newest first: how each ended, and its page."""
    from deployments.runs import recent
    from flows.orchestration.client import connect
    from flows.orchestration.server import run_page

    with connect(load_settings()) as client:
        rows = [
            {
                "run": run["name"],
                "of": run["deployment"],
                "state": run["state_name"],
                "began": run["start_time"],
                "seconds": round(run["total_run_time"], 1),
                "page": run_page(str(client.api_url), run["id"]),
            }
            for run in recent(client, limit)
        ]
    print_table(rows, as_json, "There was no run yet.")


def trigger(
    name: Annotated[str, typer.Argument(help="As `lakehouse deployments` lists it: flow/deployment.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="name=value; the value is JSON or text.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended; exit as it did.")] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a run of a deployment, and say where it is shown."""
    from deployments.runs import asked_parameters, begin_run, exit_code, has_worker, watch_run
    from flows.orchestration.client import connect
    from flows.orchestration.server import run_page

    asked, console = asked_parameters(param or []), error_console()
    with connect(load_settings()) as client:
        run = begin_run(client, name, asked)
        print_facts({"run": run["name"], "id": run["id"], "page": run_page(str(client.api_url), run["id"])}, as_json)
        if not has_worker(client, run["work_pool_name"]):
            pool = run["work_pool_name"]
            console.print(f"No worker of {pool} is there: `prefect worker start --pool {pool}` starts one.")
        if watch:
            raise typer.Exit(
                exit_code(watch_run(client, run["id"], partial(console.print, markup=False, soft_wrap=True)))
            )


COMMANDS = (deploy, deployments, runs, trigger)


def _row(change: Change, as_json: bool) -> dict[str, object]:
    thing, fields = change.thing, change.fields
    if thing.kind is Kind.WEBHOOK:
        fields = dict.fromkeys(fields, (HIDDEN, HIDDEN))
    told: object = {name: {"found": pair[0], "declared": pair[1]} for name, pair in fields.items()}
    if not as_json:
        told = "; ".join(f"{name}: {_short(pair[0])} → {_short(pair[1])}" for name, pair in fields.items())
    return {"action": change.action, "kind": thing.kind.value, "name": thing.name, "changes": told}


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _said(schedule: Mapping[str, object]) -> str:
    given = schedule["schedule"]
    assert isinstance(given, dict)
    rule = given.get("cron") or given.get("rrule") or f"every {given.get('interval')} s"
    return f"{rule} {given.get('timezone') or ''}".strip() + ("" if schedule["active"] else " (inactive)")
