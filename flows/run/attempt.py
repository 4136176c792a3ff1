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

from flows.run.changes import Changes
from flows.run.counting import Counts, counts_of, finished_count
from flows.run.recounting import Recounting
from flows.run.request import RunRequest
from flows.run.resources import DEFAULT_RESOURCES, Resources
from lakehouse import catalog
from lakehouse.engine.building import BuildContext, Building, Scope, Written, condition, note_commit
from lakehouse.errors import BadInput, Blocked, BuildFailed, LakehouseError
from lakehouse.kernels.growth import rows_at_the_end
from lakehouse.ops import corrections, ledger, quality_results, quarantine, sources
from lakehouse.releases import release
from lakehouse.releases.release import Base, Release
from lakehouse.silver import categories, product_categories, receipts, sales_days
from lakehouse.table import Layer, ReplaceMonths, Table
from lakehouse.version import code_version, require_loaded_code
from quality import gates
from quality.ledger.ledger import BRONZE, accounts, earlier_counts
from quality.suites.worker import Worker
from quality.verdict import Verdict

RULED = (receipts.TABLE, quarantine.TABLE)
REFERENCE_TABLES = {"categories": categories.TABLE, "product_categories": product_categories.TABLE}


@dataclass
class RunTransaction:
    """What is under way: the build context, the checks that run beside it, and what came of both."""

    request: RunRequest
    base: Base
    context: BuildContext
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

    def land(self, found: Changes) -> None:
        """Write the table of sources, what was decided, and the lines of new sources; known ones keep their lines.

        Errors: Blocked when a file is not what was admitted any more.
        """
        admission, base = found.admission, self.base.release
        self.counts = counts_of(found, earlier_counts(self.request.storage, self.base.versions), self.checks)
        self._begin_checks()
        self._record(sources.TABLE, admission.rows)
        if found.decided is not None:
            self._record(corrections.TABLE, found.decided.corrections)
        self.context = replace(
            self.context, scope=Scope(admission.touched_ids if base else None, grown=admission.grown)
        )
        try:
            self._build(table for entity, table in BRONZE.items() if base is None or entity in found.landed_entities)
        except BuildFailed as error:
            if error.kind != BadInput.__name__:
                raise
            raise Blocked([error.reason]) from error

    def keep_rules(self, found: Changes) -> None:
        """Write the receipts that keep the row rules, and quarantine the lines that do not."""
        if self.is_new_code:
            self.context = replace(self.context, scope=Scope())
            return self._build([*RULED, *REFERENCE_TABLES.values()])
        before = self._changed_receipts(self.base.versions[receipts.TABLE.qualified_name], found)
        self._build(
            [*RULED, *(table for entity, table in REFERENCE_TABLES.items() if entity in found.touched_entities)]
        )
        if found.touched_entities <= {"transactions"}:
            after = self._changed_receipts(self.context.versions[receipts.TABLE.qualified_name], found)
            rows = pa.concat_tables([before, after])
            months, customers = frozenset(pc.unique(rows["month"]).to_pylist()), pc.unique(rows["customer_id"])
            self.context = replace(self.context, scope=replace(self.context.scope, months=months, customers=customers))
        return None

    def account(self, found: Changes) -> None:
        """Hold every source to nothing missing, and write the ledger when one is touched or renamed; errors: Blocked.

        Errors, besides: BadInput for a source that cannot be counted.
        """
        counted = {source_id: (one[0], finished_count(*one)) for source_id, one in self.counts.items()}
        rows = accounts(self.request.storage, self.context.versions, counted, self.request.run_id)
        touched = self.context.scope.sources
        if touched != frozenset() or sources.TABLE.qualified_name in self.written:
            self._record(ledger.TABLE, rows)
        version = self.context.versions[ledger.TABLE.qualified_name]
        found_all = gates.ledger_gate(rows, version)
        shares = gates.quarantine_gate(rows, version, self.request.parameters)
        self._judge([("ledger", v) for v in found_all] + [("quarantine_share", v) for v in shares])
        if self.request.parameters.enable_quality_checks:
            self.oracle.begin(self.request.storage, self.base, found.current, dict(self.context.versions), touched)

    def touch_nothing(self, found: Changes) -> None:
        """Leave every source and month as it is, and note deliveries that change none."""
        self.counts = counts_of(found, earlier_counts(self.request.storage, self.base.versions), self.checks)
        self._begin_checks()
        self.context = replace(self.context, scope=Scope(frozenset(), frozenset(), customers=pa.array([], pa.int64())))
        if not found.admission.is_recorded:
            self._record(sources.TABLE, found.admission.rows)

    def begin_building(self, tables: Iterable[Table]) -> None:
        """Begin building tables; `wait` for those that are needed."""
        untouched = self.context.scope.months == frozenset()
        wanted = [t for t in tables if not (untouched and isinstance(t.write, ReplaceMonths))]
        chosen = [catalog.entry(t.qualified_name) for t in wanted]
        self.building = Building(self.context, chosen, self._note)

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
        return self.request.parameters.enable_quality_checks and (self._is_upon_verified or is_whole)

    @property
    def _failed_tables(self) -> dict[str, int]:
        """Give the tables of failed groups with the versions they keep; some may still be being written."""
        tables = (t.qualified_name for group in self.failures for t in catalog.tables(Layer.GOLD, group))
        return {name: self.base.versions[name] for name in tables}

    @property
    def versions(self) -> dict[str, int]:
        """Give the version of every table that is to be published."""
        return self.context.versions | self._failed_tables

    @property
    def new(self) -> dict[str, Written]:
        """Give what was written and is to be published."""
        failed = self._failed_tables
        return {name: written for name, written in list(self.written.items()) if name not in failed}

    def judge(self) -> None:
        """Wait for the checks of everything written and hold it to them; errors: Blocked."""
        if not self.request.parameters.enable_quality_checks:
            return
        assert self.attached is not None
        self.attached.result()
        if not self._is_upon_verified:
            self._check_unwritten()
        version = self.context.versions[sales_days.TABLE.qualified_name]
        versions = self.versions
        found = [("volume", v) for v in gates.volume_gate(self.request.storage, version, self.request.parameters)]
        recounted = [("oracle", v) for v in self.oracle.verdicts(versions, self.new)]  # while suites still run
        suites = [("suite", v) for future in self.pending for v in future.result()]
        self.documents = self.checks.submit_documents(self.request.settings.documents)
        suites = [(gate, v) for gate, v in suites if versions.get(v.table) == v.version]
        self._judge(found + suites + recounted)

    def document(self) -> str:
        """Wait for the Data Docs of the suites; give their folder."""
        if self.documents is not None:
            self.documents.result()
        return str(self.request.settings.documents)

    def publish(self, found: Changes) -> Release:
        """Commit the release: from here on readers see it. Errors: CodeChanged, and those of `release.commit`."""
        require_loaded_code()
        base = self.base.release
        number = base.release_id + 1 if base else 1
        groups = {group: made for group, made in base.groups.items() if group in catalog.groups()} if base else {}
        new = self.new
        built = {t.group for t in catalog.tables(Layer.GOLD) if t.qualified_name in new and t.group}
        versions = self.versions
        digests = {name: value for name, value in base.digests.items() if name in versions} if base else {}
        digests |= {name: w.digest for name, w in new.items() if w.digest}
        parameters = {name: str(value) for name, value in self.request.parameters.model_dump().items()}
        published = Release(
            release_id=number,
            parent=base.release_id if base else None,
            run_id=self.request.run_id,
            run_key="" if self.failures else found.run_key,  # a group that failed is tried again by the next run
            created_at=self.request.started_at,
            published_at=datetime.now(UTC),
            tables=versions,
            groups=groups | dict.fromkeys(built, number),
            inputs_hash=found.inputs_hash,
            digests=digests,
            parameters=parameters,
            code_version=code_version(),
            engine=self.context.engine.name,
            verified=self._is_verified,
        )
        release.commit(self.request.storage, published, self.base)
        return published

    def _begin_checks(self) -> None:
        """Connect the process of the checks to the engine: after the counts, which the ledger waits for."""
        if self.request.parameters.enable_quality_checks:
            self.attached = self.checks.attach(self.context.engine.address)

    def _build(self, tables: Iterable[Table]) -> None:
        chosen = list(tables)
        building = Building(self.context, [catalog.entry(t.qualified_name) for t in chosen], self._note)
        try:
            building.wait(chosen)
        finally:
            building.close()

    def _record(self, table: Table, rows: pa.Table) -> Written:
        """Write rows that the run itself made."""
        started = time.monotonic()
        touched = condition(table, self.context.scope)
        self.context.hold()
        version = self.request.storage.write(table, rows.to_reader(), self.request.run_id, touched)
        written = note_commit(self.context, table, version, started)
        self._note(written)
        return written

    def _note(self, written: Written) -> None:
        """Remember a table written, and have its suite run on that version."""
        name = written.table.qualified_name
        self.written[name] = written
        if self.request.parameters.enable_quality_checks:
            touched = condition(written.table, self.context.scope) if self._is_upon_verified else None
            self._check(written.table, written.version, touched)

    def _check(self, table: Table, version: int, touched: str | None = None) -> None:
        uri = self.context.engine.way_to(self.request.storage.uri(table))
        self.pending.append(self.checks.submit_check(table.qualified_name, uri, version, touched))

    def _check_unwritten(self) -> None:
        """Have the suites run on what this run leaves as nobody, or other code, has checked it."""
        new, versions = self.new, self.versions
        known = self.base.release.known_tables if self.base.release else []
        for table in (t for t in known if t.qualified_name not in new):
            version = versions[table.qualified_name]
            if self.request.storage.count(table, version):  # of a group that never was built there is nothing
                self._check(table, version)

    def _judge(self, found: list[tuple[str, Verdict]]) -> None:
        self.verdicts += found
        if reasons := gates.broken_gates(v for _, v in found):
            with suppress(LakehouseError):  # the reasons are told, with pages or without
                self.document()
            raise Blocked(reasons)

    def _changed_receipts(self, version: int, found: Changes) -> pa.Table:
        """Give months and customers of the receipts that change; lines a grown source took over are as they were."""
        columns = ["month", "customer_id", "source_id", "line_number"]
        rows = self.request.storage.rows(receipts.TABLE, version, columns, found.touched_lines)
        return rows_at_the_end(rows, found.admission.grown)


@contextmanager
def open_transaction(
    request: RunRequest, base: Base, checks: Worker, resources: Resources = DEFAULT_RESOURCES
) -> Iterator[RunTransaction]:
    """Start the engine, and end it; what was found is recorded whatever happens."""
    Thread(target=import_module, args=("sklearn.cluster",), daemon=True).start()  # two seconds nobody waits for
    with resources.engine(request.settings) as running:
        asked = (request.storage, request.parameters, request.run_id, dict(base.versions))
        context = BuildContext(running, *asked, hold=base.lease.hold)
        work = RunTransaction(request, base, context, checks)
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
                request.storage.create(quality_results.TABLE, request.run_id)
                request.storage.append(quality_results.TABLE, _results(request, work.verdicts), request.run_id)


def _results(request: RunRequest, verdicts: list[tuple[str, Verdict]]) -> list[dict[str, object]]:
    return [{"run_id": request.run_id, "gate": gate, **v._asdict()} for gate, v in verdicts]
