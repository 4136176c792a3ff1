"""Exports to the front end."""

from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from prefect import flow

from flows.orchestration.tasks import prefect_step
from flows.report.events import Events
from flows.run.console import error_console
from flows.run.request import front_end, new_request
from flows.run.steps import sync
from lakehouse.exports.objects import fetch
from lakehouse.exports.publish import SyncCounts
from lakehouse.parameters import new_parameters
from lakehouse.settings import Settings, load_settings


@flow(name="output-sync")
def output_sync(frontend_path: str | None = None) -> dict[str, int]:
    """Make `frontend_path` (else FRONTEND_PATH) equal to the exports; give how many files were copied and removed."""
    settings = load_settings()
    frontend = Path(frontend_path) if frontend_path else front_end(settings)
    request = new_request("output-sync", settings, new_parameters())
    events = Events(settings.logs, request.flow, request.run_id, error_console())
    with events.flow(frontend=frontend) as learned:
        counts = asdict(prefect_step(events)("sync", partial(_copy, settings, frontend), retries=2))
        learned.update(counts)
        return counts


def _copy(settings: Settings, frontend: Path) -> SyncCounts:
    """Copy the exports where they are published: as objects, or in their folder."""
    with fetch(settings.exports_address) if settings.exports_address else nullcontext(settings.exports) as folder:
        return sync(settings, folder, frontend)
