"""Lineage: which table is made of which, as a diagram and as rows."""

from collections.abc import Sequence

from lakehouse.table import Layer, Table


def lineage_rows(tables: Sequence[Table]) -> list[tuple[str, str]]:
    """Pair every table with what it is made of, both by qualified name, in the order given."""
    return [(table.qualified_name, made_of.qualified_name) for table in tables for made_of in table.inputs.values()]


def lineage_mermaid(tables: Sequence[Table]) -> str:
    """Draw the tables in a box per layer and group, and an arrow from every input: the text of a Mermaid diagram."""
    known = {table.qualified_name: table for table in tables}
    known |= {made_of.qualified_name: made_of for table in tables for made_of in table.inputs.values()}
    boxes: dict[str, list[str]] = {}
    for table in known.values():
        boxes.setdefault(_box(table), []).append(f'    {_node(table.qualified_name)}["{table.name}"]')
    drawn = [
        line for box in sorted(boxes, key=_rank) for line in (f'  subgraph {_node(box)}["{box}"]', *boxes[box], "  end")
    ]
    arrows = [f"  {_node(made_of)} --> {_node(made)}" for made, made_of in lineage_rows(tables)]
    return "\n".join(["flowchart LR", *drawn, *arrows])


def _box(table: Table) -> str:
    return f"{table.layer}.{table.group}" if table.layer is Layer.GOLD else str(table.layer)


def _rank(box: str) -> tuple[int, str]:
    return ("ops", "bronze", "silver", "gold").index(box.partition(".")[0]), box


def _node(name: str) -> str:
    return name.replace(".", "_")
