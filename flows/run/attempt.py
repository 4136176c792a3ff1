"""One attempt at a release: what it wrote, what was found wrong, what it publishes."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from threading import Thread

import pyarrow as pa
import pyarrow.compute as pc

from flows.run.changes import News
from flows.run.counting import Counts, counted_now, counts_of
from flows.run.recounting import Recounting
from flows.run.request import Order
from flows.run.resources import MEANS, Means
from lakehouse import catalog
from lakehouse.engine.building import Building, Scope, Workshop, Written, condition, finished
from lakehouse.errors import BadInput, Blocked, BuildFailed, LakehouseError
from lakehouse.kernels.growth import rows_at_the_end
from lakehouse.ops import corrections, ledger, quality_results, quarantine, sources
from lakehouse.releases import release
from lakehouse.releases.release import Base, Release
from lakehouse.silver import categories, product_categories, receipts, sales_days
from lakehouse.table import Layer, ReplaceMonths, Table
from lakehouse.version import code_version
from quality import gates
from quality.ledger.ledger import BRONZE, accounts, earlier_counts
from quality.suites.worker import Worker
from quality.verdict import Verdict

RULED = (receipts.TABLE, quarantine.TABLE)
REFERENCE_TABLES = {"categories": categories.TABLE, "product_categories": product_categories.TABLE}


@dataclass
class Attempt:
    """What is under way: the workshop, the checks that run beside it, and what came of both."""

    order: Order
    base: Base
    shop: Workshop
    checks: Worker
    written: dict[str, Written] = field(default_factory=dict)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    pending: list[Future[list[Verdict]]] = field(default_factory=list)
    oracle: Recounting = field(default_factory=Recounting)
    attached: Future[None] | None = None
    documents: Future[None] | None = None
    counts: Counts = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    building: Building | None = None

    @property
    def is_new_code(self) -> bool:
        """Say whether other code made the last release, or there is none: then everything is built anew."""
        return self.base.release is None or not self.base.release.is_of_this_code

    @property
    def _is_upon_verified(self) -> bool:
        """Say whether the last release was held to the checks its tables declare now: then only new rows have to be."""
        return self.base.release is not None and self.base.release.verified and not self.is_new_code

    def land(self, found: News) -> None:
        """Write the table of sources, what was decided, and the lines of new sources; known ones keep their lines.

        Errors: Blocked when a file is not what was admitted any more.
        """
        admission, base = found.admission, self.base.release
        self.counts = counts_of(found, earlier_counts(self.order.storage, self.base.versions), self.checks)
        self._begin_checks()
        self._record(sources.TABLE, admission.rows)
        if found.decided is not None:
            self._record(corrections.TABLE, found.decided.corrections)
        self.shop = replace(self.shop, scope=Scope(admission.touched if base else None, grown=admission.grown))
        try:
            self._build(table for entity, table in BRONZE.items() if base is None or entity in found.landed_entities)
        except BuildFailed as error:
            if error.kind != BadInput.__name__:
                raise
            raise Blocked([error.reason]) from error

    def keep_rules(self, found: News) -> None:
        """Write the receipts that keep the row rules, and quarantine the lines that do not."""
        if self.is_new_code:
            self.shop = replace(self.shop, scope=Scope())
            return self._build([*RULED, *REFERENCE_TABLES.values()])
        before = self._touched(self.base.versions[receipts.TABLE.qualified_name], found)
        self._build(
            [*RULED, *(table for entity, table in REFERENCE_TABLES.items() if entity in found.touched_entities)]
        )
        if found.touched_entities <= {"transactions"}:
            after = self._touched(self.shop.versions[receipts.TABLE.qualified_name], found)
            rows = pa.concat_tables([before, after])
            months, customers = frozenset(pc.unique(rows["month"]).to_pylist()), pc.unique(rows["customer_id"])
            self.shop = replace(self.shop, scope=replace(self.shop.scope, months=months, customers=customers))
        return None

    def account(self, found: News) -> None:
        """Hold every source to nothing missing, and write the ledger when one is touched or renamed; errors: Blocked.

        Errors, besides: BadInput for a source that cannot be counted.
        """
        counted = {source_id: (one[0], counted_now(*one)) for source_id, one in self.counts.items()}
        rows = accounts(self.order.storage, self.shop.versions, counted, self.order.run_id)
        touched = self.shop.scope.sources
        if touched != frozenset() or sources.TABLE.qualified_name in self.written:
            self._record(ledger.TABLE, rows)
        version = self.shop.versions[ledger.TABLE.qualified_name]
        found_all = gates.ledger_gate(rows, version)
        shares = gates.quarantine_gate(rows, version, self.order.parameters)
        self._judge([("ledger", v) for v in found_all] + [("quarantine_share", v) for v in shares])
        if self.order.parameters.enable_quality_checks:
            self.oracle.begin(self.order.storage, self.base, found.current, dict(self.shop.versions), touched)

    def touch_nothing(self, found: News) -> None:
        """Leave every source and month as it is, and note deliveries that change none."""
        self.counts = counts_of(found, earlier_counts(self.order.storage, self.base.versions), self.checks)
        self._begin_checks()
        self.shop = replace(self.shop, scope=Scope(frozenset(), frozenset(), customers=pa.array([], pa.int64())))
        if not found.admission.is_recorded:
            self._record(sources.TABLE, found.admission.rows)

    def begin_building(self, tables: Iterable[Table]) -> None:
        """Begin building tables; `wait` for those that are needed."""
        untouched = self.shop.scope.months == frozenset()
        wanted = [t for t in tables if not (untouched and isinstance(t.write, ReplaceMonths))]
        chosen = [catalog.entry(t.qualified_name) for t in wanted]
        self.building = Building(self.shop, chosen, self._note)

    def wait(self, tables: Iterable[Table]) -> dict[str, int]:
        """Wait for tables that are being built; give their rows."""
        assert self.building is not None
        return {w.table.qualified_name: w.rows for w in self.building.wait(tables)}

    def tolerate(self, group: str, work: Callable[[], object]) -> None:
        """Do a group's work; tables that fail or take too long keep their last version, and it is told at the end.

        Silver of the group alone that failed is left empty: with earlier rows it would miss what this run brings.
        Errors: those of `work` that are not of the tables, and that silver took too long.
        """
        assert self.building is not None
        try:
            work()
        except Exception as error:
            missing = [t for t in catalog.tables(Layer.SILVER, group) if t.qualified_name not in self.written]
            is_late = isinstance(error, TimeoutError) and not missing  # it may still be written
            if not (is_late or self.building.has_failed(missing or catalog.tables(group=group))):
                raise
            self.failures[group] = str(error) or type(error).__name__
            for table in missing:
                self._record(table, table.arrow_schema.empty_table())

    @property
    def _is_verified(self) -> bool:
        """Say whether all that is to be published was held to the checks: by this run, or by those before it."""
        gold = {table.qualified_name for table in catalog.tables(Layer.GOLD)}
        is_whole = gold & set(self.versions) <= set(self.new)
        return self.order.parameters.enable_quality_checks and (self._is_upon_verified or is_whole)

    @property
    def _failed(self) -> dict[str, int]:
        """Give the tables of failed groups with the versions they keep; some may still be being written."""
        tables = (t.qualified_name for group in self.failures for t in catalog.tables(Layer.GOLD, group))
        return {name: self.base.versions[name] for name in tables}

    @property
    def versions(self) -> dict[str, int]:
        """Give the version of every table that is to be published."""
        return self.shop.versions | self._failed

    @property
    def new(self) -> dict[str, Written]:
        """Give what was written and is to be published."""
        failed = self._failed
        return {name: written for name, written in list(self.written.items()) if name not in failed}

    def judge(self) -> None:
        """Wait for the checks of everything written and hold it to them; errors: Blocked."""
        if not self.order.parameters.enable_quality_checks:
            return
        assert self.attached is not None
        self.attached.result()
        if not self._is_upon_verified:
            self._check_unwritten()
        version = self.shop.versions[sales_days.TABLE.qualified_name]
        versions = self.versions
        found = [("volume", v) for v in gates.volume_gate(self.order.storage, version, self.order.parameters)]
        recounted = [("oracle", v) for v in self.oracle.verdicts(versions, self.new)]  # while suites still run
        suites = [("suite", v) for future in self.pending for v in future.result()]
        self.documents = self.checks.submit_documents(self.order.settings.documents)
        suites = [(gate, v) for gate, v in suites if versions.get(v.table) == v.version]
        self._judge(found + suites + recounted)

    def document(self) -> str:
        """Wait for the Data Docs of the suites; give their folder."""
        if self.documents is not None:
            self.documents.result()
        return str(self.order.settings.documents)

    def publish(self, found: News) -> Release:
        """Commit the release: from here on readers see it."""
        base = self.base.release
        number = base.release_id + 1 if base else 1
        groups = {group: made for group, made in base.groups.items() if group in catalog.groups()} if base else {}
        new = self.new
        built = {t.group for t in catalog.tables(Layer.GOLD) if t.qualified_name in new and t.group}
        versions = self.versions
        digests = {name: value for name, value in base.digests.items() if name in versions} if base else {}
        digests |= {name: w.digest for name, w in new.items() if w.digest}
        parameters = {name: str(value) for name, value in self.order.parameters.model_dump().items()}
        published = Release(
            release_id=number,
            parent=base.release_id if base else None,
            run_id=self.order.run_id,
            run_key="" if self.failures else found.run_key,  # a group that failed is tried again by the next run
            created_at=self.order.started_at,
            published_at=datetime.now(UTC),
            tables=versions,
            groups=groups | dict.fromkeys(built, number),
            inputs_hash=found.inputs_hash,
            digests=digests,
            parameters=parameters,
            code_version=code_version(),
            engine=self.shop.engine.name,
            verified=self._is_verified,
        )
        release.commit(self.order.storage, published, self.base)
        return published

    def _begin_checks(self) -> None:
        """Connect the process of the checks to the engine: after the counts, which the ledger waits for."""
        if self.order.parameters.enable_quality_checks:
            self.attached = self.checks.attach(self.shop.engine.address)

    def _build(self, tables: Iterable[Table]) -> None:
        chosen = list(tables)
        building = Building(self.shop, [catalog.entry(t.qualified_name) for t in chosen], self._note)
        try:
            building.wait(chosen)
        finally:
            building.close()

    def _record(self, table: Table, rows: pa.Table) -> Written:
        """Write rows that the run itself made."""
        started = time.monotonic()
        touched = condition(table, self.shop.scope)
        self.shop.hold()
        version = self.order.storage.write(table, rows.to_reader(), self.order.run_id, touched)
        written = finished(self.shop, table, version, started)
        self._note(written)
        return written

    def _note(self, written: Written) -> None:
        """Remember a table written, and have its suite run on that version."""
        name = written.table.qualified_name
        self.written[name] = written
        if self.order.parameters.enable_quality_checks:
            touched = condition(written.table, self.shop.scope) if self._is_upon_verified else None
            self._check(written.table, written.version, touched)

    def _check(self, table: Table, version: int, touched: str | None = None) -> None:
        uri = self.shop.engine.way_to(self.order.storage.uri(table))
        self.pending.append(self.checks.submit_check(table.qualified_name, uri, version, touched))

    def _check_unwritten(self) -> None:
        """Have the suites run on what this run leaves as nobody, or other code, has checked it."""
        new, versions = self.new, self.versions
        known = self.base.release.known if self.base.release else []
        for table in (t for t in known if t.qualified_name not in new):
            version = versions[table.qualified_name]
            if self.order.storage.count(table, version):  # of a group that never was built there is nothing
                self._check(table, version)

    def _judge(self, found: list[tuple[str, Verdict]]) -> None:
        self.verdicts += found
        if reasons := gates.broken(v for _, v in found):
            with suppress(LakehouseError):  # the reasons are told, with pages or without
                self.document()
            raise Blocked(reasons)

    def _touched(self, version: int, found: News) -> pa.Table:
        """Give months and customers of the receipts that change; lines a grown source took over are as they were."""
        columns = ["month", "customer_id", "source_id", "line_number"]
        rows = self.order.storage.rows(receipts.TABLE, version, columns, found.touched_lines)
        return rows_at_the_end(rows, found.admission.grown)


@contextmanager
def attempt(order: Order, base: Base, checks: Worker, means: Means = MEANS) -> Iterator[Attempt]:
    """Start the engine, and end it; what was found is recorded whatever happens."""
    Thread(target=import_module, args=("sklearn.cluster",), daemon=True).start()  # two seconds nobody waits for
    with means.engine(order.settings) as running:
        versions = dict(base.versions)
        shop = Workshop(running, order.storage, order.parameters, order.run_id, versions, hold=base.lease.hold)
        work = Attempt(order, base, shop, checks)
        try:
            yield work
        except BaseException:
            running.interrupt()  # nobody waits any more for what is under way
            raise
        finally:
            if work.building is not None:
                work.building.close()
            work.oracle.close()
            if work.verdicts:
                order.storage.create(quality_results.TABLE, order.run_id)
                order.storage.append(quality_results.TABLE, _results(order, work.verdicts), order.run_id)


def _results(order: Order, verdicts: list[tuple[str, Verdict]]) -> list[dict[str, object]]:
    return [{"run_id": order.run_id, "gate": gate, **v._asdict()} for gate, v in verdicts]
