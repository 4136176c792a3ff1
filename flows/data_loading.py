"""CSV files into PostgreSQL, staged and swapped in one transaction."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from prefect import flow

from flows.orchestration.tasks import prefect_step
from flows.report.events import Events
from flows.run.console import error_console
from flows.run.request import new_request
from lakehouse.errors import BadInput, WrongUse
from lakehouse.parameters import new_parameters
from lakehouse.settings import load_settings
from lakehouse.sources.postgres_load import load
from lakehouse.storage.objects import is_address


@flow(name="data-loading")
def data_loading(
    source_path: str | None = None, truncate: bool = True, include_transactions: bool = False
) -> dict[str, dict[str, int]]:
    """Load `source_path` (else DATA_PATH) into PostgreSQL; `truncate` replaces what is there. Give counts per table."""
    settings = load_settings()
    source = source_path or settings.data_path
    if not source:
        raise BadInput("DATA_PATH", "it is not set", "Set it, or give source_path.")
    if is_address(source):
        raise WrongUse("source_path", source, "a folder: files are loaded into PostgreSQL from where the flow runs")
    request = new_request("data-loading", settings, new_parameters())
    events = Events(settings.logs, request.flow, request.run_id, error_console())
    with events.flow(source=source, truncate=truncate) as learned:
        work = partial(load, settings, Path(source), truncate, include_transactions)
        counts = prefect_step(events)("load", work, retries=2 if truncate else 0)  # to add twice is to have it twice
        found = {entity: asdict(count) for entity, count in counts.items()}
        learned |= {"counts": found}
        return found
