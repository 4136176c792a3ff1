"""The documents of the group analytics: series, the week's pattern, box plots, correlations."""

import datetime
from calendar import day_name, month_name
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Generic, Literal, TypeVar

from pydantic import AwareDatetime

from lakehouse.exports.documents import Document, Figure, Maker, Part, Snapshot, category_names
from lakehouse.kernels.correlation import VARIABLES

VARIABLE_NAMES = {
    "frequency": "Frequency (receipts)",
    "total_products": "Units bought",
    "diversity": "Diversity (distinct products)",
    "avg_quantity": "Units per receipt",
    "unique_stores": "Distinct stores",
}


class Statistics(Part):
    """Mean, least and most of a series; null when it has no points."""

    promedio: Figure | None
    minimo: Figure | None
    maximo: Figure | None


class Day(Part):
    """A date with sales."""

    date: datetime.date
    num_transacciones: int
    clientes_unicos: int
    total_products_sold: int


class Week(Part):
    """An ISO week with sales; it begins and ends with its first and last day with sales."""

    year: int
    week: int
    num_transacciones: int
    total_products_sold: int
    inicio_semana: datetime.date
    fin_semana: datetime.date


class Month(Part):
    """A month with sales; its date is YYYY-MM."""

    year: int
    month: int
    month_name: str
    num_transacciones: int
    total_products_sold: int
    date: str


Point = TypeVar("Point", Day, Week, Month)


class Series(Document, Generic[Point]):
    """Points in order of time, with the statistics of the value column."""

    series_name: Literal["daily_sales", "weekly_sales", "monthly_sales"]
    date_column: Literal["date", "inicio_semana"]
    value_column: Literal["num_transacciones"]
    statistics: Statistics
    data: list[Point]
    generated_at: AwareDatetime


class Weekday(Part):
    """A day of the week, 1 = Sunday ... 7 = Saturday."""

    day_of_week: int
    day_name: str
    num_transacciones: int


class WeekdayPattern(Document):
    """Receipts by day of the week: all seven."""

    distribution_name: Literal["day_of_week_patterns"]
    data: list[Weekday]
    generated_at: AwareDatetime


class BoxPlot(Part):
    """Units of the category per receipt that holds it."""

    promedio: Figure
    minimo: int
    q1: Figure
    mediana: Figure
    q3: Figure
    maximo: int


class CategoryInStore(Part):
    """A primary category (null: products without one) in a store."""

    category_id: int | None
    category_name: str | None
    store_id: int
    total_products_sold: int
    num_transacciones: int
    statistics: BoxPlot


class CategoryDistribution(Document):
    """Units by category and store, products without a category last."""

    distribution_name: Literal["category_products_by_store"]
    data: list[CategoryInStore]
    generated_at: AwareDatetime


class Correlations(Part):
    """Every variable against every variable; null only where one of them does not vary."""

    variables: list[str]
    variable_names: dict[str, str]
    matrix: dict[str, dict[str, Figure | None]]


class VariableCorrelation(Document):
    """Pearson's correlation of customer features, over customers."""

    matrix_name: Literal["variable_correlation"]
    correlation_data: Correlations
    generated_at: AwareDatetime


def daily_sales(snapshot: Snapshot) -> Series[Day]:
    """Give the daily series."""
    rows = snapshot.rows("gold.daily_sales", ["sold_on", "receipts", "units", "customers"]).sort_by("sold_on")
    data = [
        Day(
            date=row["sold_on"],
            num_transacciones=row["receipts"],
            clientes_unicos=row["customers"],
            total_products_sold=row["units"],
        )
        for row in rows.to_pylist()
    ]
    return Series[Day](
        series_name="daily_sales",
        date_column="date",
        value_column="num_transacciones",
        statistics=_statistics([point.num_transacciones for point in data]),
        data=data,
        generated_at=snapshot.release.created_at,
    )


def weekly_sales(snapshot: Snapshot) -> Series[Week]:
    """Give the series of ISO weeks."""
    columns = ["iso_year", "iso_week", "first_on", "last_on", "receipts", "units"]
    data = [
        Week(
            year=row["iso_year"],
            week=row["iso_week"],
            num_transacciones=row["receipts"],
            total_products_sold=row["units"],
            inicio_semana=row["first_on"],
            fin_semana=row["last_on"],
        )
        for row in snapshot.rows("gold.weekly_sales", columns).sort_by("first_on").to_pylist()
    ]
    return Series[Week](
        series_name="weekly_sales",
        date_column="inicio_semana",
        value_column="num_transacciones",
        statistics=_statistics([point.num_transacciones for point in data]),
        data=data,
        generated_at=snapshot.release.created_at,
    )


