"""Markdown made of text that comes from outside: whatever it holds, it is only text."""

from collections.abc import Iterable, Sequence

Cell = str | int | float | None

_MARKUP = str.maketrans({c: f"\\{c}" for c in "`*_[]~#$"} | {c: f"&#{ord(c)};" for c in "\\|<>&"})


def escape(value: str) -> str:
    """Make text that Markdown shows as it is, also in a table: no markup, no HTML, no line break."""
    return visible(value).translate(_MARKUP)


def section(title: str, *parts: str) -> str:
    """Put parts under a heading; nothing where all of them are empty."""
    said = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *said]) if said else ""


def rows_of(names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Make a table; nothing without rows."""
    lines = [f"| {' | '.join(escape(number(value)) for value in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *lines]) if lines else ""


def bullets(sentences: Sequence[str]) -> str:
    """Make a list."""
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def with_more(table: str, more: int, what: str) -> str:
    """Say under a table how many rows it leaves out."""
    return f"{table}\n\n{more:,} more {what}." if more > 0 else table


def number(value: Cell) -> str:
    """Write a cell: numbers with commas, None as none."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:,}"


def visible(text: str) -> str:
    """Write what cannot be printed (line ends, control characters, changes of direction) as its code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
