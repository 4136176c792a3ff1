"""What the command line shows: a table for people, JSON for programs, alone on standard output."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from flows.report.markup import visible
from flows.run.console import wide_console


def print_table(rows: Sequence[Mapping[str, object]], as_json: bool, nothing: str = "There is nothing.") -> None:
    """Print rows of equal keys; `nothing` is said where there are none."""
    if as_json:
        print(json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], ensure_ascii=False, indent=1))
        return
    if not rows:
        Console(stderr=True).print(nothing)
        return
    grid = Grid(*(escape(visible(name)) for name in rows[0]), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        grid.add_row(*(escape(_text(_as_identifier(name, v))) for name, v in row.items()))
    wide_console().print(grid)


def print_facts(facts: Mapping[str, object], as_json: bool) -> None:
    """Print one object."""
    if as_json:
        print(json.dumps({k: _plain(v) for k, v in facts.items()}, ensure_ascii=False, indent=1))
        return
    grid = Grid.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(escape(visible(name)), escape(_text(value)))
    wide_console().print(grid)


def _as_identifier(name: str, value: object) -> object:
    """Give an identifier as it is: it is no amount, and is copied into queries."""
    return str(value) if name.endswith("_id") and isinstance(value, int) else value


def _plain(value: object) -> object:
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case float():
            return value if isfinite(value) else None  # JSON has no other numbers
        case str() | int() | bool() | None:
            return value
        case _:
            return str(value)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case Mapping():
            return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
        case list() | tuple():
            return " ".join(map(_text, value)) if value else "none"
        case _:
            return visible(str(value))
