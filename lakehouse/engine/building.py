"""Run builds in the catalogue's order, as many at a time as there is room for, and commit what they give."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import errors
from lakehouse.catalog import Entry
from lakehouse.engine.session import Engine
from lakehouse.errors import BuildFailed, InputFailed
from lakehouse.frames.kernels import Earlier, map_batches
from lakehouse.frames.schemas import spark_schema
from lakehouse.kernels.digest import digest
from lakehouse.kernels.growth import Grown, carried_rows, rows_at_the_end
from lakehouse.parameters import Parameters
from lakehouse.storage.tables import Storage, storage_errors
from lakehouse.table import DOUBLE, Layer, Replace, ReplaceMonths, ReplaceSources, Table

log = logging.getLogger(__name__)
WORKERS = 3
RAISED = re.compile(r"^(RuntimeError: External error: )*(?P<kind>[A-Za-z_][\w.]*): (?P<message>.+)$", re.MULTILINE)
REASON_CHARACTERS, AGAIN = 300, "Run again, and report it if it stays."
TOO_LARGE = "message larger than max"
FEWER = (
    "Of itemsets and rules there are fewer with a smaller max_itemset_size or a higher min_support or min_confidence, "
    "of decisions about lines when a file is delivered corrected."
)
MISREAD, MISREADINGS = "does not match the Python version at runtime", 4


@dataclass(frozen=True)
class Scope:
    """What a run touches; None is everything. Of sources that have `grown`, only lines at their end are built.

    Customers are those of receipts that come, go or change.
    """

    sources: frozenset[int] | None = None
    months: frozenset[str] | None = None
    grown: tuple[Grown, ...] = ()
    customers: pa.Array | None = None


@dataclass(frozen=True)
class Written:
    """A table just committed."""

    table: Table
    version: int
    rows: int
    seconds: float
    digest: str | None


@dataclass(frozen=True)
class BuildContext:
    """What builds are run with.

    `versions` says which version of each table is read: it grows as tables are written. `hold` is called before each
    write, and raises when this run may not write any more.
    """

    engine: Engine
    storage: Storage
    parameters: Parameters
    run_id: str
    versions: dict[str, int]
    scope: Scope = field(default_factory=Scope)
    hold: Callable[[], None] = lambda: None


def refresh(context: BuildContext, entry: Entry) -> Written:
    """Build one table of the versions at hand, commit it, and digest it when it is gold.

    Sail holds the Python of a function to the one it runs in, and now and then misreads that: up to 3.11 CPython
    writes its version anew each time it is asked, also when two threads ask. Nothing is written by then.
    Errors: BuildFailed for what the engine says, BrokenContract, StorageFailed.
    """
    name = entry.table.qualified_name
    for left in reversed(range(MISREADINGS + 1)):
        try:
            return _build_and_commit(context, entry)
        except (PySparkException, pa.ArrowException) as error:
            if MISREAD not in str(error) or not left:
                raise BuildFailed(name, *_reason(str(error))) from error
            log.info("%s is built again: %s", name, error)
    raise AssertionError("the last try returns or raises")


def _build_and_commit(context: BuildContext, entry: Entry) -> Written:
    started = time.monotonic()
    table = entry.table
    frames = {name: _input(context, table, given) for name, given in table.inputs.items()}
    extra: dict[str, object] = {"parameters": context.parameters} if entry.takes_parameters else {}
    extra |= {"earlier": _earlier(context, table)} if entry.takes_earlier else {}
    assert entry.build is not None
    built = entry.build(**frames, **extra)
    if context.scope.grown and isinstance(table.write, ReplaceSources):
        built = declared_frame(built, table).unionByName(_carried(context, table))
    touched = condition(table, context.scope)
    context.hold()
    if context.engine.commits and table.grows_with and not isinstance(built, pa.Table):
        version = context.storage.write_frame(table, declared_frame(built, table), context.run_id, touched)
    else:
        version = context.storage.write(table, rows_of(context.engine, built, table), context.run_id, touched)
    return note_commit(context, table, version, started)


def note_commit(context: BuildContext, table: Table, version: int, started: float) -> Written:
    """Note a committed version, and digest it when it is gold."""
    context.versions[table.qualified_name] = version
    count = context.storage.count(table, version)
    found = digest_of(context.storage, table, version) if table.layer is Layer.GOLD else None
    seconds = time.monotonic() - started
    log.info("%s: version %d, %d rows, %.2f s", table.qualified_name, version, count, seconds)
    return Written(table, version, count, seconds, found)


class Building:
    """Builds under way: each table is begun as soon as its inputs are there, a few at a time.

    The one on which the longest chain of others waits goes first, and alone: queries queue for the engine's few
    threads behind whatever kernels are at work. A table fails, and with it all that is made of it (InputFailed); the
    others go on.
    """

    def __init__(self, context: BuildContext, entries: Iterable[Entry], on_written: Callable[[Written], None]) -> None:
        self._context, self._on_written = context, on_written
        self._lock = threading.RLock()
        chosen = {e.table.qualified_name: e for e in entries}
        self._needs = {name: _inputs(e.table) & set(chosen) for name, e in chosen.items()}
        order = urgent_first(self._needs)
        self._waiting, self._first = {name: chosen[name] for name in order}, order[:1]
        self._results: dict[str, Future[Written]] = {name: Future() for name in chosen}
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="build")
        self._advance()

    def wait(self, tables: Iterable[Table]) -> list[Written]:
        """Wait until every one of the tables is written or failed; errors: the first one's that failed."""
        results = [self._results[t.qualified_name] for t in tables if t.qualified_name in self._results]
        wait(results)  # whoever puts the others back after a failure must not meet one that is still being written
        return [result.result() for result in results]

    def has_failed(self, tables: Iterable[Table]) -> bool:
        """Say whether one of the tables failed already."""
        results = [self._results[t.qualified_name] for t in tables if t.qualified_name in self._results]
        return any(result.done() and result.exception() is not None for result in results)

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun; who still waits for the rest gets CancelledError."""
        with self._lock:
            for name in self._waiting:
                self._results[name].cancel()
                self._results[name].set_running_or_notify_cancel()
            self._waiting.clear()
        self._pool.shutdown(wait=True)

    def _advance(self) -> None:
        with self._lock:
            done = {name for name, result in self._results.items() if result.done()}
            able = self._waiting if done else self._first
            for name in [n for n in able if n in self._waiting and self._needs[n] <= done]:
                entry = self._waiting.pop(name)
                broken = sorted(n for n in self._needs[name] if self._results[n].exception() is not None)
                if broken:
                    self._results[name].set_exception(InputFailed(name, broken))
                    return self._advance()
                self._pool.submit(self._build, entry)
        return None

    def _build(self, entry: Entry) -> None:
        result = self._results[entry.table.qualified_name]
        try:
            written = refresh(self._context, entry)
            self._on_written(written)
            result.set_result(written)
        except BaseException as error:  # noqa: BLE001  whoever waits for the table gets it
            result.set_exception(error)
        self._advance()


def urgent_first(needs: Mapping[str, Set[str]]) -> list[str]:
    """Order tables by the longest chain that waits for them, longest first; `needs` says for which each waits."""
    chains = dict.fromkeys(needs, 0)

    def lengthen(name: str, length: int) -> None:
        chains[name] = max(chains[name], length)
        for needed in needs[name]:
            lengthen(needed, length + 1)

    for name in needs:
        lengthen(name, 0)
    return sorted(needs, key=lambda name: -chains[name])


def _reason(said: str) -> tuple[str, str]:
    """Give what an engine says in a sentence, and the error a kernel raised; one of ours is a sentence already."""
    if TOO_LARGE in said:
        return f"more rows are to be sent to the engine at once than it takes (128 MiB). {FEWER}", ""
    raised = RAISED.search(said.partition("Traceback (most recent call last)")[2])
    if raised is None:
        return f"{' '.join(said.split())[:REASON_CHARACTERS]}. {AGAIN}", ""
    kind, message = raised["kind"].rpartition(".")[2], raised["message"]
    return message if hasattr(errors, kind) else f"{kind}: {message[:REASON_CHARACTERS]}. {AGAIN}", kind


def rows_of(engine: Engine, built: DataFrame | pa.Table, table: Table) -> pa.RecordBatchReader:
    """Give the declared rows of what a build gave: a frame is run, and rows that it has already are not sent there."""
    if isinstance(built, pa.Table):
        return built.to_reader()
    return engine.rows(declared_frame(built, table), table.arrow_schema)


def declared_frame(frame: DataFrame, table: Table) -> DataFrame:
    """Give exactly the declared columns, cast, floats rounded half up to their digits the same way on every engine.

    The result knows its schema: no engine need be asked for it.
    """
    chosen = []
    for column in table.columns:
        value = F.col(column.name)
        if column.type is DOUBLE:
            power = float(10**column.digits)
            value = F.floor(value * power + 0.5) / F.lit(power)
        chosen.append(value.cast(column.type.sql).alias(column.name))
    return frame.select(*chosen).to(spark_schema(table.arrow_schema))


def condition(table: Table, scope: Scope) -> str | None:
    """Say in SQL which rows of a table a run replaces; None: all of them."""
    match table.write:
        case ReplaceSources() if scope.sources is not None:
            return _among("source_id", sorted(scope.sources))
        case ReplaceMonths() if scope.months is not None:
            return _among("month", [f"'{month}'" for month in sorted(scope.months)])
        case _:
            return None


def digest_of(storage: Storage, table: Table, version: int) -> str:
    """Digest a version's rows: equal for equal rows, whatever their order, files and engine. Errors: StorageFailed."""
    digits = {c.name: c.digits for c in table.columns}
    with storage_errors("read", storage.uri(table)):
        return digest(storage.dataset(table, version).to_batches(columns=[c.name for c in table.columns]), digits)


