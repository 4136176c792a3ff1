"""What is delivered, against the last release: decided without an engine and without writing a table."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flows.run.console import error_console
from flows.run.request import RunRequest
from lakehouse.errors import BadInput, WrongUse
from lakehouse.ops import corrections, sources
from lakehouse.releases import release
from lakehouse.releases.release import Release, Snapshot
from lakehouse.sources import landing
from lakehouse.sources.admission import Admission, admit, heads_of, in_declared_columns
from lakehouse.sources.extract_files import Extract
from lakehouse.sources.landing import Delivery, Head
from lakehouse.sources.postgres_extract import TRANSACTIONS, Known, extract
from lakehouse.sources.postgres_load import load
from lakehouse.storage.objects import is_address, share
from lakehouse.storage.tables import storage_errors

EXTRACTS = "_extracts"
Gather = Callable[[RunRequest, pa.Table], tuple[list[Delivery], set[str]]]


@dataclass(frozen=True)
class Decision:
    """What a person decided: the new `ops.corrections`, and the lines (source_id, line_number) it is about."""

    corrections: pa.Table
    lines: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Changes:
    """What waits or was decided, and the key of the run that would take it in."""

    last: Release | None
    admission: Admission
    inputs_hash: str
    run_key: str
    decided: Decision | None = None

    @property
    def is_published(self) -> bool:
        return self.decided is None and self.last is not None and self.last.run_key == self.run_key

    @property
    def is_nothing(self) -> bool:
        """Say whether there is nothing to publish and nothing to note."""
        return self.is_published and self.admission.is_recorded

    @property
    def is_to_land(self) -> bool:
        """Say whether sources, or what is known of them and their lines, change."""
        return self.decided is not None or self.admission.is_news

    @property
    def landed_entities(self) -> set[str]:
        """Give the entities of which lines come or go."""
        return self._entities(self.admission.landed_ids)

    @property
    def touched_entities(self) -> set[str]:
        """Give the entities of which lines come, go, or are read differently."""
        return self._entities(self.admission.touched_ids)

    @property
    def touched_lines(self) -> pc.Expression:
        """Say which rows change, by source_id and, when lines were decided about, by line_number."""
        of_sources = pc.field("source_id").isin(sorted(self.admission.touched_ids))
        if self.decided is None or not self.decided.lines:
            return of_sources
        return of_sources & pc.field("line_number").isin(sorted({number for _, number in self.decided.lines}))

    @property
    def current(self) -> list[Delivery]:
        """Give every current source."""
        rows = [row for row in self.admission.rows.to_pylist() if row["status"] == "current"]
        return [Delivery(r["entity"], r["path"], r["location"], r["sha256"], r["bytes"]) for r in rows]

    def _entities(self, source_ids: frozenset[int]) -> set[str]:
        return {row["entity"] for row in self.admission.rows.to_pylist() if row["source_id"] in source_ids}


def deliveries(request: RunRequest, known: pa.Table) -> tuple[list[Delivery], set[str]]:
    """Gather what is delivered: reference entities from PostgreSQL, transactions from files or from there too.

    Gives as well the paths of the days that PostgreSQL no longer has.
    """
    settings, heads = request.settings, heads_of(known)
    from_postgres = settings.transactions_source == "postgres"
    _require_one_origin(settings.transactions_source, known)
    files = [] if from_postgres else landing.transaction_files(landing_of(request), heads)
    if request.source is not None:
        for entity, count in load(settings, request.source, transactions=from_postgres).items():
            if count.refused:
                told = f"{count.refused} of {count.lines} lines of {entity} were refused at the load"
                error_console().print(f"{told}: they are in PostgreSQL's table refused_lines.")
    landed = _known_days(known) if from_postgres else {}
    taken = extract(settings, settings.lakehouse_home / "extracts", sources.REFERENCE, from_postgres, landed)
    days = {found.name for found in taken}
    deleted = {path for path in heads if from_postgres and path.startswith(TRANSACTIONS)} - days
    extracted = [_delivery_of(found, heads, settings.root) for found in taken if found.path is not None]
    return landing.settled_deliveries(files, heads, settings.settle_seconds) + extracted, deleted


def _require_one_origin(wanted: str, known: pa.Table) -> None:
    """See that no transactions came from elsewhere: what is in both would count twice. Errors: WrongUse."""
    rows = [r for r in known.to_pylist() if (r["entity"], r["status"]) == ("transactions", "current")]
    found = {"postgres" if row["path"].startswith(TRANSACTIONS) else "files" for row in rows}
    if other := sorted(found - {wanted}):
        remedy = f"{other[0]!r}, as in this lakehouse so far; for others choose another LAKEHOUSE_HOME"
        raise WrongUse("TRANSACTIONS_SOURCE", wanted, remedy)


def _known_days(known: pa.Table) -> dict[str, Known]:
    """Give what is known of each day of PostgreSQL, also of those that were withdrawn."""
    rows = [row for row in known.to_pylist() if row["status"] in ("current", "duplicate", "withdrawn")]
    return {row["path"]: Known(row["fingerprint"], row["sha256"]) for row in rows if row["fingerprint"]}


def _delivery_of(found: Extract, heads: Mapping[str, Head], root: str) -> Delivery:
    """Read an extract as it was written; days can grow, reference entities are small and read whole."""
    assert found.path is not None
    is_day = found.entity == "transactions"
    head = heads.get(found.name) if is_day else None
    one = landing.delivery(found.entity, found.name, found.path, head)
    return replace(one, fingerprint=found.fingerprint if is_day else None, location=_share_extract(found.path, root))


def _share_extract(extract: Path, root: str) -> str:
    """Give where an engine on another machine can read an extract: beside the tables, when these are objects."""
    if not is_address(root):
        return str(extract.absolute())
    address = f"{root}/{EXTRACTS}/{extract.parent.name}/{extract.name}"
    with storage_errors("write", address):
        share(extract, address)
    return address


def landing_of(request: RunRequest) -> str:
    """Give the folder or address transactions are put in; errors: BadInput when none is named."""
    if request.source is not None:
        return str(request.source)
    if not request.settings.data_path:
        remedy = "Set it to the folder that holds transactions/, or use `lakehouse run --source DIR`."
        raise BadInput("DATA_PATH", "it is not set", remedy)
    return request.settings.data_path


def find_changes(request: RunRequest, gather: Gather = deliveries) -> Changes:
    """Look at what is delivered: `gather` it, which loads and extracts the reference entities and hashes the files.

    Errors: BadInput, ServiceDown.
    """
    last = release.newest(request.storage)
    known, decided = _known_sources(request, last)
    found, deleted = gather(request, known)
    admission = admit(known, found, request.run_id, request.started_at, decided, deleted)
    inputs_hash = inputs_hash_of(admission)
    return Changes(last, admission, inputs_hash, request.key(inputs_hash))


def _known_sources(request: RunRequest, last: Release | None) -> tuple[pa.Table, set[int]]:
    """Read the sources of the last release, and which of them lines were decided about."""
    if last is None:
        return sources.TABLE.arrow_schema.empty_table(), set()
    opened, name = Snapshot(request.storage, last), corrections.TABLE.qualified_name
    decided = opened.rows(name, ["source_id"])["source_id"].to_pylist() if name in last.tables else []
    return in_declared_columns(opened.rows(sources.TABLE.qualified_name)), set(decided)


def inputs_hash_of(admission: Admission) -> str:
    """Hash the admitted sources."""
    rows = admission.rows.filter(pc.equal(admission.rows["status"], "current"))
    admitted = sorted(zip(rows["entity"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(admitted).encode()).hexdigest()[:32]


def no_changes(request: RunRequest) -> Changes:
    """Stand on the last release as it is; errors: NothingPublished."""
    last = release.latest(request.storage)
    rows = Snapshot(request.storage, last).rows("ops.sources")
    admission = Admission(rows, (), frozenset(), (), ())
    return Changes(last, admission, last.inputs_hash, request.key(last.inputs_hash))
