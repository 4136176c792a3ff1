"""What a person decides about lines in quarantine and about sources: each decision is a run of its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.run.changes import Changes, Decision, inputs_hash_of
from flows.run.request import MAIN_FLOW, RunRequest, require_text
from lakehouse.errors import WrongUse
from lakehouse.kernels.decisions import RULES
from lakehouse.kernels.receipt_rules import Refusal
from lakehouse.ops import corrections
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.sources.admission import Admission, heads_of, in_declared_columns
from lakehouse.sources.admission import withdraw as withdraw_source
from lakehouse.version import code_version

Row = dict[str, Any]
Choice = Callable[[RunRequest], Changes]
CURRENT = "a path that ops.sources lists as current"


@dataclass(frozen=True)
class DecisionReason:
    """Who decided, and why; errors: WrongUse when one of them says nothing, or cannot be printed."""

    who: str
    why: str

    def __post_init__(self) -> None:
        require_text("--who", self.who)
        require_text("--why", self.why)


@dataclass(frozen=True)
class DecisionContext:
    """The last release, opened to be decided about."""

    request: RunRequest
    opened: Snapshot

    @classmethod
    def of(cls, request: RunRequest) -> "DecisionContext":
        """Open the last release; errors: NothingPublished."""
        return cls(request, Snapshot(request.storage, release.latest(request.storage)))

    @property
    def corrections(self) -> pa.Table:
        """Give every decision so far; a release of code that knew of none has no table of them."""
        name = corrections.TABLE.qualified_name
        return (
            self.opened.rows(name)
            if name in self.opened.release.tables
            else corrections.TABLE.arrow_schema.empty_table()
        )

    @property
    def sources(self) -> pa.Table:
        """Give every source."""
        return in_declared_columns(self.opened.rows("ops.sources"))

    def source_of(self, path: str) -> int:
        """Give the source that counts for a path; errors: WrongUse."""
        heads = heads_of(self.sources)
        if path not in heads:
            raise WrongUse("SOURCE_PATH", path, CURRENT)
        return heads[path].source_id

    def line_of(self, path: str, number: int) -> Row:
        """Give a line in quarantine, whatever its status; errors: WrongUse."""
        wanted = (pc.field("source_id") == self.source_of(path)) & (pc.field("line_number") == number)
        rows = self.opened.rows("ops.quarantine", filters=wanted).to_pylist()
        if not rows:
            listing = f"`lakehouse quarantine --path {path}` lists them"
            raise WrongUse("LINE_NUMBER", number, f"the number of a line of {path} in quarantine; {listing}")
        found: Row = rows[0]
        return found

    def open_lines(self, path: str | None = None, rule: str | None = None) -> list[Row]:
        """Give the lines that are open, all or those of a path or a rule; errors: WrongUse, for a path."""
        wanted = pc.field("status") == "open"
        if path is not None:
            wanted &= pc.field("source_id") == self.source_of(path)
        if rule is not None:
            wanted &= pc.field("rule") == rule
        rows: list[Row] = self.opened.rows("ops.quarantine", filters=wanted).to_pylist()
        return rows

    def changes_by(self, action: str, lines: Iterable[tuple[Row, str | None]], reason: DecisionReason) -> Changes:
        """Record a decision about lines and what is read in their place; what is so already is no news."""
        known = self.corrections
        last = {(r["source_id"], r["line_number"]): r for r in known.sort_by("decision").to_pylist()}
        made = [self._row(action, line, text, reason, last.get(_key(line))) for line, text in lines]
        new = [row for row in made if row["decision"] == 1 or _content(row) != _content(last[_key(row)])]
        rows = self.sources
        if not new:
            return Changes(
                self.opened.release, Admission(rows, (), frozenset(), (), ()), "", self.opened.release.run_key
            )
        admission = Admission(rows, (), frozenset(), (), (), frozenset(row["source_id"] for row in new))
        table = pa.concat_tables([known, pa.Table.from_pylist(new, corrections.TABLE.arrow_schema)])
        return self.changes_under_key(admission, Decision(table, frozenset(map(_key, new))))

    def changes_under_key(self, admission: Admission, decided: Decision) -> Changes:
        """Make it news under the key that the next ordinary run with the same files will have."""
        inputs_hash = inputs_hash_of(admission)
        key = replace(self.request, flow=MAIN_FLOW).key(inputs_hash)
        return Changes(self.opened.release, admission, inputs_hash, key, decided)

    def _row(self, action: str, line: Row, text: str | None, reason: DecisionReason, last: Row | None) -> Row:
        return {
            "source_id": line["source_id"],
            "line_number": line["line_number"],
            "decision": last["decision"] + 1 if last else 1,
            "action": action,
            "line": text,
            "rule": line["rule"],
            "detail": line["detail"],
            "who": reason.who,
            "why": reason.why,
            "decided_at": self.request.started_at,
            "run_id": self.request.run_id,
        }


def fix(request: RunRequest, path: str, number: int, text: str, reason: DecisionReason) -> Changes:
    """Read a line as corrected; errors: WrongUse naming the rule that the correction breaks."""
    context = DecisionContext.of(request)
    line = context.line_of(path, number)
    read = RULES[line["entity"]].read(text)
    if isinstance(read, Refusal):
        raise WrongUse("The corrected line", text, f"one that breaks no rule; it breaks {read.rule}: {read.detail}")
    if not text.isprintable():
        raise WrongUse("The corrected line", text, "a single line of printable text")
    return context.changes_by("fix", [(line, text)], reason)


def waive(request: RunRequest, path: str, number: int, reason: DecisionReason) -> Changes:
    """Accept a line as lost; errors: WrongUse."""
    context = DecisionContext.of(request)
    return context.changes_by("waive", [(context.line_of(path, number), None)], reason)


def waive_rule(request: RunRequest, rule: str, path: str | None, reason: DecisionReason) -> Changes:
    """Accept every open line that broke a rule, of one file or of all, as lost; errors: WrongUse when there is none."""
    context = DecisionContext.of(request)
    lines = context.open_lines(path, rule)
    if not lines:
        raise WrongUse("--rule", rule, "a rule that open lines broke; `lakehouse quarantine --status open` lists them")
    return context.changes_by("waive", [(line, None) for line in lines], reason)


def replay(request: RunRequest) -> Changes:
    """Try every open line again, as delivered, with the present rules."""
    context = DecisionContext.of(request)
    kept = [row for row in context.open_lines() if not isinstance(RULES[row["entity"]].read(row["line"]), Refusal)]
    reason = DecisionReason("the rules", f"the rules of code {code_version()} keep the line as delivered")
    return context.changes_by("replay", [(row, row["line"]) for row in kept], reason)


def withdraw(request: RunRequest, path: str, reason: DecisionReason) -> Changes:
    """Take a transactions file out of every table; errors: WrongUse."""
    context = DecisionContext.of(request)
    known = context.sources
    source_id = context.source_of(path)
    entities = {row["source_id"]: row["entity"] for row in known.to_pylist()}
    if entities[source_id] != "transactions":
        raise WrongUse("SOURCE_PATH", path, "a transactions file; a reference file is replaced by a newer one")
    others = sorted(other for other, head in heads_of(known).items() if head.source_id == source_id and other != path)
    still = f"; the same bytes go on counting as {', '.join(others)}" if others else ""
    admission = withdraw_source(known, path, f"by {reason.who}: {reason.why}{still}")
    return context.changes_under_key(admission, Decision(context.corrections))


def _key(row: Row) -> tuple[int, int]:
    return row["source_id"], row["line_number"]


def _content(row: Row) -> tuple[object, object]:
    return row["action"], row["line"]