def _input(context: BuildContext, table: Table, given: Table) -> DataFrame:
    """Read an input at its version, only the rows that matter to what the run touches."""
    frame = _read(context, given)
    needed = None if isinstance(table.write, Replace) else condition(table, context.scope)
    column = needed.split(" ", 1)[0] if needed else ""
    columns = {c.name for c in given.columns}
    frame = frame.where(needed) if needed and column in columns else frame
    if (grown := context.scope.grown) and isinstance(table.write, ReplaceSources) and "line_number" in columns:
        return map_batches(frame, lambda rows: rows_at_the_end(rows, grown), given)
    return frame


def _carried(context: BuildContext, table: Table) -> DataFrame:
    """Give the rows the table has of lines that grown sources begin with, as theirs."""
    grown = context.scope.grown
    frame = _read(context, table).where(_among("source_id", sorted(g.grown_from for g in grown)))
    return map_batches(frame, lambda rows: carried_rows(rows, grown), table)


def _read(context: BuildContext, table: Table) -> DataFrame:
    """Open a table at its version, with the schema it has there: no engine need be asked for it any more."""
    version = context.versions[table.qualified_name]
    reader = context.engine.session.read.format("delta").option("versionAsOf", version)
    frame = reader.load(context.engine.way_to(context.storage.uri(table)))
    return frame.to(spark_schema(context.storage.dataset(table, version).schema))


def _earlier(context: BuildContext, table: Table) -> Earlier | None:
    """Give what a table can stand on: its rows before this run, unless everything is built anew."""
    months, customers = context.scope.months, context.scope.customers
    return None if months is None or customers is None else Earlier(_read(context, table), months, customers)


def _inputs(table: Table) -> set[str]:
    return {given.qualified_name for given in table.inputs.values()}


def _among(column: str, values: list[int] | list[str]) -> str:
    return f"{column} in ({', '.join(map(str, values))})" if values else f"{column} is null"
