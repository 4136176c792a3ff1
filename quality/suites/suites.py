"""From a table's declaration to a Great Expectations suite, and from what it found to verdicts.

Importing this takes seconds: `quality.suites.worker` does it in a process of its own.
"""

import os
from collections.abc import Iterator
from functools import cache
from time import perf_counter
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when Great Expectations is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent import SparkDatasource
from great_expectations.execution_engine import SparkDFExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.table import DOUBLE, Between, Check, Column, Expression, OneOf, RowCount, Severity, Table
from quality.verdict import Verdict

NOTHING = "nothing unexpected"
SHOWN = 3


class _ToldExpectation(BatchExpectation):
    """Shows itself by the sentence of its check."""

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls,
        configuration: ExpectationConfiguration | None = None,
        result: ExpectationValidationResult | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> list[RenderedStringTemplateContent]:
        told = configuration or (result.expectation_config if result else None)
        sentence = {"template": "$check", "params": {"check": _name_of(told.meta if told else None)}}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=sentence)]


class ExpectTableColumnsToBe(_ToldExpectation):
    """Expect the columns, their order and their types; `columns` are "name type", as Spark writes types."""

    columns: list[str]
    metric_dependencies = ("table.column_types",)
    success_keys = ("columns",)

    def _validate(self, metrics: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        found = [f"{c['name']} {c['type'].simpleString()}" for c in metrics["table.column_types"]]
        return {"success": found == self.columns, "result": {"observed_value": found}}


class RowsBreaking(TableMetricProvider):
    """Count the rows that do not fulfil a condition; an aggregate, which is computed in one pass with others."""

    metric_name = "table.rows_breaking"
    value_keys = ("condition",)

    @metric_partial(
        engine=SparkDFExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _spark(
        cls,  # noqa: N805  # Great Expectations gives it by this name
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: object,
    ) -> tuple[object, dict[str, Any], dict[str, Any]]:
        holds = F.coalesce(F.expr(metric_value_kwargs["condition"]), F.lit(False))
        return F.count(F.when(~holds, 1)), metric_domain_kwargs, {}


class ExpectEveryRow(_ToldExpectation):
    """Expect every row to fulfil a condition in SQL."""

    condition: str
    metric_dependencies = ("table.rows_breaking",)
    success_keys = ("condition",)
    domain_keys = ("batch_id", "table")

    def _validate(self, metrics: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        count = metrics["table.rows_breaking"]
        return {"success": count == 0, "result": {"observed_value": count}}


class ExpectNoRows(gxe.UnexpectedRowsExpectation):
    """Expect a query to give no rows; they are only counted, where its parent runs the query twice."""

    metric_dependencies = ("unexpected_rows_query.row_count",)

    def _validate(self, metrics: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        count = metrics["unexpected_rows_query.row_count"]
        return {"success": count == 0, "result": {"observed_value": count}}


def suite_of(table: Table) -> gx.ExpectationSuite:
    """Derive a suite from a table: what its columns and keys promise, then its checks."""
    expectations = [*_contract(table), *(_of_check(check) for check in table.checks)]
    return gx.ExpectationSuite(name=table.qualified_name, expectations=expectations)


def check_table(frame: DataFrame, table: Table, version: int) -> list[Verdict]:
    """Check the frame of a table's version: one verdict per declared check, in their order."""
    started = perf_counter()
    suite = suite_of(table)
    result = validate(frame, suite)
    return verdicts_of(result, suite, version, perf_counter() - started)


def validate(frame: DataFrame, suite: gx.ExpectationSuite) -> ExpectationSuiteValidationResult:
    """Validate a frame; what fails is looked at a second time, to say what is found there."""
    batch = _batches().get_batch({"dataframe": frame})
    _source().get_execution_engine().spark = frame.sparkSession
    result = batch.validate(suite, result_format="BOOLEAN_ONLY")
    if any(map(_raised, result.results)):  # one that cannot be evaluated spoils those computed in one pass with it
        alone = [gx.ExpectationSuite(name=suite.name, expectations=[e]) for e in suite.expectations]
        result.results = [r for one in alone for r in batch.validate(one, result_format="BOOLEAN_ONLY").results]
    failed = {_check_of(r) for r in result.results if not r.success and not _raised(r)}
    if failed:
        again = [e for e in suite.expectations if _name_of(e.meta) in failed]
        closer = batch.validate(gx.ExpectationSuite(name=suite.name, expectations=again), result_format="SUMMARY")
        seen = {_check_of(r): r for r in closer.results if not r.success}
        result.results = [seen.get(_check_of(r), r) for r in result.results]
    return result


def verdicts_of(
    result: ExpectationSuiteValidationResult, suite: gx.ExpectationSuite, version: int, seconds: float
) -> list[Verdict]:
    """Say of each declared check whether it holds; one that raised, or was not evaluated once, fails as critical."""
    declared = suite.expectations
    share = round(seconds / len(declared), 6)

    def verdict(expectation: Expectation) -> Verdict:
        check, severity = _name_of(expectation.meta), expectation.severity.value
        found = [r for r in result.results if _check_of(r) == check]
        problem = _raised(found[0]) if len(found) == 1 else f"evaluated {len(found)} times, not once"
        if problem:
            return Verdict(suite.name, version, check, Severity.CRITICAL.value, False, problem, share)
        passed = found[0].success is True
        return Verdict(suite.name, version, check, severity, passed, NOTHING if passed else _observed(found[0]), share)

    return [verdict(expectation) for expectation in declared]


def _contract(table: Table) -> Iterator[Expectation]:
    columns = [f"{column.name} {_type_of(column)}" for column in table.columns]
    yield ExpectTableColumnsToBe(columns=columns, **_named("the columns are as declared"))
    for column in table.columns:
        if not column.nullable:
            yield ExpectEveryRow(
                condition=f"{_quoted(column.name)} IS NOT NULL", **_named(f"{column.name} is not null")
            )
    if table.keys:
        keys = ", ".join(map(_quoted, table.keys))
        query = f"SELECT {keys} FROM {{batch}} GROUP BY {keys} HAVING count(*) > 1"
        yield ExpectNoRows(unexpected_rows_query=query, **_named(f"({', '.join(table.keys)}) is unique"))
    doubles = [column.name for column in table.columns if column.type == DOUBLE]
    if doubles:
        infinity = "CAST('Infinity' AS DOUBLE)"
        wrong = " OR ".join(f"isnan({c}) OR abs({c}) = {infinity}" for c in map(_quoted, doubles))
        condition = f"NOT coalesce({wrong}, false)"
        yield ExpectEveryRow(condition=condition, **_named(f"finite: {', '.join(doubles)}"))


def _of_check(check: Check) -> Expectation:
    match check:
        case Expression(sql, why, severity):
            return ExpectEveryRow(condition=sql, **_named(sql, why, severity))
        case Between(column, low, high, why, severity):
            told = _named(_interval(column, low, high), why, severity)
            return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, **told)
        case OneOf(column, values, why, severity):
            told = _named(f"{column} is one of {', '.join(map(str, values))}", why, severity)
            return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values), **told)
        case RowCount(low, high, why, severity):
            told = _named(_interval("number of rows", low, high), why, severity)
            return gxe.ExpectTableRowCountToBeBetween(min_value=low, max_value=high, **told)


def _named(check: str, why: str = "", severity: Severity = Severity.CRITICAL) -> dict[str, Any]:
    return {"severity": severity.value, "meta": {"check": f"{check} ({why})" if why else check}}


def _interval(what: str, low: float | None, high: float | None) -> str:
    return ("" if low is None else f"{low} <= ") + what + ("" if high is None else f" <= {high}")


def _type_of(column: Column) -> str:
    return column.type.sql.lower().replace(" ", "")


def _quoted(name: str) -> str:
    return f"`{name}`"


def _name_of(meta: dict[str, Any] | None) -> str:
    return str(meta["check"]) if meta else ""


def _check_of(result: ExpectationValidationResult) -> str:
    return _name_of(result.expectation_config.meta if result.expectation_config else None)


def _raised(result: ExpectationValidationResult) -> str:
    """Give the message of what an expectation raised, empty when it did not raise."""
    info = result.exception_info or {}
    raised = [i for i in ([info] if "raised_exception" in info else info.values()) if i["raised_exception"]]
    said = [line for one in raised for line in str(one["exception_message"]).splitlines()]
    return f"could not be evaluated: {' '.join(said[:1])}"[:500] if raised else ""


def _observed(result: ExpectationValidationResult) -> str:
    found = result.result
    if "unexpected_count" in found:
        values = [str(v) for v in found["partial_unexpected_list"] if v is not None]
        examples = f", such as {', '.join(list(dict.fromkeys(values))[:SHOWN])}" if values else ""
        return f"{found['unexpected_count']} of {found['element_count']} rows{examples}"
    value = found.get("observed_value", "")
    return ", ".join(value) if isinstance(value, list) else f"{value} row{'' if value == 1 else 's'}"


@cache
def _source() -> SparkDatasource:
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
    )
    return gx.get_context(mode="ephemeral", project_config=config).data_sources.add_spark("lakehouse", persist=False)


@cache
def _batches() -> BatchDefinition[Any]:
    """Define one batch for frames of any table: each new definition writes all earlier ones out again."""
    return _source().add_dataframe_asset("tables").add_batch_definition_whole_dataframe("version")
