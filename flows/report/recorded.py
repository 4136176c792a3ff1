"""Carry out a run from its first to its last word: events, steps, the log of runs, the facts for its report."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from flows.report.events import Events
from flows.report.facts import failed_facts, published_facts, record
from flows.report.report import RunFacts, Verdict, console_summary
from flows.run.console import error_console, wide_console
from flows.run.decisions import Choice
from flows.run.request import RunRequest, Step, new_request
from flows.run.steps import Outcome, run_medallion
from lakehouse.errors import GroupFailed, LakehouseError
from lakehouse.parameters import new_parameters
from lakehouse.releases import release
from lakehouse.settings import Settings
from lakehouse.storage.tables import Storage

T = TypeVar("T")


def plain_step(events: Events) -> Step:
    """Run steps in this process, without Prefect; `retries` and `minutes` are its business."""

    def step(name: str, work: Callable[[], T], *, retries: int = 0, minutes: float = 60) -> T:
        with events.task(name):
            return work()

    return step


def run_recorded(
    request: RunRequest,
    events: Events,
    step: Step,
    job: Callable[[RunRequest, Step], Outcome],
    report: Callable[[RunFacts], None],
    page: str | None = None,
) -> RunFacts:
    """Do a job, log what came of it, report it; errors: what the job raises, and GroupFailed after publishing.

    `page` is where the run is shown.
    """
    with events.flow(parameters=request.parameters.model_dump()) as learned:
        try:
            outcome = job(request, step)
        except BaseException as error:
            facts = replace(failed_facts(request, error), page=page)
            with suppress(LakehouseError):  # the failure itself is what must be told
                record(request, "", facts.verdict, " ".join(facts.reasons))
            _tell(report, facts)
            raise
        reasons = [f"Group {group} failed: {reason}" for group, reason in outcome.failures.items()]
        verdict: Verdict = "partial" if reasons else "published" if outcome.is_new else "nothing_new"
        facts = replace(published_facts(request, outcome, verdict, reasons), page=page)
        learned |= {"verdict": verdict, "release": outcome.release.release_id}
        record(request, outcome.run_key, verdict, " ".join(reasons))
        _tell(report, facts)
        if outcome.failures:
            raise GroupFailed(dict(outcome.failures))
        return facts


def run_decision(flow: str, settings: Settings, choice: Choice) -> RunFacts:
    """Carry out a choice with the parameters of the last release; errors: WrongUse, and those of the main job."""
    last = release.latest(Storage(settings.root))
    request = new_request(flow, settings, new_parameters(**last.parameters))
    choice(request)  # wrong use is told before anything starts; the run chooses again, on the release it then finds
    events = Events(settings.logs, flow, request.run_id, error_console())
    return run_recorded(request, events, plain_step(events), partial(run_medallion, look=choice), print_summary)


def _tell(report: Callable[[RunFacts], None], facts: RunFacts) -> None:
    """Report a run; what came of it stands, also where nobody takes the report."""
    try:
        report(facts)
    except Exception as error:  # noqa: BLE001  whatever it is: the run itself has ended
        reason = " ".join(str(error).split()) or type(error).__name__
        error_console().print(f"The report could not be written: {reason}", soft_wrap=True, markup=False)


def print_summary(facts: RunFacts) -> None:
    """Print what a release says in a few lines to standard output; a failure is told by who gets the error."""
    if facts.release_id is not None:
        wide_console().print(console_summary(facts))
