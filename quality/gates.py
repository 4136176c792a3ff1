"""Gates over several tables: each gives verdicts, and a sentence for every critical one that failed."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.ops import ledger
from lakehouse.parameters import Parameters
from lakehouse.silver import sales_days
from lakehouse.storage.tables import Storage
from quality.verdict import Verdict

LEDGER = ledger.TABLE.qualified_name


def ledger_gate(accounts: pa.Table, version: int) -> list[Verdict]:
    """Hold every source, hop and control to a difference of nothing."""
    return [
        Verdict(
            LEDGER,
            version,
            f"the {row['control']} of {row['path']} add up from {row['hop']}",
            "critical",
            row["difference"] == 0,
            f"expected {row['expected']}, found {row['found']}",
            0.0,
        )
        for row in accounts.to_pylist()
    ]


def quarantine_gate(accounts: pa.Table, version: int, parameters: Parameters) -> list[Verdict]:
    """Hold the share of every source's lines that are open in quarantine to `max_quarantine_pct`."""
    rows = accounts.filter(pc.equal(accounts["hop"], "bronze to silver")).to_pylist()
    limit = parameters.max_quarantine_pct
    opened = [(row, row["quarantined"] - row["waived"]) for row in rows]
    shares = [(row, lines, 100 * lines / max(row["expected"], 1)) for row, lines in opened]
    return [
        Verdict(
            LEDGER,
            version,
            f"at most {limit:g} % of the lines of {row['path']} are open in quarantine (max_quarantine_pct)",
            "critical",
            share <= limit,
            f"{lines} of {row['expected']} are, {share:.2f} %",
            0.0,
        )
        for row, lines, share in shares
    ]


def volume_gate(storage: Storage, version: int, parameters: Parameters) -> list[Verdict]:
    """Hold the lakehouse to at least `min_rows_threshold` receipts, and days to their weekday's usual band."""
    days = storage.rows(sales_days.TABLE, version, ["sold_on", "receipts"])
    total = pc.sum(days["receipts"]).as_py() or 0
    name = sales_days.TABLE.qualified_name
    enough = total >= parameters.min_rows_threshold
    check = f"there are at least {parameters.min_rows_threshold} receipts (min_rows_threshold)"
    return [Verdict(name, version, check, "critical", enough, f"{total} receipts", 0.0), *_unusual(days, version)]


def broken_gates(verdicts: Iterable[Verdict]) -> list[str]:
    """Give a sentence for each critical verdict that failed."""
    failed = [v for v in verdicts if v.severity == "critical" and not v.passed]
    return [f"{v.table} (version {v.version}): it is not true that {v.check}: {v.observed}." for v in failed]


BAND = 4  # how many times its weekday's median a day may hold, or the part of it it must hold
LEAST_DAYS = 8


def _unusual(days: pa.Table, version: int) -> list[Verdict]:
    """Warn of days far from the median of their weekday, where there are enough of that weekday to tell."""
    by_weekday: dict[int, list[tuple[str, int]]] = {}
    for row in days.sort_by("sold_on").to_pylist():
        by_weekday.setdefault(row["sold_on"].isoweekday(), []).append((row["sold_on"].isoformat(), row["receipts"]))
    strange = []
    for sold in (s for s in by_weekday.values() if len(s) >= LEAST_DAYS):
        usual = sorted(count for _, count in sold)[len(sold) // 2]
        strange += [f"{day} has {n}, usual is {usual}" for day, n in sold if not usual / BAND <= n <= usual * BAND]
    check = "every day has a usual number of receipts for its weekday"
    observed = "; ".join(sorted(strange)[:5]) or "all days are usual"
    return [Verdict(sales_days.TABLE.qualified_name, version, check, "warning", not strange, observed, 0.0)]
