"""Run an order from its first to its last word: events, steps, the log of runs, the facts for its report."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from flows.commands.output import wide_console
from flows.report.events import Events, error_console
from flows.report.facts import failed_facts, published_facts, record
from flows.report.report import RunFacts, Verdict, console_summary
from flows.run.request import Order, Step
from flows.run.steps import Outcome
from lakehouse.errors import GroupFailed, LakehouseError

T = TypeVar("T")


def direct(events: Events) -> Step:
    """Run steps in this process, without Prefect; `retries` and `minutes` are its business."""

    def step(name: str, work: Callable[[], T], *, retries: int = 0, minutes: float = 60) -> T:
        with events.task(name):
            return work()

    return step


def carried_out(
    order: Order,
    events: Events,
    step: Step,
    job: Callable[[Order, Step], Outcome],
    report: Callable[[RunFacts], None],
    page: str | None = None,
) -> RunFacts:
    """Do a job, log what came of it, report it; errors: what the job raises, and GroupFailed after publishing.

    `page` is where the run is shown.
    """
    with events.flow(parameters=order.parameters.model_dump()) as learned:
        try:
            outcome = job(order, step)
        except BaseException as error:
            facts = replace(failed_facts(order, error), page=page)
            with suppress(LakehouseError):  # the failure itself is what must be told
                record(order, "", facts.verdict, " ".join(facts.reasons))
            _tell(report, facts)
            raise
        reasons = [f"Group {group} failed: {reason}" for group, reason in outcome.failures.items()]
        verdict: Verdict = "partial" if reasons else "published" if outcome.is_new else "nothing_new"
        facts = replace(published_facts(order, outcome, verdict, reasons), page=page)
        learned |= {"verdict": verdict, "release": outcome.release.release_id}
        record(order, outcome.run_key, verdict, " ".join(reasons))
        _tell(report, facts)
        if outcome.failures:
            raise GroupFailed(dict(outcome.failures))
        return facts


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
