"""The text of CATALOG.md, from the tables themselves: `python -m lakehouse.documents.catalogue` prints it."""

from typing import assert_never

from lakehouse import catalog
from lakehouse.documents.lineage import lineage_mermaid
from lakehouse.table import (
    DOUBLE,
    Append,
    Between,
    Check,
    Column,
    Expression,
    Layer,
    OneOf,
    Replace,
    ReplaceMonths,
    ReplaceSources,
    RowCount,
    Severity,
    Table,
    Write,
)

_HEAD = """# Catalogue

Generated from the table modules; `make docs` writes it again. An arrow goes from an input to what is made of it.
"""


def catalogue() -> str:
    """Describe every table: grain, columns, keys, how it is written, checks, inputs; the lineage first."""
    entries = catalog.entries()
    tables = [entry.table for entry in entries]
    contents = [f"- **{layer}**: {', '.join(_links(tables, layer))}" for layer in Layer]
    diagram = f"```mermaid\n{lineage_mermaid(tables)}\n```"
    pages = [_page(entry) for layer in Layer for entry in entries if entry.table.layer is layer]
    return "\n\n".join([_HEAD.strip(), diagram, "\n".join(contents), *pages]) + "\n"


def _links(tables: list[Table], layer: Layer) -> list[str]:
    return [_link(table) for table in tables if table.layer is layer]


def _link(table: Table) -> str:
    return f"[{table.qualified_name}](#{table.qualified_name.replace('.', '')})"


def _page(entry: catalog.Entry) -> str:
    table = entry.table
    facts = [
        f"- Keys: {', '.join(f'`{key}`' for key in table.keys) or 'none, rows are only added'}",
        f"- Written: {_written(table.write)}" + (f", in folders by `{table.partition}`" if table.partition else ""),
        f"- Made of: {', '.join(_link(table) for table in table.inputs.values()) or 'nothing, the run records it'}",
        f"- Group: {table.group}" if table.group else "",
        f"- Grows with: {table.grows_with}" if table.grows_with else "",
        f"- Module: `{entry.module}`",
    ]
    parts = [
        f"## {table.qualified_name}",
        table.doc,
        "\n".join(fact for fact in facts if fact),
        _columns(table.columns),
    ]
    return "\n\n".join([*parts, *_checks(table.checks)])


def _columns(columns: tuple[Column, ...]) -> str:
    rows = [f"| `{c.name}` | {_type(c)} | {'yes' if c.nullable else 'no'} | {_cell(c.doc)} |" for c in columns]
    return "\n".join(["| column | type | nullable | what it is |", "| --- | --- | --- | --- |", *rows])


def _type(column: Column) -> str:
    written = f", {column.digits} digits" if column.type is DOUBLE else ""
    return f"`{column.type.sql}`{written}"


def _checks(checks: tuple[Check, ...]) -> list[str]:
    rows = [f"| {_cell(_condition(c))} | {_cell(c.why)} | {_consequence(c.severity)} |" for c in checks]
    return ["\n".join(["| check | because | broken |", "| --- | --- | --- |", *rows])] if rows else []


def _written(write: Write) -> str:
    match write:
        case Replace():
            return "as a whole"
        case ReplaceMonths():
            return "month by month, those that were touched"
        case ReplaceSources():
            return "source by source, those that were touched"
        case Append():
            return "as a log, rows are only added"
        case _:
            assert_never(write)


def _condition(check: Check) -> str:
    match check:
        case Expression(sql=sql):
            return f"`{sql}`"
        case Between(column=column, low=low, high=high):
            return f"`{column}` {_range(low, high)}"
        case OneOf(column=column, values=values):
            return f"`{column}` is one of {', '.join(f'`{value}`' for value in values)}"
        case RowCount(low=low, high=high):
            return f"number of rows {_range(low, high)}"
        case _:
            assert_never(check)


def _range(low: float | None, high: float | None) -> str:
    bounds = [f"{name} {bound:g}" for name, bound in (("at least", low), ("at most", high)) if bound is not None]
    return " and ".join(bounds) or "of any size"


def _consequence(severity: Severity) -> str:
    return "blocks the release" if severity is Severity.CRITICAL else "is told"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(catalogue(), end="")
