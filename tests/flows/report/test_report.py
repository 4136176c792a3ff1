"""The run report: complete, and only text wherever something comes from outside."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from flows.report.markup import escape
from flows.report.report import (
    LedgerRow,
    RuleCount,
    RunFacts,
    TableVersion,
    console_summary,
    ledger_verdict,
    markdown,
)
from lakehouse import catalog

HOSTILE = "a|b`c`\n| --- |<script>alert(1)</script> [x](http://y) **z** \\| &amp; ![i](j) \x1b[31m"

FACTS = RunFacts(
    run_id="run-1",
    flow="medallion-etl",
    verdict="published",
    release_id=3,
    parent=2,
    created_at=datetime(2026, 3, 1, 6, 0, tzinfo=UTC),
    seconds=12.34,
    receipts=1_108_987,
    units=10_591_793,
    customers=131_186,
    products=449,
    ledger=[
        LedgerRow("102.csv", "landing to silver", "rows", 10, 10, 1, 0),
        LedgerRow("102.csv", "landing to silver", "units", 35, 35, 0, 0),
        LedgerRow("103.csv", "landing to silver", "rows", 20, 20, 2, 0),
    ],
    quarantine_rules=[
        RuleCount("bad_date", 1, 0, 0, "2013-02-31|102|5|1"),
        RuleCount("bad_store", 2, 1, 0, "2013-02-01||5|1"),
    ],
    tables=[TableVersion("gold.product_sales", 4, 449, "abc123")],
    groups={"summary": 3, "clustering": 2},
    verified=True,
    exports="exports",
    page="http://127.0.0.1:4200/v2/runs/flow-run/run-1",
)


def table_rows(text: str) -> list[list[str]]:
    """Read back every row of every table as a reader of the rendered report sees it."""
    rows: list[list[str]] = []
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    for before, token in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif before.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def kinds(text: str) -> set[str]:
    """Name the kinds of markup in a text."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return {t.type for token in tokens for t in (token, *(token.children or []))}


def shown(facts: RunFacts) -> str:
    screen = io.StringIO()
    Console(file=screen, width=100).print(console_summary(facts))
    return screen.getvalue()


def test_the_report_says_what_happened_and_how_much() -> None:
    rows = table_rows(markdown(FACTS))
    assert markdown(FACTS).startswith("# Published as release 3\n")
    assert ["receipts", "1,108,987"] in rows
    assert ["units", "10,591,793"] in rows
    assert ["started", "2026-03-01 06:00:00 UTC"] in rows
    assert ["clustering", "2"] in rows
    assert ["gold.product_sales", "4", "449", "abc123"] in rows


def test_the_ledger_is_summed_over_sources() -> None:
    rows = table_rows(markdown(FACTS))
    assert ["102.csv", "landing to silver", "units", "35", "35", "0", "0"] in rows
    assert ["All sources", "landing to silver", "rows", "30", "30", "3", "0"] in rows
    assert ledger_verdict(FACTS) == "Every row of 2 sources is accounted for."


def test_of_many_sources_those_that_differ_are_shown_first() -> None:
    many = [LedgerRow(f"{n}.csv", "hop", "rows", 1, 1, 0, 0) for n in range(50)]
    facts = replace(FACTS, ledger=[*many, LedgerRow("wrong.csv", "hop", "rows", 5, 4, 0, -1)])
    shown_paths = [row[0] for row in table_rows(markdown(facts)) if len(row) == 7 and row[0].endswith(".csv")]
    assert shown_paths == ["wrong.csv", *(f"{n}.csv" for n in range(19))]
    assert ["All sources", "hop", "rows", "55", "54", "0", "-1"] in table_rows(markdown(facts))
    assert "31 more sources" in markdown(facts)
    assert ledger_verdict(facts) == "1 of 51 sources differ."


def test_the_rules_that_refused_most_come_first() -> None:
    rows = table_rows(markdown(FACTS))
    assert rows.index(["bad_store", "2", "1", "0", "2013-02-01||5|1"]) < rows.index(
        ["bad_date", "1", "0", "0", "2013-02-31|102|5|1"]
    )
    assert "No line was refused." in markdown(replace(FACTS, quarantine_rules=[]))


def test_a_long_line_is_shortened() -> None:
    facts = replace(FACTS, quarantine_rules=[RuleCount("not_utf8", 1, 0, 0, "x" * 10_000)])
    assert "x" * 120 + "…" in markdown(facts)
    assert "x" * 121 not in markdown(facts)


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        ("published", "# Published as release 3\n"),
        ("nothing_new", "# Nothing new since release 3"),
        ("blocked", "# Blocked by a gate: nothing was published\n"),
        ("partial", "# Published in part as release 3: "),
        ("unfinished", "# Published as release 3: what should follow failed\n"),
        ("failed", "# Failed: nothing was published\n"),
    ],
)
def test_every_verdict_has_its_headline(verdict: object, headline: str) -> None:
    assert markdown(replace(FACTS, verdict=verdict)).startswith(headline)  # type: ignore[arg-type]  # from the table above


