"""Lineage and the catalogue page, made of the tables alone."""

import pytest

from lakehouse import catalog
from lakehouse.documents.catalogue import catalogue
from lakehouse.documents.lineage import lineage_mermaid, lineage_rows
from lakehouse.table import INT, Between, Column, Layer, RowCount, Severity, Table

LINES = Table(
    layer=Layer.BRONZE, name="lines", doc="One row per line.", columns=(Column("id", INT, "Its id."),), keys=("id",)
)
SALES = Table(
    layer=Layer.GOLD,
    group="summary",
    name="sales",
    doc="One row per sale.",
    inputs={"lines": LINES},
    columns=(Column("id", INT, "Its id."),),
    keys=("id",),
    checks=(RowCount(1, None, why="something is sold", severity=Severity.WARNING), Between("id", 0, 9, why="small")),
)


def test_lineage_pairs_a_table_with_its_inputs() -> None:
    assert lineage_rows([LINES, SALES]) == [("gold.sales", "bronze.lines")]


def test_the_diagram_has_a_box_per_layer_and_group_and_an_arrow_per_input() -> None:
    assert lineage_mermaid([SALES]) == "\n".join(
        [
            "flowchart LR",
            '  subgraph bronze["bronze"]',
            '    bronze_lines["lines"]',
            "  end",
            '  subgraph gold_summary["gold.summary"]',
            '    gold_sales["sales"]',
            "  end",
            "  bronze_lines --> gold_sales",
        ]
    )


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: str(entry.table.qualified_name))
def test_the_catalogue_describes_every_table(entry: catalog.Entry) -> None:
    table = entry.table
    page = catalogue().partition(f"\n## {table.qualified_name}\n")[2].partition("\n## ")[0]
    said = [table.doc, f"`{entry.module}`", *table.keys, *(made_of.qualified_name for made_of in table.inputs.values())]
    said += [
        text.replace("|", "\\|") for column in table.columns for text in (column.name, column.doc, column.type.sql)
    ]
    said += [check.why for check in table.checks]
    assert [text for text in said if text not in page] == []


def test_the_catalogue_is_the_same_text_every_time() -> None:
    assert catalogue() == catalogue()
    assert catalogue().count("\n## ") == len(catalog.tables())
