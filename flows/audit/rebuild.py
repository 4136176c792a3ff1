"""Recompute a release from its own sources into a scratch root, and hold it to the digests it was published with."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa

from flows.audit.origins import LINES, Origin, sources_of
from flows.run.attempt import REFERENCE_TABLES, RULED, RunTransaction, open_transaction
from flows.run.changes import Changes
from flows.run.counting import known_count
from flows.run.request import Step, new_request
from flows.run.resources import quality_worker
from lakehouse import catalog
from lakehouse.errors import StorageFailed, WrongUse
from lakehouse.ops import sources
from lakehouse.parameters import Parameters, new_parameters
from lakehouse.releases import release
from lakehouse.releases.release import Release, Snapshot
from lakehouse.releases.retention import GRACE
from lakehouse.settings import Settings
from lakehouse.sources.admission import admit
from lakehouse.table import Layer, Table
from lakehouse.version import code_version
from quality.ledger.ledger import earlier_counts

SCRATCH = "rebuild-"
UNGATED = {"enable_quality_checks": False, "max_quarantine_pct": 100}  # gates decide what is published, not what is so


class Comparison(NamedTuple):
    """A gold table's digest as published and as rebuilt; `is_equal` is None where it was not rebuilt, with why."""

    table: str
    published: str
    rebuilt: str | None
    is_equal: bool | None
    why: str = ""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild found; `other_code` is the version of the code that made the release, where it is not this one."""

    release: Release
    origins: list[Origin]
    tables: list[Comparison]
    other_code: list[str]

    @property
    def different(self) -> list[str]:
        return [found.table for found in self.tables if found.is_equal is False]


@dataclass(frozen=True)
class Part:
    """Groups of a release that were made with the same parameters."""

    parameters: Parameters
    groups: tuple[str, ...]


def recompute(settings: Settings, opened: Snapshot, home: Path, step: Step) -> Rebuilt:
    """Recompute a release in a home of its own; the lakehouse itself is only read.

    A source's lines are read from its file while that holds the bytes that were delivered, else taken from the bronze
    tables of the release. Errors: Blocked when a line is missing, and what builds raise.
    """
    published = opened.release
    history = {r.release_id: r for r in release.history(opened.storage)}
    makers = {group: history[number] for group, number in published.groups.items()}
    parts = parts_of(published, makers, partial(_has_same_decisions, opened))
    here = {"lakehouse_home": home, "lakehouse_root": "", "spark_remote": ""}  # a Spark elsewhere sees no folder here
    scratch = settings.model_copy(update=here)
    request = new_request("rebuild", scratch, _parameters_of(published))
    deliveries, origins = step("sources", lambda: sources_of(opened, home / "sources"))
    restored = {d.source_id for d, o in zip(deliveries, origins, strict=True) if o.taken_from == LINES}
    known = {n: c for n, c in earlier_counts(opened.storage, published.tables).items() if n in restored}
    admission = admit(sources.TABLE.arrow_schema.empty_table(), deliveries, request.run_id, request.started_at)
    found = Changes(None, admission, published.inputs_hash, request.key(published.inputs_hash))
    digests: dict[str, str] = {}
    with quality_worker(request) as checks, request.take_lease() as lease:
        request = replace(request, storage=lease.storage)
        base = step("begin", lambda: release.begin(request.storage, request.run_id, lease))
        with open_transaction(request, base, checks) as work:
            _give(work, opened)
            step("bronze", lambda: work.land(found))
            work.counts |= {
                d.source_id: (d, known_count(known[d.source_id]._replace(bytes=d.bytes), d))
                for d in deliveries
                if d.source_id in known
            }
            step("rules", lambda: work.keep_rules(found))
            step("ledger", partial(work.account, found))
            for part in parts:
                digests |= step(f"gold {' '.join(part.groups)}", partial(_build, work, part))
            step("publish", lambda: work.publish(found))
    codes = {history[number].code_version for number in published.groups.values()} | {published.code_version}
    return Rebuilt(published, origins, _comparisons(published, digests), sorted(codes - {code_version()}))


def parts_of(
    published: Release, makers: Mapping[str, Release], has_same_decisions: Callable[[Release], bool]
) -> list[Part]:
    """Part the groups by the parameters they were made with; the last part has the release's own.

    `makers` are the releases that made the groups. A group that failed, and so is as of a release with other sources
    or decisions, is in no part: its own release rebuilds it.
    """
    parts: dict[Parameters, list[str]] = {_parameters_of(published): []}
    for group, made in sorted(makers.items()):
        if made.inputs_hash == published.inputs_hash and has_same_decisions(made):
            parts.setdefault(_parameters_of(made), []).append(group)
    return [Part(parameters, tuple(groups)) for parameters, groups in reversed(parts.items())]


@contextmanager
def scratch_home(settings: Settings, keep: Path | None) -> Iterator[Path]:
    """Give a folder for a rebuild: one under the home that is removed afterwards, or `keep`, which must be empty.

    What a killed rebuild left is removed a day later. Errors: WrongUse, StorageFailed.
    """
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise WrongUse("--keep", str(keep), "a folder that is empty or not there yet")
    home = keep or settings.lakehouse_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = None if keep is not None else TemporaryDirectory(prefix=SCRATCH, dir=home.absolute())
    except OSError as error:
        raise StorageFailed("make", str(home), str(error.strerror), "Name a folder that can be written.") from None
    if scratch is None:
        yield home.absolute()
        return
    for left in home.glob(f"{SCRATCH}*"):
        with suppress(FileNotFoundError):  # another rebuild removed it
            if left.is_dir() and time.time() - left.stat().st_mtime > GRACE.total_seconds():
                shutil.rmtree(left, ignore_errors=True)
    with scratch as folder:
        yield Path(folder)


def facts_of(found: Rebuilt) -> dict[str, object]:
    """Say in a few facts what a rebuild found."""
    return {
        "release": found.release.release_id,
        "equal": sum(c.is_equal is True for c in found.tables),
        "different": found.different,
        "not_rebuilt": [c.table for c in found.tables if c.is_equal is None],
        "made_by_other_code": found.other_code,
        "sources": len(found.origins),
        "taken_from_bronze": [origin.path for origin in found.origins if origin.taken_from == LINES],
    }


def _parameters_of(made: Release) -> Parameters:
    return new_parameters(**(made.parameters | UNGATED))


def _decision_tables() -> list[Table]:
    """Name the tables that builds read and none makes, besides the sources: what people decided."""
    read = {given.qualified_name for entry in catalog.entries() for given in entry.table.inputs.values()}
    recorded = [entry.table for entry in catalog.entries() if entry.build is None and not entry.table.is_log]
    return [t for t in recorded if t.qualified_name in read - {sources.TABLE.qualified_name}]


def _has_same_decisions(opened: Snapshot, made: Release) -> bool:
    """Compare rows where versions differ, because a restored one has the rows of another. One that is gone differs."""

    def decisions(table: Table, version: int) -> pa.Table:
        return opened.storage.rows(table, version).sort_by([(key, "ascending") for key in table.keys])

    def is_same(table: Table) -> bool:
        one, other = (by.tables.get(table.qualified_name, 0) for by in (made, opened.release))  # 0 is empty
        return one == other or bool(decisions(table, one).equals(decisions(table, other)))

    try:
        return all(map(is_same, _decision_tables()))
    except StorageFailed:
        return False


def _give(work: RunTransaction, opened: Snapshot) -> None:
    """Take over what people decided, as the release has it."""
    for table in _decision_tables():
        if table.qualified_name in opened.release.tables:
            rows = opened.rows(table.qualified_name).to_reader()
            work.context.versions[table.qualified_name] = work.request.storage.write(table, rows, work.request.run_id)


def _build(work: RunTransaction, part: Part) -> dict[str, str]:
    """Build silver and gold with the parameters of a part; give the digests of its groups' tables."""
    work.context = replace(work.context, parameters=part.parameters)
    asked = {t.qualified_name for group in part.groups for t in catalog.tables(Layer.GOLD, group)}
    made = [t for layer in (Layer.SILVER, Layer.GOLD) for t in catalog.tables(layer)]
    needed = [t for t in made if asked & {t.qualified_name, *catalog.downstream(t.qualified_name)}]
    tables = [t for t in needed if t not in (*RULED, *REFERENCE_TABLES.values())]
    work.begin_building(tables)
    work.wait(tables)
    return {name: work.written[name].digest or "" for name in asked}


def _comparisons(published: Release, digests: Mapping[str, str]) -> list[Comparison]:
    groups = {t.qualified_name: t.group for t in catalog.tables(Layer.GOLD)}
    return [_comparison(published, name, groups.get(name), digests.get(name)) for name in sorted(published.digests)]


def _comparison(published: Release, name: str, group: str | None, rebuilt: str | None) -> Comparison:
    before = published.digests[name]
    if rebuilt is not None:
        return Comparison(name, before, rebuilt, rebuilt == before)
    if group is None:
        return Comparison(name, before, None, None, "this code has no such table")
    return Comparison(name, before, None, None, f"it is as of release {published.groups[group]}, of other inputs")
