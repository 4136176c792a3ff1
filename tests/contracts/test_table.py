import re
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.table import (
    BIGINT,
    INT,
    STRING,
    Append,
    Between,
    Column,
    Expression,
    Layer,
    OneOf,
    Replace,
    ReplaceMonths,
    ReplaceSources,
    RowCount,
    Table,
)

PRODUCT = Column("product_id", INT, "The product.")
UNITS = Column("units", BIGINT, "Units sold.")
CATEGORY = Column("category_id", INT, "Its category.", nullable=True)
MONTH = Column("month", STRING, "The month, YYYY-MM.")


def declared(**changes: Any) -> Table:
    right: dict[str, Any] = {
        "layer": Layer.SILVER,
        "name": "product_units",
        "doc": "One row per product sold.",
        "columns": (PRODUCT, UNITS, CATEGORY),
        "keys": ("product_id",),
    }
    return Table(**right | changes)


def test_a_right_declaration_is_a_table() -> None:
    table = declared(checks=(Expression("units > 0", why="it was sold"), RowCount(1, None, why="something is sold")))
    assert table.qualified_name == "silver.product_units"
    assert table.arrow_schema.types == [pa.int32(), pa.int64(), pa.int32()]
    assert [field.nullable for field in table.arrow_schema] == [False, False, True]
    assert table.write == Replace()


def test_a_table_does_not_change() -> None:
    inputs = {"units": declared()}
    table = declared(name="more", inputs=inputs)
    inputs["other"] = declared()
    assert list(table.inputs) == ["units"]
    with pytest.raises(TypeError):
        table.inputs["other"] = declared()  # type: ignore[index]  # this is what the test is about


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keys": ("product",)}, "key 'product' is no column"),
        ({"keys": ("category_id",)}, "key 'category_id' is nullable"),
        ({"keys": ()}, "keys are missing"),
        ({"columns": (PRODUCT, UNITS, UNITS)}, "a column is declared twice"),
        ({"partition": "month"}, "partition 'month' is no column"),
        ({"write": ReplaceMonths()}, "write 'month' is no column"),
        ({"write": ReplaceMonths(), "columns": (PRODUCT, MONTH)}, "ReplaceMonths needs partition='month'"),
        ({"write": ReplaceSources()}, "write 'source_id' is no column"),
        ({"checks": (Between("unit", 1, None, why="typed wrong"),)}, "check 'unit' is no column"),
        ({"checks": (OneOf("kind", ("a",), why="no such column"),)}, "check 'kind' is no column"),
        ({"doc": "Products sold."}, 'doc must begin with the grain, "One row per ..."'),
        ({"doc": ""}, 'doc must begin with the grain, "One row per ..."'),
        ({"layer": Layer.GOLD}, "a gold table has a group"),
        ({"layer": Layer.OPS, "group": "summary"}, "only gold and silver tables have a group"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_declaration_fails_when_it_is_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^(ops|silver|gold)\.product_units: {re.escape(said)}"):
        declared(**changes)


def test_only_a_log_needs_no_keys() -> None:
    assert declared(keys=(), write=Append()).is_log
