"""Run the main job from the command line: through Prefect where its API answers, else directly."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from flows.orchestration.client import PROJECT, point_prefect_at
from flows.orchestration.server import find_server, local_server, without_credentials
from flows.report.events import Events
from flows.report.recorded import plain_step, print_summary, run_recorded
from flows.run.changes import find_changes
from flows.run.console import error_console
from flows.run.request import MAIN_FLOW, RunRequest, new_request
from flows.run.resources import DEFAULT_RESOURCES, Resources
from flows.run.steps import run_medallion
from lakehouse.errors import LakehouseError, ServiceDown
from lakehouse.parameters import Parameters
from lakehouse.settings import Settings


def run_directly(
    settings: Settings,
    parameters: Parameters,
    source: Path | None,
    sync: bool,
    resources: Resources = DEFAULT_RESOURCES,
) -> None:
    """Run in this process, without a server; errors: those of the job."""
    request = new_request(MAIN_FLOW, settings, parameters, source, sync)
    events = Events(settings.logs, MAIN_FLOW, request.run_id, error_console())
    run_recorded(request, events, plain_step(events), partial(run_medallion, resources=resources), print_summary)


def run_with_prefect(settings: Settings, parameters: Parameters, source: Path | None, sync: bool, start: bool) -> None:
    """Run as a flow of the server that answers, or of one started for it; without news, or a server, directly.

    Errors: ServiceDown when a server that was asked for does not start, and those of the job.
    """
    starting = _begin_server(settings) if start and find_server(settings) is None else None
    if not _wants_server(new_request(MAIN_FLOW, settings, parameters, source, sync)):
        return run_directly(settings, parameters, source, sync)
    if starting is not None:
        starting.join()
    api_url = local_server(settings) if start else find_server(settings)
    if api_url is None:
        error_console().print("No Prefect API answers: running without it.")
        return run_directly(settings, parameters, source, sync)
    point_prefect_at(settings, api_url)
    from prefect import tags  # it reads its settings when it is imported

    from flows.medallion_etl import medallion_etl

    with tags(PROJECT), _at_work(api_url):
        medallion_etl(source_path=str(source) if source else None, sync_to_frontend=sync, **parameters.model_dump())
    return None


def _wants_server(request: RunRequest) -> bool:
    """Say whether there is anything new, or a service does not answer, which Prefect tries again.

    What else is in the way a run meets again, and records it.
    """
    try:
        return not find_changes(request).is_nothing
    except ServiceDown:
        return True
    except LakehouseError:
        return False


@contextmanager
def _at_work(api_url: str) -> Iterator[None]:
    """Turn what Prefect says when it does not answer any more into a sentence."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "prefect"):
            raise
        reason = f"it failed while the job ran: {' '.join(str(error).split()) or type(error).__name__}"[:300]
        where = without_credentials(api_url)
        raise ServiceDown("Prefect", where, reason, "Run again, or with --no-prefect.") from None


def _begin_server(settings: Settings) -> threading.Thread:
    """Start the server while there is other work to do; whether it answers is asked later."""

    def begin() -> None:
        with suppress(LakehouseError):
            local_server(settings)

    thread = threading.Thread(target=begin, name="prefect-server", daemon=True)
    thread.start()
    return thread
