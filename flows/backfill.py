"""The main job over chosen days, one after the other: for a landing that holds a long history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Literal

import pyarrow as pa
from prefect import flow

from flows.orchestration.tasks import run_as_flow
from flows.run.changes import Changes, deliveries, find_changes
from flows.run.console import error_console
from flows.run.request import MAIN_FLOW, RunRequest, new_request
from flows.run.resources import kept_open
from flows.run.steps import run_medallion
from lakehouse.errors import BadInput, WrongUse
from lakehouse.parameters import parameters_among
from lakehouse.settings import load_settings
from lakehouse.sources.admission import heads_of
from lakehouse.sources.days import Span, span_of
from lakehouse.sources.landing import Delivery

Waiting = Mapping[int, Span | None]
Sequenced = Literal["oldest_first", "newest_first"]
Releases = Literal["one_a_day", "one_in_all"]


@flow(name="backfill")
def backfill(
    first_day: date | None = None,
    last_day: date | None = None,
    order: Sequenced = "oldest_first",
    releases: Releases = "one_a_day",
    enable_quality_checks: bool = True,
    min_rows_threshold: int = 1_000,
    max_quarantine_pct: float = 5.0,
    n_clusters: int = 4,
    min_support: float = 0.005,
    min_confidence: float = 0.2,
    max_itemset_size: int = 3,
    sync_to_frontend: bool = False,
) -> list[int | None]:
    """Take in what waits in DATA_PATH of the days from `first_day` to `last_day`; give the releases.

    A source is taken in whole, on the day of its last line, when all its lines that keep the row rules are within the
    days; one that reaches beyond them is told, and goes on waiting. With TRANSACTIONS_SOURCE=postgres a source is a
    day. A day left out has no bound on that side. Each release is that of an ordinary run with what was taken in so
    far, though only the last one is held to `min_rows_threshold`: after that `medallion-etl`, asked the same, has
    nothing new. What is in the lakehouse does not wait any more, so a second start goes on where the first one ended. A
    day that fails or is blocked ends the flow; those before it stay published.
    """
    parameters = parameters_among(locals())
    if first_day and last_day and first_day > last_day:
        raise WrongUse("first_day", first_day.isoformat(), f"no later than last_day, {last_day.isoformat()}")
    settings = load_settings()
    gathered = Gathered()
    begin = partial(new_request, "backfill", settings, source=None, sync=sync_to_frontend)
    waiting = spans(find_changes(begin(parameters), gathered.all))
    within = {source: span for source, span in waiting.items() if span and _is_within(span, first_day, last_day)}
    _tell_left(gathered.found, waiting, within)
    days = sorted({span[1] for span in within.values()}, reverse=order == "newest_first")
    steps = [[day] for day in days] if releases == "one_a_day" else [days] if days else []
    left, published = set(waiting), list[int | None]()
    on_the_way = parameters.model_copy(update={"min_rows_threshold": 0})
    with kept_open(settings) as resources:
        for step in steps:
            left -= {source for source, span in within.items() if span[1] in step}
            error_console().print(f"backfill {', '.join(map(str, step))}", soft_wrap=True)
            look = _look(gathered, frozenset(left))
            asked = parameters if step == steps[-1] else on_the_way
            published.append(run_as_flow(begin(asked), partial(run_medallion, look=look, resources=resources)))
    return published


@dataclass
class Gathered:
    """What is delivered, gathered once: it is read once, however many releases it makes."""

    found: list[Delivery] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)

    def all(self, request: RunRequest, known: pa.Table) -> tuple[list[Delivery], set[str]]:
        """Gather all of it."""
        self.found, self.deleted = deliveries(request, known)
        return self.found, self.deleted

    def but(self, left: frozenset[int], _request: RunRequest, known: pa.Table) -> tuple[list[Delivery], set[str]]:
        """Give what was gathered but for some sources; what was deleted is deleted once."""
        return [one for one in self.found if one.source_id not in left], self.deleted & heads_of(known).keys()


def spans(found: Changes) -> Waiting:
    """Give the transactions sources that wait, each with its first and last day."""
    new = [one for one in found.admission.new if one.entity == "transactions"]
    try:
        return {one.source_id: span_of(one) for one in new}
    except OSError as error:
        remedy = "Put it back, or let it be readable, and start again."
        raise BadInput(str(error.filename), f"it cannot be read: {error.strerror}", remedy) from None


def _is_within(span: Span, first: date | None, last: date | None) -> bool:
    return (first is None or first <= span[0]) and (last is None or span[1] <= last)


def _look(gathered: Gathered, left: frozenset[int]) -> Callable[[RunRequest], Changes]:
    """Look at what was delivered but for what is left, under the key that an ordinary run has."""

    def look(request: RunRequest) -> Changes:
        seen = find_changes(request, partial(gathered.but, left))
        return replace(seen, run_key=replace(request, flow=MAIN_FLOW).key(seen.inputs_hash))

    return look


def _tell_left(found: Sequence[Delivery], waiting: Waiting, within: Waiting) -> None:
    for one in found:
        if one.source_id in waiting and one.source_id not in within:
            span = waiting[one.source_id]
            about = f"it holds {span[0]} to {span[1]}" if span else "no line of it keeps the row rules"
            error_console().print(f"{one.path} goes on waiting: {about}", soft_wrap=True)