def test_a_release_without_quality_checks_says_so() -> None:
    assert "quality checks were off" in markdown(replace(FACTS, verified=False))
    assert "quality checks were off" in shown(replace(FACTS, verified=False))


def test_a_release_that_is_not_verified_though_checks_were_on_says_so() -> None:
    facts = replace(FACTS, verified=False, is_checked=True)
    assert "(not all of it was held to the quality checks)" in markdown(facts)
    assert "(not all of it was held to the quality checks)" in shown(facts)


def test_lineage_is_a_diagram_and_a_table() -> None:
    text = markdown(FACTS)
    made = next(table for table in catalog.tables() if table.qualified_name == "silver.receipts")
    assert "```mermaid\nflowchart LR\n" in text
    assert [made.qualified_name, "bronze.transactions, ops.corrections"] in table_rows(text)


def test_what_comes_from_outside_is_only_text() -> None:
    facts = replace(
        FACTS,
        flow=HOSTILE,
        run_id=HOSTILE,
        ledger=[LedgerRow(HOSTILE, HOSTILE, HOSTILE, 1, 1, 0, 0)],
        quarantine_rules=[RuleCount(HOSTILE, 1, 0, 0, HOSTILE)],
        tables=[TableVersion(HOSTILE, 1, 1, HOSTILE)],
        groups={HOSTILE: 1},
        reasons=[HOSTILE],
        taken_in=[(HOSTILE, "new", HOSTILE)],
        left_out=[(HOSTILE, "withdrawn", HOSTILE)],
        exports=HOSTILE,
        page=HOSTILE,
    )
    plain = replace(FACTS, reasons=["a reason"], taken_in=[("a", "b", "c")], left_out=[("a", "b", "c")])
    assert kinds(markdown(facts)) == kinds(markdown(plain))
    seen = HOSTILE.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert [seen, "1", "0", "0", seen] in table_rows(markdown(facts))


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_a_table_cell_as_text(text: str) -> None:
    rows = table_rows(f"| a | b |\n| --- | --- |\n| x{escape(text)}x | end |\n")
    printed = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    assert rows[1:] == [[f"x{printed}x", "end"]]


def test_files_left_out_are_listed_and_those_that_need_somebody_are_told_on_the_console() -> None:
    files = [
        ("a.csv", "withdrawn", "by Ana: twice"),
        ("b.csv", "duplicate", "the same as c.csv"),
    ]
    facts = replace(FACTS, left_out=[*files, *((f"{n}.csv", "superseded", "") for n in range(30))])
    assert [row for row in table_rows(markdown(facts)) if row[0] in ("a.csv", "b.csv")] == [list(f) for f in files]
    assert "12 more files are in" in markdown(facts)
    assert "Files left out" not in markdown(FACTS)
    assert "a.csv: by Ana: twice" in shown(facts)
    assert "b.csv" not in shown(facts)
    rejected = [(f"{n}.csv", "rejected", "it is empty") for n in range(23)]
    assert "3 more are in ops.sources." in shown(replace(FACTS, left_out=rejected))


def test_files_taken_in_are_listed_and_counted_by_kind() -> None:
    files = [(f"{n}.csv", "new", "") for n in range(25)] + [("z.csv", "grown", "grown from source 7")]
    facts = replace(FACTS, taken_in=files[::-1])
    assert ["z.csv", "grown", "grown from source 7"] in table_rows(markdown(facts))
    assert "6 more files are in `ops.sources`" in markdown(facts)
    assert "1 grown, 25 new" in shown(facts)
    assert "Files" not in shown(FACTS)


def test_the_console_is_told_in_short() -> None:
    said = [line.split(maxsplit=1) for line in shown(FACTS).splitlines()]
    assert ["Receipts", "1,108,987"] in [[name, rest.strip()] for name, rest in said]
    assert "3 lines, 1 waived (accepted as lost)" in shown(FACTS)
    one = shown(replace(FACTS, quarantine_rules=[RuleCount("bad_date", 1, 0, 0, "x")]))
    assert ["Quarantine", "1 line"] in [[word.strip() for word in line.split(maxsplit=1)] for line in one.splitlines()]
    assert "Every row of 2 sources is accounted for." in shown(FACTS)
    assert "http://127.0.0.1:4200/v2/runs/flow-run/run-1" in shown(FACTS)
    assert len(said) <= 10


def test_the_console_tells_why_nothing_was_published() -> None:
    facts = replace(FACTS, verdict="blocked", reasons=["[red]volume[/red]: 3 receipts\x1b[0m"], exports=None)
    assert "Blocked by a gate" in shown(facts)
    assert "[red]volume[/red]: 3 receipts\\x1b[0m" in shown(facts)
    assert "Exports" not in shown(facts)
