"""What a run found and did, for its report; and its row in the log of runs."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.report.report import LedgerRow, RuleCount, RunFacts, TableVersion, Verdict
from flows.run.request import RunRequest
from flows.run.steps import Outcome
from lakehouse.errors import Blocked, LakehouseError
from lakehouse.ops import runs, sources
from lakehouse.releases.release import Snapshot, history
from lakehouse.table import Table


def published_facts(request: RunRequest, outcome: Outcome, verdict: Verdict, reasons: Sequence[str] = ()) -> RunFacts:
    """Read what the release after a run says of itself, and the run of the files it found."""
    published = outcome.release
    snapshot = Snapshot(request.storage, published)
    sums = snapshot.rows("silver.sales_days", ["receipts", "units"])
    customers = snapshot.dataset("silver.customers").count_rows()
    products = len(pc.unique(snapshot.rows("silver.product_days", ["product_id"])["product_id"]))
    accounts = snapshot.rows("ops.ledger").sort_by(
        [("path", "ascending"), ("hop", "ascending"), ("control", "ascending")]
    )
    return RunFacts(
        run_id=request.run_id,
        flow=request.flow,
        verdict=verdict,
        release_id=published.release_id,
        parent=published.parent,
        created_at=published.created_at,
        seconds=(datetime.now(UTC) - request.started_at).total_seconds(),
        receipts=pc.sum(sums["receipts"]).as_py() or 0,
        units=pc.sum(sums["units"]).as_py() or 0,
        customers=customers,
        products=products,
        ledger=[LedgerRow(*(row[name] for name in LedgerRow._fields)) for row in accounts.to_pylist()],
        quarantine_rules=_rules(snapshot),
        tables=[_version(snapshot, table) for table in published.known_tables],
        groups=published.groups,
        verified=published.verified,
        is_checked=request.parameters.enable_quality_checks,
        reasons=reasons,
        taken_in=_new_files(outcome.sources, request.run_id),
        left_out=_other_files(outcome.sources),
        exports=request.settings.exports_address or str(request.settings.exports),
    )


def failed_facts(request: RunRequest, error: BaseException) -> RunFacts:
    """Say that a run failed, and why; and what it had published before, if anything."""
    reasons = list(error.reasons) if isinstance(error, Blocked) else [_reason(error)]
    published = _release_of(request)
    return RunFacts(
        run_id=request.run_id,
        flow=request.flow,
        verdict="unfinished" if published else "blocked" if isinstance(error, Blocked) else "failed",
        release_id=published,
        parent=None,
        created_at=request.started_at,
        seconds=(datetime.now(UTC) - request.started_at).total_seconds(),
        receipts=None,
        units=None,
        customers=None,
        products=None,
        ledger=[],
        quarantine_rules=[],
        tables=[],
        groups={},
        verified=None,
        reasons=reasons,
    )


def _release_of(request: RunRequest) -> int | None:
    """Give the release a run published before it failed; None where there is none, or that cannot be told."""
    with suppress(LakehouseError):
        return next((r.release_id for r in history(request.storage) if r.run_id == request.run_id), None)
    return None


def _reason(error: BaseException) -> str:
    """Say why; what is no error came from outside: a signal, or a key pressed."""
    told = str(error) or type(error).__name__
    return told if isinstance(error, Exception) else f"It was stopped before it had ended ({told})."


def record(request: RunRequest, run_key: str, state: str, message: str) -> None:
    """Add the attempt to the log of runs."""
    row = {
        "run_id": request.run_id,
        "run_key": run_key,
        "flow": request.flow,
        "logical_date": request.started_at.date().isoformat(),
        "parameters": {name: str(value) for name, value in request.parameters.model_dump().items()},
        "started_at": request.started_at,
        "ended_at": datetime.now(UTC),
        "state": state,
        "message": message,
    }
    request.storage.create(runs.TABLE, request.run_id)
    request.storage.append(runs.TABLE, [row], request.run_id)


def _rules(snapshot: Snapshot) -> list[RuleCount]:
    rows = snapshot.rows("ops.quarantine", ["rule", "line", "status", "source_id", "line_number"])
    ordered = rows.sort_by(
        [("rule", "ascending"), ("source_id", "ascending"), ("line_number", "ascending")]
    ).to_pylist()
    first: dict[str, str] = {}
    for row in ordered:
        first.setdefault(row["rule"], row["line"])
    count = Counter((row["rule"], row["status"]) for row in ordered)
    return [
        RuleCount(rule, count[rule, "open"], count[rule, "waived"], count[rule, "replayed"], example)
        for rule, example in first.items()
    ]


def _new_files(rows: pa.Table, run_id: str) -> list[tuple[str, str, str]]:
    """Give the files a run took in: what kind of news each was, and what there is to say of it."""
    mine = rows.filter((pc.field("admitted_by") == run_id) & (pc.field("status") == "current")).to_pylist()
    return [(row["path"], _kind(row), row["detail"] or "") for row in mine]


def _kind(row: dict[str, Any]) -> str:
    if row["carried_lines"] is not None:
        return "grown"
    return "new" if row["supersedes"] is None else "corrected"


def _other_files(rows: pa.Table) -> list[tuple[str, str, str]]:
    """Give the files that are not current, those that may need somebody first."""
    others = rows.filter(pc.field("status") != "current").to_pylist()
    found = [(row["path"], row["status"], row["detail"] or "") for row in others]
    return sorted(found, key=lambda one: (sources.STATUSES.index(one[1]), one))


def _version(snapshot: Snapshot, table: Table) -> TableVersion:
    release, name = snapshot.release, table.qualified_name
    rows = snapshot.storage.count(table, release.tables[name])
    return TableVersion(name, release.tables[name], rows, release.digests.get(name, ""))
