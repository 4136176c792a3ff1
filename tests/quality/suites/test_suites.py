"""Suites derived from declarations: what passes, what fails, and how severely. On the embedded engine."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession

from lakehouse import catalog
from lakehouse.engine.session import start
from lakehouse.settings import load_settings
from lakehouse.table import (
    BIGINT,
    COUNTS,
    DATE,
    DOUBLE,
    INTS,
    STRING,
    Append,
    Between,
    Column,
    Expression,
    Layer,
    OneOf,
    RowCount,
    Severity,
    Table,
)

with warnings.catch_warnings(action="ignore"):  # Great Expectations imports what Python deprecates
    from quality.suites.documents import write_documents
    from quality.suites.suites import NOTHING, check_table, suite_of, validate, verdicts_of

Rows = list[dict[str, Any]]
Framed = Callable[[Rows, Table], DataFrame]

TABLE = Table(
    layer=Layer.SILVER,
    name="samples",
    doc="One row per sample and day.",
    columns=(
        Column("sample_id", BIGINT, "The sample."),
        Column("day", DATE, "Its day."),
        Column("label", STRING, "Its label."),
        Column("note", STRING, "What there is to say.", nullable=True),
        Column("share", DOUBLE, "Its share."),
        Column("items", INTS, "Its items."),
        Column("counts", COUNTS, "Its counts."),
    ),
    keys=("sample_id", "day"),
    checks=(
        Expression("size(items) >= 1", why="a sample has items"),
        Expression("label <> 'odd'", why="odd ones are rare", severity=Severity.WARNING),
        Between("share", 0, 1, why="a share is within 0 and 1"),
        Between("sample_id", 1, None, why="samples count from 1", severity=Severity.WARNING),
        OneOf("label", ("a", "b", "odd"), why="labels are a closed set"),
        OneOf("note", ("new", "old"), why="notes are few", severity=Severity.WARNING),
        RowCount(1, 3, why="samples are few", severity=Severity.WARNING),
    ),
)
DECLARED = [
    "the columns are as declared",
    "sample_id is not null",
    "day is not null",
    "label is not null",
    "share is not null",
    "items is not null",
    "counts is not null",
    "(sample_id, day) is unique",
    "finite: share",
    "size(items) >= 1 (a sample has items)",
    "label <> 'odd' (odd ones are rare)",
    "0 <= share <= 1 (a share is within 0 and 1)",
    "1 <= sample_id (samples count from 1)",
    "label is one of a, b, odd (labels are a closed set)",
    "note is one of new, old (notes are few)",
    "1 <= number of rows <= 3 (samples are few)",
]
FIRST = {
    "sample_id": 1,
    "day": date(2013, 1, 1),
    "label": "a",
    "note": "new",
    "share": 0.5,
    "items": [1],
    "counts": [("x", 1)],
}
SECOND = {
    "sample_id": 1,
    "day": date(2013, 1, 2),
    "label": "b",
    "note": None,
    "share": 1.0,
    "items": [1, 2],
    "counts": [],
}


@pytest.fixture(scope="module")
def session() -> Iterator[SparkSession]:
    """Great Expectations asks for a session of its own: it is told where one is, whatever ran here before."""
    engine = start(load_settings(engine="sail"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_REMOTE", engine.address)
        yield engine.session
    engine.stop()


@pytest.fixture
def framed(session: SparkSession, tmp_path: Path) -> Framed:
    def of(rows: Rows, table: Table) -> DataFrame:
        schema = pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns])
        write_deltalake(str(tmp_path / table.name), pa.Table.from_pylist(rows, schema))
        return session.read.format("delta").load(str(tmp_path / table.name))

    return of


def test_a_table_that_keeps_its_promises_passes_every_declared_check(framed: Framed) -> None:
    found = check_table(framed([FIRST, SECOND], TABLE), TABLE, version=7)
    assert [v.check for v in found] == DECLARED
    assert {(v.table, v.version, v.passed, v.observed) for v in found} == {("silver.samples", 7, True, NOTHING)}
    assert all(v.seconds > 0 for v in found)


@pytest.mark.parametrize(
    ("rows", "check", "severity", "observed"),
    [
        ([FIRST | {"label": None}], "label is not null", "critical", "1 row"),
        ([FIRST, FIRST], "(sample_id, day) is unique", "critical", "1 row"),
        ([FIRST | {"share": float("nan")}], "finite: share", "critical", "1 row"),
        ([FIRST | {"share": float("-inf")}], "finite: share", "critical", "1 row"),
        ([FIRST | {"items": []}, SECOND], "size(items) >= 1 (a sample has items)", "critical", "1 row"),
        ([FIRST | {"label": None}], "label <> 'odd' (odd ones are rare)", "warning", "1 row"),
        ([FIRST | {"label": "odd"}], "label <> 'odd' (odd ones are rare)", "warning", "1 row"),
        (
            [FIRST | {"share": 1.5}, SECOND],
            "0 <= share <= 1 (a share is within 0 and 1)",
            "critical",
            "1 of 2 rows, such as 1.5",
        ),
        ([FIRST | {"sample_id": 0}], "1 <= sample_id (samples count from 1)", "warning", "1 of 1 rows, such as 0"),
        (
            [FIRST | {"label": "c"}],
            "label is one of a, b, odd (labels are a closed set)",
            "critical",
            "1 of 1 rows, such as c",
        ),
        (
            [FIRST | {"note": "dull"}, SECOND],
            "note is one of new, old (notes are few)",
            "warning",
            "1 of 2 rows, such as dull",
        ),
        ([], "1 <= number of rows <= 3 (samples are few)", "warning", "0 rows"),
    ],
)
def test_what_breaks_a_check_is_told_with_its_severity(
    framed: Framed, rows: Rows, check: str, severity: str, observed: str
) -> None:
    broken = {v.check: (v.severity, v.observed) for v in check_table(framed(rows, TABLE), TABLE, 0) if not v.passed}
    assert broken[check] == (severity, observed)


def test_an_empty_table_breaks_nothing_but_its_row_count(framed: Framed) -> None:
    assert [v.check for v in check_table(framed([], TABLE), TABLE, 0) if not v.passed] == [DECLARED[-1]]


def test_a_warning_alone_is_no_critical_failure(framed: Framed) -> None:
    result = validate(framed([FIRST | {"label": "odd"}], TABLE), suite_of(TABLE))
    severity = result.get_max_severity_failure()
    assert severity is not None and severity.value == "warning"


@pytest.mark.parametrize(
    "column",
    [
        Column("note", BIGINT, "Another type.", nullable=True),
        Column("remark", STRING, "Another name.", nullable=True),
    ],
)
def test_other_columns_than_declared_are_critical(framed: Framed, column: Column) -> None:
    delivered = replace(TABLE, checks=(), columns=(*TABLE.columns[:3], column, *TABLE.columns[4:]))
    found = check_table(framed([], delivered), TABLE, 0)[0]
    assert (found.check, found.passed, found.severity) == (DECLARED[0], False, "critical")
    assert f"{column.name} {column.type.sql.lower()}" in found.observed


def test_a_check_that_cannot_be_evaluated_is_critical_whatever_its_severity(framed: Framed) -> None:
    wrong = Expression("no_such_column = 1", why="it is misspelt", severity=Severity.WARNING)
    found = check_table(framed([FIRST], TABLE), replace(TABLE, checks=(*TABLE.checks, wrong)), 0)
    assert [v.check for v in found if not v.passed] == ["no_such_column = 1 (it is misspelt)"]
    assert found[-1].severity == "critical"
    assert found[-1].observed.startswith("could not be evaluated:") and "no_such_column" in found[-1].observed


def test_a_check_that_was_not_evaluated_is_critical(framed: Framed) -> None:
    suite = suite_of(TABLE)
    result = validate(framed([FIRST], TABLE), suite)
    result.results = [r for r in result.results if r.expectation_config.meta["check"] != DECLARED[-1]]
    found = verdicts_of(result, suite, 0, 1.0)
    assert found[-1][2:6] == (DECLARED[-1], "critical", False, "evaluated 0 times, not once")


def test_braces_in_a_condition_are_text(framed: Framed) -> None:
    table = replace(TABLE, checks=(Expression("label <> '{batch}'", why="it is no placeholder"),))
    assert all(v.passed for v in check_table(framed([FIRST], table), table, 0))


def test_a_log_has_no_keys_to_be_unique() -> None:
    log = replace(TABLE, keys=(), write=Append())
    assert not any("is unique" in e.meta["check"] for e in suite_of(log).expectations)


@pytest.mark.parametrize("table", catalog.tables(), ids=lambda table: table.qualified_name)
def test_every_declared_check_can_be_evaluated(framed: Framed, table: Table) -> None:
    found = check_table(framed([], table), table, 0)
    assert len(found) == len({v.check for v in found}) == len(suite_of(table).expectations)
    assert [v for v in found if not v.passed and "number of rows" not in v.check] == []


def test_documents_are_a_site_that_replaces_the_former_one(framed: Framed, tmp_path: Path) -> None:
    result = validate(framed([FIRST | {"share": 1.5}], TABLE), suite_of(TABLE))
    into = tmp_path / "documents"
    into.mkdir()
    (into / "former.html").touch()
    write_documents([result], into)
    pages = {path.name for path in into.rglob("*.html")}
    assert "silver.samples" in (into / "index.html").read_text()
    (page,) = (into / "validations").rglob("*.html")
    assert all(told in page.read_text() for told in ("the columns are as declared", "label is not null"))
    assert "former.html" not in pages and len(pages) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
