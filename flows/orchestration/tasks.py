"""Prefect around a run: steps as tasks, the report as an artifact, the run's page."""

from collections.abc import Callable
from typing import TypeVar

from prefect import runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task

from flows.orchestration.server import run_page
from flows.report.events import Events
from flows.report.recorded import print_summary, run_recorded
from flows.report.report import RunFacts, markdown
from flows.run.console import error_console
from flows.run.request import RunRequest, Step
from flows.run.steps import Outcome
from lakehouse.errors import ServiceDown

T = TypeVar("T")
RETRY_SECONDS = (2, 10)


def prefect_step(events: Events) -> Step:
    """Run steps as Prefect tasks; only what touches a network is tried again, and only when it did not answer."""

    def step(name: str, work: Callable[[], T], *, retries: int = 0, minutes: float = 60) -> T:
        @task(
            name=name,
            retries=retries,
            retry_delay_seconds=list(RETRY_SECONDS[:retries]) or None,
            retry_condition_fn=_is_passing,
            timeout_seconds=minutes * 60,
            cache_policy=NO_CACHE,
        )
        def run() -> T:
            with events.task(name):
                return work()

        return run()

    return step


def run_as_flow(request: RunRequest, job: Callable[[RunRequest, Step], Outcome]) -> int | None:
    """Carry out a run inside a flow run; give the release readers see. Errors: those of the job."""
    events = Events(request.settings.logs, request.flow, request.run_id, error_console())
    facts = run_recorded(request, events, prefect_step(events), job, _publish_report, page())
    return facts.release_id


def page() -> str | None:
    """Give the page of the flow run under way."""
    flow_run_id, api_url = runtime.flow_run.id, PREFECT_API_URL.value()
    return run_page(api_url, str(flow_run_id)) if flow_run_id and api_url else None


def _publish_report(facts: RunFacts) -> None:
    print_summary(facts)
    create_markdown_artifact(markdown(facts), key="run-report", description=f"{facts.flow}: {facts.verdict}")


def _is_passing(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    return isinstance(state.result(raise_on_failure=False), ServiceDown)