def monthly_sales(snapshot: Snapshot) -> Series[Month]:
    """Give the monthly series."""
    rows = snapshot.rows("gold.monthly_sales", ["month", "receipts", "units"]).sort_by("month").to_pylist()
    data = [
        Month(
            year=int(row["month"][:4]),
            month=int(row["month"][5:]),
            month_name=month_name[int(row["month"][5:])],
            num_transacciones=row["receipts"],
            total_products_sold=row["units"],
            date=row["month"],
        )
        for row in rows
    ]
    return Series[Month](
        series_name="monthly_sales",
        date_column="date",
        value_column="num_transacciones",
        statistics=_statistics([point.num_transacciones for point in data]),
        data=data,
        generated_at=snapshot.release.created_at,
    )


def weekday_pattern(snapshot: Snapshot) -> WeekdayPattern:
    """Give receipts by day of the week; a day without sales has none."""
    rows = snapshot.rows("gold.weekday_sales", ["weekday", "receipts"]).to_pylist()
    receipts = {row["weekday"]: row["receipts"] for row in rows}
    data = [
        Weekday(day_of_week=day, day_name=day_name[(day - 2) % 7], num_transacciones=receipts.get(day, 0))
        for day in range(1, 8)
    ]
    return WeekdayPattern(distribution_name="day_of_week_patterns", data=data, generated_at=snapshot.release.created_at)


def category_products_by_store_distribution(snapshot: Snapshot) -> CategoryDistribution:
    """Give units and box plots by category and store."""
    names = category_names(snapshot)
    figures = ["average", "minimum", "lower_quartile", "median", "upper_quartile", "maximum"]
    columns = ["category_id", "store_id", "units", "receipts", *figures]
    rows = snapshot.rows("gold.category_store_distribution", columns).to_pylist()
    data = [
        CategoryInStore(
            category_id=row["category_id"] or None,
            category_name=names.get(row["category_id"]),
            store_id=row["store_id"],
            total_products_sold=row["units"],
            num_transacciones=row["receipts"],
            statistics=BoxPlot(
                promedio=row["average"],
                minimo=row["minimum"],
                q1=row["lower_quartile"],
                mediana=row["median"],
                q3=row["upper_quartile"],
                maximo=row["maximum"],
            ),
        )
        for row in sorted(rows, key=lambda row: (row["category_id"] == 0, row["category_id"], row["store_id"]))
    ]
    return CategoryDistribution(
        distribution_name="category_products_by_store", data=data, generated_at=snapshot.release.created_at
    )


def variable_correlation(snapshot: Snapshot) -> VariableCorrelation:
    """Give the whole matrix of correlations."""
    rows = snapshot.rows("gold.variable_correlation", ["variable", "other", "correlation"]).to_pylist()
    found = {(row["variable"], row["other"]): row["correlation"] for row in rows}
    matrix = {a: {b: found.get((a, b)) for b in VARIABLES} for a in VARIABLES}
    return VariableCorrelation(
        matrix_name="variable_correlation",
        correlation_data=Correlations(
            variables=list(VARIABLES), variable_names={v: VARIABLE_NAMES[v] for v in VARIABLES}, matrix=matrix
        ),
        generated_at=snapshot.release.created_at,
    )


DOCUMENTS: Mapping[str, Maker] = {
    "analytics/daily_sales.json": daily_sales,
    "analytics/weekly_sales.json": weekly_sales,
    "analytics/monthly_sales.json": monthly_sales,
    "analytics/weekday_pattern.json": weekday_pattern,
    "analytics/category_products_by_store_distribution.json": category_products_by_store_distribution,
    "analytics/variable_correlation.json": variable_correlation,
}


def _statistics(values: Sequence[int]) -> Statistics:
    if not values:
        return Statistics(promedio=None, minimo=None, maximo=None)
    return Statistics(promedio=fmean(values), minimo=min(values), maximo=max(values))
