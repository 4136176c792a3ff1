"""Lines that were decided about: each is a receipt, or in quarantine, or both when it was corrected."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.kernels.decisions import Decision, apply_decisions, in_quarantine, last_decisions
from lakehouse.kernels.receipt_rules import accepted_receipts

GOOD, BAD, BETTER = "2024-01-02|101|17|4 9", "2024-02-30|101|17|4 9", "2024-02-29|101|17|4 9 9"
BROKEN = "bad_date", "'2024-02-30' is no date YYYY-MM-DD"
SCHEMA = pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})


def lines(*texts: str, source_id: int = -9) -> pa.Table:
    rows = [{"source_id": source_id, "line_number": n, "line": text} for n, text in enumerate(texts, 1)]
    return pa.Table.from_pylist(rows, SCHEMA)


def quarantine(given: pa.Table, decisions: dict[tuple[int, int], Decision]) -> list[tuple[object, ...]]:
    rows = in_quarantine(given, "transactions", decisions).to_pylist()
    return sorted((r["line_number"], r["line"], r["rule"], r["status"]) for r in rows)


def test_without_decisions_nothing_is_touched() -> None:
    given = lines(GOOD, BAD)
    assert apply_decisions(given, {}) is given
    assert quarantine(given, {}) == [(2, BAD, "bad_date", "open")]


def test_a_corrected_line_becomes_a_receipt_of_the_same_key_and_stays_in_quarantine_as_delivered() -> None:
    given, decisions = lines(GOOD, BAD, BAD), {(-9, 2): Decision(BETTER, *BROKEN)}
    receipts = accepted_receipts(apply_decisions(given, decisions)).to_pylist()
    assert [(r["source_id"], r["line_number"], r["month"], r["products"]) for r in receipts] == [
        (-9, 1, "2024-01", [4, 9]),
        (-9, 2, "2024-02", [4, 9, 9]),
    ]
    assert quarantine(given, decisions) == [(2, BAD, "bad_date", "replayed"), (3, BAD, "bad_date", "open")]


def test_a_waived_line_is_no_receipt_and_stays_in_quarantine() -> None:
    given, decisions = lines(GOOD, BAD), {(-9, 2): Decision(None, *BROKEN)}
    assert apply_decisions(given, decisions)["line"].to_pylist() == [GOOD]
    assert quarantine(given, decisions) == [(2, BAD, "bad_date", "waived")]


def test_a_correction_that_later_rules_refuse_leaves_the_line_open() -> None:
    given, decisions = lines(GOOD, BAD), {(-9, 2): Decision("2024-02-01|101|17|", *BROKEN)}
    assert accepted_receipts(apply_decisions(given, decisions)).num_rows == 1
    assert quarantine(given, decisions) == [(2, BAD, "bad_date", "open")]


@pytest.mark.parametrize(("text", "status", "kept"), [(GOOD, "replayed", 1), (None, "waived", 0)])
def test_a_line_that_later_rules_keep_stays_as_it_was_decided(text: str | None, status: str, kept: int) -> None:
    given, decisions = lines(GOOD), {(-9, 1): Decision(text, "bad_store", "it was too large")}
    assert apply_decisions(given, decisions).num_rows == kept
    assert quarantine(given, decisions) == [(1, GOOD, "bad_store", status)]


def test_a_decision_belongs_to_a_line_of_a_source() -> None:
    decisions = {(-9, 1): Decision(None, *BROKEN), (5, 2): Decision(BETTER, *BROKEN)}
    both = pa.concat_tables([lines(BAD, BAD), lines(BAD, BAD, source_id=5)])
    rows = in_quarantine(both, "transactions", decisions).to_pylist()
    assert {(r["source_id"], r["line_number"]): r["status"] for r in rows} == {
        (-9, 1): "waived",
        (-9, 2): "open",
        (5, 1): "open",
        (5, 2): "replayed",
    }


@pytest.mark.parametrize(
    ("entity", "bad", "better"), [("categories", "x|BREAD", "1|BREAD"), ("product_categories", "4|x", "4|1")]
)
def test_lines_of_reference_files_are_decided_about_alike(entity: str, bad: str, better: str) -> None:
    decisions = {(-9, 2): Decision(better, "bad_category", "?"), (-9, 3): Decision(None, "bad_category", "?")}
    rows = in_quarantine(lines("7|7", bad, bad, bad), entity, decisions).to_pylist()
    assert {r["line_number"]: (r["entity"], r["line"], r["status"]) for r in rows} == {
        2: (entity, bad, "replayed"),
        3: (entity, bad, "waived"),
        4: (entity, bad, "open"),
    }


def test_the_last_decision_about_a_line_counts() -> None:
    rows = [
        {"source_id": 1, "line_number": 2, "decision": number, "line": line, "rule": "r", "detail": "d"}
        for number, line in ((2, None), (3, "third"), (1, "first"))
    ]
    assert last_decisions(pa.Table.from_pylist(rows)) == {(1, 2): Decision("third", "r", "d")}


DECISIONS = st.none() | st.sampled_from([GOOD, BETTER, BAD]).map(lambda text: Decision(text, *BROKEN))
WAIVED = st.just(Decision(None, *BROKEN))


@given(st.lists(st.tuples(st.sampled_from([GOOD, BAD, ""]), DECISIONS | WAIVED), max_size=12))
def test_every_line_is_a_receipt_or_held_in_quarantine(given: list[tuple[str, Decision | None]]) -> None:
    delivered = lines(*(text for text, _ in given))
    decisions = {(-9, n): decision for n, (_, decision) in enumerate(given, 1) if decision is not None}
    receipts = accepted_receipts(apply_decisions(delivered, decisions))["line_number"].to_pylist()
    refused = in_quarantine(delivered, "transactions", decisions).to_pylist()
    held = [r["line_number"] for r in refused if r["status"] != "replayed"]
    assert sorted(receipts + held) == list(range(1, len(given) + 1))
    assert {number for _, number in decisions} <= {r["line_number"] for r in refused}
    assert all(r["line"] == given[r["line_number"] - 1][0] for r in refused)
