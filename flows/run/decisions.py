"""What a person decides about lines in quarantine and about sources: each decision is a run of its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.commands.run import FLOW
from flows.report.events import Events, error_console
from flows.report.report import RunFacts
from flows.run.changes import Decided, News, inputs_hash_of
from flows.run.recorded import carried_out, direct, print_summary
from flows.run.request import Order, hold_to_text, ordered
from flows.run.steps import medallion
from lakehouse.errors import WrongUse
from lakehouse.kernels.decisions import RULES
from lakehouse.kernels.receipts import Refusal
from lakehouse.ops import corrections
from lakehouse.parameters import validated
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.settings import Settings
from lakehouse.sources.admission import Admission, as_declared, heads_of
from lakehouse.sources.admission import withdraw as withdrawn
from lakehouse.storage.tables import Storage
from lakehouse.version import code_version

Row = dict[str, Any]
Choice = Callable[[Order], News]
CURRENT = "a path that ops.sources lists as current"


@dataclass(frozen=True)
class Reason:
    """Who decided, and why; errors: WrongUse when one of them says nothing, or cannot be printed."""

    who: str
    why: str

    def __post_init__(self) -> None:
        hold_to_text("--who", self.who)
        hold_to_text("--why", self.why)


@dataclass(frozen=True)
class Bench:
    """The last release, opened to be decided about."""

    order: Order
    opened: Snapshot

    @classmethod
    def of(cls, order: Order) -> "Bench":
        """Open the last release; errors: NothingPublished."""
        return cls(order, Snapshot(order.storage, release.latest(order.storage)))

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
        return as_declared(self.opened.rows("ops.sources"))

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

    def decided(self, action: str, lines: Iterable[tuple[Row, str | None]], reason: Reason) -> News:
        """Record a decision about lines and what is read in their place; what is so already is no news."""
        known = self.corrections
        last = {(r["source_id"], r["line_number"]): r for r in known.sort_by("decision").to_pylist()}
        made = [self._row(action, line, text, reason, last.get(_key(line))) for line, text in lines]
        new = [row for row in made if row["decision"] == 1 or _said(row) != _said(last[_key(row)])]
        rows = self.sources
        if not new:
            return News(self.opened.release, Admission(rows, (), frozenset(), (), ()), "", self.opened.release.run_key)
        admission = Admission(rows, (), frozenset(), (), (), frozenset(row["source_id"] for row in new))
        table = pa.concat_tables([known, pa.Table.from_pylist(new, corrections.TABLE.arrow_schema)])
        return self.news(admission, Decided(table, frozenset(map(_key, new))))

    def news(self, admission: Admission, decided: Decided) -> News:
        """Make it news under the key that the next ordinary run with the same files will have."""
        inputs_hash = inputs_hash_of(admission)
        key = replace(self.order, flow=FLOW).key(inputs_hash)
        return News(self.opened.release, admission, inputs_hash, key, decided)

    def _row(self, action: str, line: Row, text: str | None, reason: Reason, last: Row | None) -> Row:
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
            "decided_at": self.order.started_at,
            "run_id": self.order.run_id,
        }


def fix(order: Order, path: str, number: int, text: str, reason: Reason) -> News:
    """Read a line as corrected; errors: WrongUse naming the rule that the correction breaks."""
    bench = Bench.of(order)
    line = bench.line_of(path, number)
    read = RULES[line["entity"]].read(text)
    if isinstance(read, Refusal):
        raise WrongUse("The corrected line", text, f"one that breaks no rule; it breaks {read.rule}: {read.detail}")
    if not text.isprintable():
        raise WrongUse("The corrected line", text, "a single line of printable text")
    return bench.decided("fix", [(line, text)], reason)


def waive(order: Order, path: str, number: int, reason: Reason) -> News:
    """Accept a line as lost; errors: WrongUse."""
    bench = Bench.of(order)
    return bench.decided("waive", [(bench.line_of(path, number), None)], reason)


def waive_rule(order: Order, rule: str, path: str | None, reason: Reason) -> News:
    """Accept every open line that broke a rule, of one file or of all, as lost; errors: WrongUse when there is none."""
    bench = Bench.of(order)
    lines = bench.open_lines(path, rule)
    if not lines:
        raise WrongUse("--rule", rule, "a rule that open lines broke; `lakehouse quarantine --status open` lists them")
    return bench.decided("waive", [(line, None) for line in lines], reason)


def replay(order: Order) -> News:
    """Try every open line again, as delivered, with the present rules."""
    bench = Bench.of(order)
    kept = [row for row in bench.open_lines() if not isinstance(RULES[row["entity"]].read(row["line"]), Refusal)]
    reason = Reason("the rules", f"the rules of code {code_version()} keep the line as delivered")
    return bench.decided("replay", [(row, row["line"]) for row in kept], reason)


def withdraw(order: Order, path: str, reason: Reason) -> News:
    """Take a transactions file out of every table; errors: WrongUse."""
    bench = Bench.of(order)
    known = bench.sources
    source_id = bench.source_of(path)
    entities = {row["source_id"]: row["entity"] for row in known.to_pylist()}
    if entities[source_id] != "transactions":
        raise WrongUse("SOURCE_PATH", path, "a transactions file; a reference file is replaced by a newer one")
    others = sorted(other for other, head in heads_of(known).items() if head.source_id == source_id and other != path)
    still = f"; the same bytes go on counting as {', '.join(others)}" if others else ""
    admission = withdrawn(known, path, f"by {reason.who}: {reason.why}{still}")
    return bench.news(admission, Decided(bench.corrections))


def decide(flow: str, settings: Settings, choice: Choice) -> RunFacts:
    """Carry out a choice with the parameters of the last release; errors: WrongUse, and those of the main job."""
    last = release.latest(Storage(settings.root))
    order = ordered(flow, settings, validated(**last.parameters))
    choice(order)  # wrong use is told before anything starts; the run chooses again, on the release it then finds
    events = Events(settings.logs, flow, order.run_id, error_console())
    return carried_out(order, events, direct(events), partial(medallion, look=choice), print_summary)


def _key(row: Row) -> tuple[int, int]:
    return row["source_id"], row["line_number"]


def _said(row: Row) -> tuple[object, object]:
    return row["action"], row["line"]
