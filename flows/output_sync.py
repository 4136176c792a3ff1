"""Exports to the front end."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from prefect import flow

from flows.events import Events, error_console
from flows.order import ordered
from flows.tasks import as_tasks
from lakehouse.errors import BadInput
from lakehouse.exports.publish import synced
from lakehouse.parameters import validated
from lakehouse.settings import load_settings


@flow(name="output-sync")
def output_sync(frontend_path: str | None = None) -> dict[str, int]:
    """Make `frontend_path` (else FRONTEND_PATH) equal to the exports; give how many files were copied and removed."""
    settings = load_settings()
    frontend = Path(frontend_path) if frontend_path else settings.frontend_path
    if frontend is None:
        raise BadInput("FRONTEND_PATH", "it is not set", "Set it to the folder the front end reads.")
    order = ordered("output-sync", settings, validated())
    events = Events(settings.logs, order.flow, order.run_id, error_console())
    with events.flow(frontend=frontend) as learned:
        counts = asdict(as_tasks(events)("sync", partial(synced, settings.exports, frontend), retries=2))
        learned.update(counts)
        return counts
