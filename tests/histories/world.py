"""A lakehouse to which a history happens, held after every run to what it must be."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from flows.report.events import Events
from flows.report.recorded import plain_step, run_recorded
from flows.report.report import RunFacts
from flows.run import decisions
from flows.run.changes import Changes, find_changes
from flows.run.decisions import Choice, DecisionContext, DecisionReason
from flows.run.request import RunRequest, new_request
from flows.run.resources import Resources
from flows.run.steps import export, run_medallion
from lakehouse import catalog
from lakehouse.engine.building import digest_of
from lakehouse.engine.session import Engine
from lakehouse.exports.publish import holds
from lakehouse.parameters import Parameters, new_parameters
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.settings import load_settings
from lakehouse.sources import landing
from lakehouse.sources.admission import heads_of
from lakehouse.sources.landing import Delivery
from lakehouse.storage import durable
from lakehouse.storage.tables import Storage
from lakehouse.table import Layer
from quality.suites.worker import Worker
from tests.histories.kills import Killed, Killer
from tests.histories.shop import BROKEN, PRODUCTS, REFERENCES, Decision, Shop, source_id_of
from tests.histories.steps import (
    Again,
    Deliver,
    Fix,
    Grow,
    Kill,
    Refer,
    Replay,
    RollBack,
    Run,
    Spoil,
    Step,
    Withdraw,
)
from tests.waiting import HANG_SECONDS

ASKED = {"min_rows_threshold": 0, "max_quarantine_pct": 100, "min_support": 0.2, "max_itemset_size": 2}
LONG, SHORT = 3600.0, 1.0  # a lease that is never beaten for, and one that the next run takes over within a second
ANA = DecisionReason("Ana", "read from the till roll")
ENTITIES = dict(zip(PRODUCTS, ("categories", "product_categories"), strict=True))
FIRST = {"transactions/a.csv": b"2024-01-10|1|1|1 2\n2024-02-29|1|2|2 2 3\n2024-01-10|1|7|4 x\n2024-03-31|2|1|1 4\n"}

Digests = dict[str, str]


@dataclass(frozen=True)
class Kept:
    """An engine and a worker that stay from run to run."""

    engine: Engine
    worker: Worker

    @property
    def resources(self) -> Resources:
        def lent(_: object) -> AbstractContextManager[Engine]:
            return nullcontext(self.engine)

        return Resources(lent, lambda: nullcontext(self.worker))


class World:
    """A lakehouse, its landing, and what it must hold; `shop` is None before the first release."""

    def __init__(self, folder: Path, kept: Kept, files: dict[str, bytes] | None = None) -> None:
        self.folder, self.kept = folder, kept
        self.settings = load_settings(lakehouse_home=folder / "home", lease_wait_seconds=HANG_SECONDS)
        self.landing: dict[str, bytes] = dict(zip(PRODUCTS, REFERENCES[0], strict=True)) | (files or {})
        self.published: list[Shop] = []
        self.is_cut_off = False
        for path, content in self.landing.items():
            self.put(path, content)

    @property
    def storage(self) -> Storage:
        return Storage(self.settings.root)

    @property
    def shop(self) -> Shop:
        return self.published[-1] if self.published else Shop()

    def take(self, step: Step) -> None:
        """Let a step happen."""
        match step:
            case Deliver(path, content):
                self.put(path, content)
            case Grow(path, lines):
                old = self.landing.get(path, b"")
                self.put(path, old + _joint(old) + lines)
            case Spoil(path, line) if path in self.landing:
                rest = self.landing[path].partition(b"\n")[1:]
                self.put(path, line + b"".join(rest))
            case Again(path, to, moves) if path in self.landing and path != to:
                self.put(to, self.landing[path])
                if moves:
                    del self.landing[path]
                    (self.folder / path).unlink()
            case Refer(number):
                for path, content in zip(PRODUCTS, REFERENCES[number], strict=True):
                    self.put(path, content)
            case Run(twice, checks):
                self._run(2 if twice else 1, checks)
            case Kill(at, moment):
                self._run_killed(Killer(at, moment))
            case _ if self.published:
                self._decide(step)

    def settle(self) -> None:
        """Run once more: what waits is taken in, and after that nothing is new."""
        self._run()
        if self.published:
            before = release.latest(self.storage)
            assert self.main().verdict == "nothing_new"
            assert release.latest(self.storage) == before

    def digests(self, layers: tuple[Layer, ...] = (Layer.SILVER, Layer.GOLD)) -> Digests:
        """Digest the tables readers see."""
        seen = release.latest(self.storage)
        tables = [t for layer in layers for t in catalog.tables(layer)]
        return {t.qualified_name: digest_of(self.storage, t, seen.tables[t.qualified_name]) for t in tables}

    def decide_all(self, decisions: tuple[Decision, ...]) -> None:
        """Decide about lines in one run."""

        def choice(request: RunRequest) -> Changes:
            context = DecisionContext.of(request)
            paths = {content: path for path, content in self.shop.heads.items()}
            lines = [
                (context.line_of(paths[d.content], d.line_number), d.line.decode() if d.line is not None else None)
                for d in decisions
            ]
            return context.changes_by("fix", lines, ANA)

        shop = self.shop
        for decision in decisions:
            shop = shop.deciding(decision)
        self._job(choice)
        self._published_as(shop)

    def put(self, path: str, content: bytes) -> None:
        """Write a file into the landing."""
        self.landing[path] = content
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _run(self, times: int = 1, checks: bool = False) -> None:
        if not self.has_transactions:
            return
        expected = self.shop.taking_in(self.landing)
        threads = [threading.Thread(target=self.main, args=(checks,)) for _ in range(times - 1)]
        for thread in threads:
            thread.start()
        self.main(checks)
        for thread in threads:
            thread.join()
        self._published_as(expected)

    def _run_killed(self, killer: Killer) -> None:
        if not self.has_transactions:
            return
        before, expected = len(release.history(self.storage)), self.shop.taking_in(self.landing)
        durable.watch(killer)
        try:
            self.main(seconds=SHORT)
        except Killed:
            pass
        finally:
            durable.watch(durable.nobody)
        if len(release.history(self.storage)) > before:
            self.published.append(expected)
        elif not killer.is_dead:
            self._published_as(expected)
        self.hold(may_lag=killer.is_dead)

    def _decide(self, step: Step) -> None:
        shop = self.shop
        match step:
            case Fix(which, line) if shop.refused:
                path, number, *_ = shop.refused[which % len(shop.refused)]
                text = line.decode() if line is not None else None
                if text is None:
                    self._job(partial(decisions.waive, path=path, number=number, reason=ANA))
                else:
                    self._job(partial(decisions.fix, path=path, number=number, text=text, reason=ANA))
                self._published_as(shop.deciding(Decision(shop.heads[path], number, line)))
            case Replay():
                self._job(decisions.replay)
                self._published_as(shop)
            case Withdraw(path) if path in shop.heads:
                self._job(partial(decisions.withdraw, path=path, reason=ANA))
                self._published_as(shop.without(path))
            case RollBack(which):
                self._roll_back(which % len(self.published))

    def _roll_back(self, index: int) -> None:
        request = self._order(False)
        with request.take_lease() as lease:
            again = release.roll_back(request.storage, index + 1, lease, request.started_at)
            export(request.settings, Snapshot(request.storage, again))
        self.published.append(self.published[index])
        self.hold()

    def _published_as(self, expected: Shop) -> None:
        """Learn whether there is a new release, and hold what readers see to what is expected."""
        number = len(release.history(self.storage))
        assert number - len(self.published) in (0, 1), "one run, at most one release"
        if number > len(self.published):
            self.published.append(expected)
        assert self.shop == expected, "what was delivered and decided is in no release"
        self.hold()

    def hold(self, may_lag: bool = False) -> None:
        """Compare what readers see with what it must be."""
        if not self.published:
            assert release.history(self.storage) == []
            return
        opened, shop = Snapshot(self.storage, release.latest(self.storage)), self.shop
        assert opened.release.release_id == len(self.published)
        assert may_lag or holds(self.settings.exports, opened.release.release_id, opened.release.created_at)
        found = opened.rows("silver.receipts").drop_columns(["month", "units"]).to_pylist()
        assert sorted((*tuple(row.values())[:5], tuple(row["products"])) for row in found) == shop.receipts
        for name, rows in shop.figures.items():
            key = catalog.entry(name).table.keys[0]
            assert [tuple(r.values()) for r in opened.rows(name).sort_by(key).to_pylist()] == rows, name
        _hold_accounts(opened, shop)

    @property
    def has_transactions(self) -> bool:
        return any(path not in PRODUCTS for path in self.landing)

    def _order(self, checks: bool, seconds: float = LONG) -> RunRequest:
        settings = self.settings.model_copy(update={"lease_seconds": seconds})
        return new_request("medallion-etl", settings, parameters(checks), self.folder)

    def main(self, checks: bool = False, seconds: float = LONG) -> RunFacts:
        """Run the main job; errors: its own."""
        return self._carried_out(self._order(checks, seconds), partial(find_changes, gather=_gathered))

    def _job(self, choice: Choice) -> RunFacts:
        return self._carried_out(self._order(False), choice)

    def _carried_out(self, request: RunRequest, look: Callable[[RunRequest], Changes]) -> RunFacts:
        events = Events(request.settings.logs, request.flow, request.run_id, Console(file=StringIO()))
        job = partial(run_medallion, look=look, resources=self.kept.resources)
        return run_recorded(request, events, plain_step(events), job, lambda _: None)


def parameters(checks: bool) -> Parameters:
    return new_parameters(enable_quality_checks=checks, **ASKED)


def _joint(content: bytes) -> bytes:
    """Give what is between a file and what is added to it: the end of its last line, which may be cut in a number."""
    if not content or content.endswith(b"\n"):
        return b""
    return b"5 5\n" if content.split(b"\n")[-1] not in BROKEN else b"\n"


def _gathered(request: RunRequest, known: pa.Table) -> tuple[list[Delivery], set[str]]:
    """Gather every entity from files: what PostgreSQL does to the reference files has its own tests."""
    assert request.source is not None
    products = [landing.delivery(entity, path, request.source / path) for path, entity in ENTITIES.items()]
    return landing.transaction_files(request.source, heads_of(known)) + products, set()


def _hold_accounts(opened: Snapshot, shop: Shop) -> None:
    """Compare sources, quarantine and ledger with the shop's own count of lines."""
    seen = {(r["path"], r["source_id"]): r["status"] for r in opened.rows("ops.sources").to_pylist()}
    counting = {key for key, status in seen.items() if status in ("current", "duplicate")}
    assert counting == {(path, source_id_of(content)) for path, content in shop.heads.items()}
    rejected = {key for key, status in seen.items() if status == "rejected"}
    assert rejected == {(path, source_id_of(content)) for path, content in shop.rejected}
    refused = [r for r in opened.rows("ops.quarantine").to_pylist() if r["entity"] == "transactions"]
    assert sorted((r["source_id"], r["line_number"], r["rule"], r["status"]) for r in refused) == sorted(
        (source_id_of(shop.heads[path]), number, rule, status) for path, number, _, rule, status in shop.refused
    )
    accounts: list[dict[str, Any]] = opened.rows("ops.ledger").to_pylist()
    assert [a for a in accounts if a["difference"]] == []
    hops = [a for a in accounts if a["hop"] == "bronze to silver"]
    assert {a["source_id"]: (a["expected"], a["quarantined"], a["waived"]) for a in hops} == shop.accounts
    units = {a["source_id"]: a for a in accounts if a["control"] == "units"}
    assert set(units) == {source_id_of(content) for content in shop.contents}
