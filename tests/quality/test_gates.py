"""Gates over several tables: what passes, what is told."""

from datetime import date, timedelta
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pytest

from lakehouse.ops import ledger
from lakehouse.parameters import new_parameters
from lakehouse.silver import sales_days
from lakehouse.storage.tables import Storage
from quality.gates import broken_gates, ledger_gate, quarantine_gate, volume_gate
from quality.verdict import Verdict

MONDAY = date(2013, 1, 7)


def account(
    path: str, lines: int, bad: int, hop: str = "bronze to silver", found: int | None = None
) -> dict[str, object]:
    kept = lines if found is None else found
    facts = {"run_id": "run", "source_id": crc32(path.encode()), "entity": "transactions", "path": path, "hop": hop}
    counts = {"expected": lines, "found": kept, "quarantined": bad, "waived": 0, "difference": kept - lines}
    return facts | {"control": "rows"} | counts


def accounts(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), ledger.TABLE.arrow_schema)


def days(tmp_path: Path, receipts: dict[date, int]) -> tuple[Storage, int]:
    storage = Storage(str(tmp_path))
    storage.create(sales_days.TABLE, "run")
    rows = [
        {"month": f"{day:%Y-%m}", "sold_on": day, "receipts": count, "units": count, "customers": 1}
        for day, count in receipts.items()
    ]
    table = pa.Table.from_pylist(rows, sales_days.TABLE.arrow_schema)
    return storage, storage.write(sales_days.TABLE, table.to_reader(), "run")


def mondays(*counts: int) -> dict[date, int]:
    return {MONDAY + timedelta(weeks=week): count for week, count in enumerate(counts)}


def volume(tmp_path: Path, receipts: dict[date, int], **parameters: int) -> list[Verdict]:
    return volume_gate(*days(tmp_path, receipts), new_parameters(**parameters))


@pytest.mark.parametrize(("lines", "found", "passed"), [(5, 5, True), (0, 0, True), (5, 4, False), (5, 6, False)])
def test_a_hop_passes_when_nothing_is_missing_or_too_much(lines: int, found: int, passed: bool) -> None:
    (verdict,) = ledger_gate(accounts(account("a.csv", lines, 0, found=found)), 7)
    assert verdict == Verdict(
        "ops.ledger",
        7,
        "the rows of a.csv add up from bronze to silver",
        "critical",
        passed,
        f"expected {lines}, found {found}",
        0.0,
    )


@pytest.mark.parametrize(
    ("lines", "bad", "limit", "passed"),
    [
        (100, 5, 5.0, True),
        (100, 6, 5.0, False),
        (100_000, 5_001, 5.0, False),
        (1_000, 1, 0.1, True),
        (1_000, 3, 0.3, True),
        (300, 1, 0.33, False),
        (10, 0, 0.0, True),
        (10, 1, 0.0, False),
        (10, 10, 100.0, True),
        (0, 0, 5.0, True),
    ],
)
def test_a_share_of_quarantine_at_the_limit_passes(lines: int, bad: int, limit: float, passed: bool) -> None:
    (verdict,) = quarantine_gate(accounts(account("a.csv", lines, bad)), 7, new_parameters(max_quarantine_pct=limit))
    assert (verdict.passed, verdict.severity) == (passed, "critical")


def test_each_source_has_its_own_share() -> None:
    rows = accounts(
        account("a.csv", 100, 0),
        account("b.csv", 10, 1),
        account("c.csv", 200_000, 10_001),
        account("c.csv", 10, 10, hop="landing to silver"),
    )
    assert broken_gates(quarantine_gate(rows, 7, new_parameters())) == [
        "ops.ledger (version 7): it is not true that at most 5 % of the lines of b.csv are open in quarantine "
        "(max_quarantine_pct): "
        "1 of 10 are, 10.00 %.",
        "ops.ledger (version 7): it is not true that at most 5 % of the lines of c.csv are open in quarantine "
        "(max_quarantine_pct): "
        "10001 of 200000 are, 5.00 %.",
    ]


def test_waived_lines_do_not_count_in_the_share() -> None:
    row = account("a.csv", 100, 8) | {"waived": 3}
    (verdict,) = quarantine_gate(accounts(row), 7, new_parameters())
    assert (verdict.passed, verdict.observed) == (True, "5 of 100 are, 5.00 %")


@pytest.mark.parametrize(("receipts", "passed"), [(999, False), (1_000, True), (1_001, True)])
def test_too_few_receipts_break_the_volume(tmp_path: Path, receipts: int, passed: bool) -> None:
    found = volume(tmp_path, {MONDAY: receipts - 400, MONDAY + timedelta(days=1): 400})
    assert found[0].passed is passed
    sentence = (
        "silver.sales_days (version 1): it is not true that there are at least 1000 receipts (min_rows_threshold): "
        "999 receipts."
    )
    assert broken_gates(found) == ([] if passed else [sentence])


def test_a_lakehouse_without_receipts_breaks_the_volume(tmp_path: Path) -> None:
    assert len(broken_gates(volume(tmp_path, {}))) == 1
    assert broken_gates(volume(tmp_path, {}, min_rows_threshold=0)) == []


@pytest.mark.parametrize(
    ("count", "is_usual"), [(100, True), (400, True), (401, False), (25, True), (24, False), (1, False)]
)
def test_a_day_far_from_its_weekdays_median_is_a_warning(tmp_path: Path, count: int, is_usual: bool) -> None:
    enough, usual = volume(tmp_path, mondays(*[100] * 10, count))
    assert (usual.severity, usual.passed) == ("warning", is_usual)
    assert usual.observed == ("all days are usual" if is_usual else f"2013-03-18 has {count}, usual is 100")
    assert enough.passed
    assert broken_gates([enough, usual]) == []


def test_weekdays_have_their_own_bands(tmp_path: Path) -> None:
    sundays = {day - timedelta(days=1): 10 * count for day, count in mondays(*[100] * 9).items()}
    assert volume(tmp_path, mondays(*[100] * 9) | sundays)[1].passed


def test_a_few_weeks_tell_no_usual_day(tmp_path: Path) -> None:
    assert volume(tmp_path, mondays(100, 100, 100, 100, 100, 100, 9_000))[1].passed


def test_the_first_unusual_days_are_named(tmp_path: Path) -> None:
    observed = volume(tmp_path, mondays(*[100] * 9, *[9_000] * 7))[1].observed
    assert observed.split("; ") == [f"{MONDAY + timedelta(weeks=9 + n)} has 9000, usual is 100" for n in range(5)]
