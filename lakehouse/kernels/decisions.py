"""Lines about which something was decided: read as corrected, left out when waived, and kept in quarantine.

`lines` has source_id, line_number, line.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.kernels.receipt_rules import Refusal, read_line, refused_receipts
from lakehouse.kernels.reference_rules import (
    read_category,
    read_product_category,
    refused_categories,
    refused_product_categories,
)


class Decision(NamedTuple):
    """What is read in place of a line (nothing: it is waived), and the rule the line had broken."""

    line: str | None
    rule: str
    detail: str


class Rules(NamedTuple):
    """How lines of an entity are read, one, and all that are refused."""

    read: Callable[[str], object]
    refused: Callable[[pa.Table], pa.Table]


Decisions = Mapping[tuple[int, int], Decision]  # by source_id and line_number

RULES: Mapping[str, Rules] = {
    "transactions": Rules(read_line, refused_receipts),
    "categories": Rules(read_category, refused_categories),
    "product_categories": Rules(read_product_category, refused_product_categories),
}


def last_decisions(corrections: pa.Table) -> dict[tuple[int, int], Decision]:
    """Give the last decision about each line; a row has source_id, line_number, decision, line, rule, detail."""
    rows = corrections.sort_by("decision").to_pylist()
    return {(r["source_id"], r["line_number"]): Decision(r["line"], r["rule"], r["detail"]) for r in rows}


def apply_decisions(lines: pa.Table, decisions: Decisions) -> pa.Table:
    """Put corrected lines in the place of those delivered, and leave out those waived."""
    if not decisions:
        return lines
    others, decided = _set_apart(lines, decisions)
    read = [row | {"line": decision.line} for row, decision in decided if decision.line is not None]
    return pa.concat_tables([others, pa.Table.from_pylist(read, lines.schema)])


def in_quarantine(lines: pa.Table, entity: str, decisions: Decisions) -> pa.Table:
    """Name the rule each refused line broke; a line that was decided about stays, whatever the rules say of it now.

    The result has source_id, line_number, entity, line, rule, detail, status.
    """
    rules = RULES[entity]
    if not decisions:
        return rules.refused(lines)
    others, decided = _set_apart(lines, decisions)
    refused = rules.refused(others)
    kept = [
        {**row, "entity": entity, "rule": d.rule, "detail": d.detail, "status": _status(d, rules)} for row, d in decided
    ]
    return pa.concat_tables([refused, pa.Table.from_pylist(kept, refused.schema)])


def _status(decision: Decision, rules: Rules) -> str:
    if decision.line is None:
        return "waived"
    return "open" if isinstance(rules.read(decision.line), Refusal) else "replayed"


def _set_apart(lines: pa.Table, decisions: Decisions) -> tuple[pa.Table, list[tuple[dict[str, object], Decision]]]:
    """Part the lines that were decided about from the others."""
    sources, numbers = (sorted(set(part)) for part in zip(*decisions, strict=True))
    likely = pc.and_(
        pc.is_in(lines["source_id"], pa.array(sources, pa.int64())),
        pc.is_in(lines["line_number"], pa.array(numbers, pa.int32())),
    )
    rows = lines.filter(likely).to_pylist()
    decided = [(row, decisions[key]) for row in rows if (key := (row["source_id"], row["line_number"])) in decisions]
    left = pa.Table.from_pylist([r for r in rows if (r["source_id"], r["line_number"]) not in decisions], lines.schema)
    return pa.concat_tables([lines.filter(pc.invert(likely)), left]), decided
