"""The run report: what a run did, as Markdown for its artifact and in short for the console. Nothing is read here."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from rich.table import Table as Grid
from rich.text import Text

from flows.report.markup import Cell, bullets, number, rows_of, section, visible, with_more
from lakehouse import catalog
from lakehouse.documents.lineage import lineage_mermaid, lineage_rows

LEDGER_SOURCES, FILES = 20, 20
TOLD = ("changing", "rejected", "withdrawn", "deleted")
TOP_RULES = 10
EXAMPLE_CHARACTERS = 120

Verdict = Literal["published", "nothing_new", "blocked", "partial", "unfinished", "failed"]  # as ops.runs has them

_SENTENCES: dict[Verdict, str] = {
    "published": "Published",
    "nothing_new": "Nothing new since release {}",
    "blocked": "Blocked by a gate: nothing was published",
    "partial": "Published in part: the groups that failed are as they were",
    "unfinished": "Published: what should follow failed",
    "failed": "Failed: nothing was published",
}
_STYLES: dict[Verdict, str] = {
    "published": "bold green",
    "nothing_new": "bold green",
    "blocked": "bold red",
    "partial": "bold yellow",
    "unfinished": "bold red",
    "failed": "bold red",
}


class LedgerRow(NamedTuple):
    """One control of one hop of one source."""

    path: str
    hop: str
    control: str
    expected: int
    found: int
    quarantined: int
    difference: int


class RuleCount(NamedTuple):
    """Lines that broke one rule: still open, waived (accepted as lost), replayed (corrected); and one of them."""

    rule: str
    open: int
    waived: int
    replayed: int
    example: str


class TableVersion(NamedTuple):
    """What a release says of a table."""

    name: str
    version: int
    rows: int
    digest: str


@dataclass(frozen=True)
class RunFacts:
    """Everything a report says.

    `groups` has the release each is as of, `taken_in` path, kind and detail of files, `left_out` path, status, reason.
    """

    run_id: str
    flow: str
    verdict: Verdict
    release_id: int | None
    parent: int | None
    created_at: datetime
    seconds: float
    receipts: int | None
    units: int | None
    customers: int | None
    products: int | None
    ledger: Sequence[LedgerRow]
    quarantine_rules: Sequence[RuleCount]
    tables: Sequence[TableVersion]
    groups: Mapping[str, int]
    verified: bool | None
    is_checked: bool = False
    reasons: Sequence[str] = ()
    taken_in: Sequence[tuple[str, str, str]] = ()
    left_out: Sequence[tuple[str, str, str]] = ()
    exports: str | None = None
    page: str | None = None


def markdown(facts: RunFacts) -> str:
    """Write the whole report; whatever comes from outside is only text in it."""
    parts = [
        f"# {_headline(facts)}",
        bullets(facts.reasons),
        section("Totals", rows_of(("what", "value"), _totals(facts))),
        section("Ledger", ledger_verdict(facts), _ledger(facts.ledger)),
        section("Files taken in", _files(("path", "kind", "detail"), facts.taken_in)),
        section("Files left out", _files(("path", "status", "detail"), facts.left_out)),
        section("Quarantine", _quarantine(facts.quarantine_rules)),
        section("Groups", rows_of(("group", "as of release"), sorted(facts.groups.items()))),
        section("Tables", rows_of(("table", "version", "rows", "digest"), facts.tables)),
        section("Lineage", *_lineage()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def console_summary(facts: RunFacts) -> Grid:
    """Give the report in a few lines, to be printed by rich."""
    is_counted = facts.receipts is not None
    said: list[tuple[str, Cell]] = [
        *(("", reason) for reason in facts.reasons),
        *_file_lines([file for file in facts.left_out if file[1] in TOLD]),
        ("Files", _kinds(facts.taken_in)),
        ("Receipts", facts.receipts),
        ("Units", facts.units),
        ("Quarantine", _quarantine_line(facts.quarantine_rules) if is_counted else None),
        ("Ledger", ledger_verdict(facts) if is_counted else None),
        ("Exports", facts.exports),
        ("Page", facts.page),
    ]
    grid = Grid.grid(padding=(0, 2))
    grid.add_row(Text(facts.flow, "bold"), Text(_headline(facts), _STYLES[facts.verdict]))
    for name, value in said:
        if value is not None:
            grid.add_row(Text(name, "dim"), Text(visible(number(value)), overflow="fold"))
    return grid


def ledger_verdict(facts: RunFacts) -> str:
    """Say in a sentence whether every source row is accounted for."""
    sources = {row.path for row in facts.ledger}
    wrong = {row.path for row in facts.ledger if row.difference}
    if not sources:
        return "No source was counted."
    if wrong:
        return f"{len(wrong):,} of {len(sources):,} sources differ."
    return f"Every row of {len(sources):,} sources is accounted for."


def _headline(facts: RunFacts) -> str:
    is_new = facts.release_id is not None and facts.verdict in ("published", "partial", "unfinished")
    release = f" as release {facts.release_id}" if is_new else ""
    sentence, colon, rest = _SENTENCES[facts.verdict].format(facts.release_id).partition(":")
    why = "not all of it was held to the quality checks" if facts.is_checked else "quality checks were off"
    unverified = f" ({why})" if is_new and facts.verified is False else ""
    return f"{sentence}{release}{unverified}{colon}{rest}"


def _totals(facts: RunFacts) -> list[tuple[str, Cell]]:
    return [
        ("flow", facts.flow),
        ("run", facts.run_id),
        ("release", facts.release_id),
        ("made on release", facts.parent),
        ("started", f"{facts.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("seconds", round(facts.seconds, 1)),
        ("receipts", facts.receipts),
        ("units", facts.units),
        ("customers", facts.customers),
        ("products", facts.products),
        ("verified", {True: "yes", False: "no", None: None}[facts.verified]),
        ("exports", facts.exports),
        ("page", facts.page),
    ]


def _ledger(rows: Sequence[LedgerRow]) -> str:
    if not rows:
        return ""
    paths = list(dict.fromkeys(row.path for row in sorted(rows, key=lambda row: row.difference == 0)))
    shown = [row for path in paths[:LEDGER_SOURCES] for row in rows if row.path == path]
    table = rows_of(LedgerRow._fields, [*shown, *_sums(rows)])
    return with_more(table, len(paths) - LEDGER_SOURCES, "sources are in the sums, and in `ops.ledger`")


def _sums(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        counts = sums.setdefault((row.hop, row.control), [0, 0, 0, 0])
        sums[row.hop, row.control] = [a + b for a, b in zip(counts, row[3:], strict=True)]
    return [LedgerRow("All sources", hop, control, *counts) for (hop, control), counts in sums.items()]


def _files(names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    return with_more(rows_of(names, rows[:FILES]), len(rows) - FILES, "files are in `ops.sources`")


def _quarantine(rules: Sequence[RuleCount]) -> str:
    if not rules:
        return "No line was refused."
    top = sorted(rules, key=lambda rule: (-rule.open, -rule.waived - rule.replayed, rule.rule))[:TOP_RULES]
    return rows_of(RuleCount._fields, [(*rule[:-1], _beginning(rule.example)) for rule in top])


def _file_lines(files: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, Cell]]:
    yield from ((status.capitalize(), f"{path}: {why}") for path, status, why in files[:FILES])
    if len(files) > FILES:
        yield "", f"{len(files) - FILES:,} more are in ops.sources."


def _kinds(files: Sequence[tuple[str, str, str]]) -> str | None:
    """Say how many files of each kind were taken in; None when there was none."""
    counts = Counter(kind for _, kind, _ in files)
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or None


def _quarantine_line(rules: Sequence[RuleCount]) -> str:
    """Say how many lines are open, and what became of others."""
    waived, replayed = sum(rule.waived for rule in rules), sum(rule.replayed for rule in rules)
    told = [(waived, "waived (accepted as lost)"), (replayed, "replayed (corrected)")]
    left = sum(rule.open for rule in rules)
    lines = f"{left:,} line{'' if left == 1 else 's'}"
    return ", ".join([lines, *(f"{count:,} {what}" for count, what in told if count)])


def _lineage() -> list[str]:
    tables = catalog.tables()
    pairs: dict[str, list[str]] = {}
    for made, made_of in lineage_rows(tables):
        pairs.setdefault(made, []).append(made_of)
    rows = [(made, ", ".join(inputs)) for made, inputs in pairs.items()]
    return [f"```mermaid\n{lineage_mermaid(tables)}\n```", rows_of(("table", "made of"), rows)]


def _beginning(line: str) -> str:
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[:EXAMPLE_CHARACTERS]}…"
