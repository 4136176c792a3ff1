"""What is delivered, against the last release: decided without an engine and without writing a table."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flows.events import error_console
from flows.order import Order
from lakehouse import landing, release
from lakehouse.errors import BadInput
from lakehouse.extract import extract
from lakehouse.landing import Admission, Delivery
from lakehouse.loading import load
from lakehouse.ops import sources
from lakehouse.release import Release, Snapshot

REFERENCE = ("categories", "product_categories")


@dataclass(frozen=True)
class Decided:
    """What a person decided: the new `ops.corrections`, and the lines (source_id, line_number) it is about."""

    corrections: pa.Table
    lines: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class News:
    """What waits or was decided, and the key of the run that would take it in."""

    last: Release | None
    admission: Admission
    inputs_hash: str
    run_key: str
    decided: Decided | None = None

    @property
    def is_published(self) -> bool:
        return self.decided is None and self.last is not None and self.last.run_key == self.run_key

    @property
    def is_to_land(self) -> bool:
        """Say whether sources, or what is known of them and their lines, change."""
        return self.decided is not None or self.admission.is_news

    @property
    def landed_entities(self) -> set[str]:
        """Give the entities of which lines come or go."""
        return self._entities(self.admission.landed)

    @property
    def touched_entities(self) -> set[str]:
        """Give the entities of which lines come, go, or are read differently."""
        return self._entities(self.admission.touched)

    @property
    def touched_lines(self) -> pc.Expression:
        """Say which rows change, by source_id and, when lines were decided about, by line_number."""
        of_sources = pc.field("source_id").isin(sorted(self.admission.touched))
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


def news(order: Order) -> News:
    """Look at what is delivered: load and extract the reference entities, list and hash the files.

    Errors: BadInput, ServiceDown.
    """
    published = release.history(order.storage)
    last = published[-1] if published else None
    known = Snapshot(order.storage, last).rows("ops.sources") if last else sources.TABLE.arrow_schema.empty_table()
    admission = landing.admit(known, deliveries(order), order.run_id, order.started_at)
    inputs_hash = inputs_hash_of(admission)
    return News(last, admission, inputs_hash, order.key(inputs_hash))


def inputs_hash_of(admission: Admission) -> str:
    """Hash the admitted sources."""
    rows = admission.rows.filter(pc.equal(admission.rows["status"], "current"))
    admitted = sorted(zip(rows["entity"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(admitted).encode()).hexdigest()[:32]


def current_news(order: Order) -> News:
    """Stand on the last release as it is; errors: NothingPublished."""
    last = release.latest(order.storage)
    rows = Snapshot(order.storage, last).rows("ops.sources")
    admission = Admission(rows, (), frozenset(), (), ())
    return News(last, admission, last.inputs_hash, order.key(last.inputs_hash))


def deliveries(order: Order) -> list[Delivery]:
    """Gather what is delivered: reference entities from PostgreSQL, transactions from files or from there too."""
    settings = order.settings
    from_postgres = settings.transactions_source == "postgres"
    files = [] if from_postgres else landing.transaction_files(landing_of(order))
    if order.source is not None:
        for entity, count in load(settings, order.source, transactions=from_postgres).items():
            if count.refused:
                told = f"{count.refused} of {count.lines} lines of {entity} were refused at the load"
                error_console().print(f"{told}: they are in PostgreSQL's table refused_lines.")
    taken = extract(settings, settings.lakehouse_home / "extracts", REFERENCE, from_postgres)
    return files + [landing.delivery(e.entity, e.name, e.path) for e in taken if e.path is not None]


def landing_of(order: Order) -> Path:
    """Give the folder transactions are put in; errors: BadInput when none is named."""
    if order.source is not None:
        return order.source
    if not order.settings.data_path:
        remedy = "Set it to the folder that holds transactions/, or use `lakehouse run --source DIR`."
        raise BadInput("DATA_PATH", "it is not set", remedy)
    return Path(order.settings.data_path)
