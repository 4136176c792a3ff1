import inspect
import re
from pathlib import Path

import pytest
from deltalake import Schema
from pyspark.sql.pandas.types import from_arrow_schema

import lakehouse
from lakehouse import catalog
from lakehouse.catalog import Entry
from lakehouse.documents.catalogue import catalogue
from lakehouse.table import Layer, ReplaceSources, Table
from tests.contracts.freshness import stale

ENTRIES = catalog.entries()
TABLES = [entry.table for entry in ENTRIES]
HOUSE = Path(lakehouse.__file__).parent

COUNTED = {"products", "stores"}  # lists in silver; in gold.sales_totals, one row, how many there are

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.table.qualified_name)
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.qualified_name)


def test_every_layer_has_tables() -> None:
    assert {table.layer for table in TABLES} == set(Layer)


def test_names_are_unique_in_a_layer() -> None:
    names = [table.qualified_name for table in TABLES]
    assert sorted(set(names)) == sorted(names)


@each_entry
def test_a_table_lies_in_the_folder_of_its_layer_and_group(entry: Entry) -> None:
    folders = [entry.table.layer, entry.table.group, entry.table.name]
    assert entry.module == ".".join(["lakehouse", *(folder for folder in folders if folder)])


@each_table
def test_the_documentation_begins_with_the_grain_and_ends_as_a_sentence(table: Table) -> None:
    assert re.match(r"One row(,| per ).*\.$", table.doc)


@each_table
def test_every_column_says_what_it_holds(table: Table) -> None:
    assert [c.name for c in table.columns if not c.doc.endswith((".", "..."))] == []


@each_table
def test_every_check_says_why(table: Table) -> None:
    assert [check for check in table.checks if not check.why] == []


@each_entry
def test_build_takes_its_inputs_and_at_most_the_parameters_and_its_earlier_rows(entry: Entry) -> None:
    if entry.build is None:
        assert entry.table.layer is Layer.OPS
        assert entry.table.inputs == {}
    else:
        taken = [name for name in inspect.signature(entry.build).parameters if name not in ("parameters", "earlier")]
        assert taken == list(entry.table.inputs)


@each_table
def test_every_input_comes_before_what_is_made_of_it(table: Table) -> None:
    before = TABLES[: TABLES.index(table)]
    assert [given.qualified_name for given in table.inputs.values() if given not in before] == []


@each_table
def test_every_input_is_the_declared_table_itself(table: Table) -> None:
    assert all(given is catalog.entry(given.qualified_name).table for given in table.inputs.values())


@each_table
def test_a_log_is_made_of_nothing(table: Table) -> None:
    assert not (table.is_log and table.inputs)


@each_table
def test_a_table_written_by_source_is_made_of_what_knows_the_source(table: Table) -> None:
    if isinstance(table.write, ReplaceSources):
        for given in table.inputs.values():
            assert "source_id" in [c.name for c in given.columns], given.qualified_name


@each_table
def test_the_columns_mean_the_same_in_arrow_and_in_sql(table: Table) -> None:
    in_spark = from_arrow_schema(table.arrow_schema)
    written = [f"{field.name} {field.dataType.simpleString()}" for field in in_spark.fields]
    assert written == [f"{c.name} {c.type.sql.lower().replace(', ', ',')}" for c in table.columns]


@each_table
def test_delta_can_hold_the_columns(table: Table) -> None:
    assert [field.name for field in Schema.from_arrow(table.arrow_schema).fields] == [c.name for c in table.columns]


def test_one_name_has_one_kind_of_value_in_every_table() -> None:
    kinds: dict[str, dict[str, list[str]]] = {}
    for table in TABLES:
        for column in table.columns:
            kind = column.type.sql.replace("BIGINT", "INT")
            kinds.setdefault(column.name, {}).setdefault(kind, []).append(table.qualified_name)
    several = {name: found for name, found in kinds.items() if len(found) > 1}
    assert {name: found for name, found in several.items() if name not in COUNTED} == {}


def test_the_catalogue_page_is_up_to_date() -> None:
    assert not stale(HOUSE / "CATALOG.md", catalogue())


@pytest.mark.parametrize("table", [t for t in catalog.tables(Layer.SILVER) if t.group], ids=lambda t: t.qualified_name)
def test_silver_of_a_group_is_for_that_group_alone(table: Table) -> None:
    made_of_it = {catalog.entry(name).table.group for name in catalog.downstream(table.qualified_name)}
    assert made_of_it == {table.group}
