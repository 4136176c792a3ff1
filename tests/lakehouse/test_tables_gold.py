"""Rows of the gold tables, on both engines."""

from datetime import date, timedelta

import pytest

from lakehouse.engine.building import declared_frame
from lakehouse.engine.session import Engine
from lakehouse.parameters import Parameters
from lakehouse.table import DOUBLE, Column, Layer, Table
from tests.rows import Row, built, chosen, framed

LABELS = {"frequency": 1, "diversity": 1, "unique_categories": 1}


def day(sold_on: str, receipts: int = 1, units: int = 2) -> Row:
    return {"month": sold_on[:7], "sold_on": date.fromisoformat(sold_on), "receipts": receipts, "units": units}


def itemset(*items: int, receipts: int) -> Row:
    return {"items": list(items), "size": len(items), "receipts": receipts, "support": receipts / 10}


def rule(antecedent: list[int], consequent: int, confidence: float, lift: float) -> Row:
    return {"antecedent": antecedent, "consequent": consequent, "confidence": confidence, "lift": lift}


def test_the_totals_are_one_row(engine: Engine) -> None:
    products = [
        {"product_id": 5, "store_id": 101},
        {"product_id": 5, "store_id": 102},
        {"product_id": 6, "store_id": 101},
    ]
    customers = [{"customer_id": 1}, {"customer_id": 2}]
    days = [day("2024-01-31", 3, 7), day("2024-02-01", 1, 1)]
    found = built(engine, "gold.sales_totals", days=days, products=products, customers=customers)
    assert chosen(found, "first_on", "last_on") == [(date(2024, 1, 31), date(2024, 2, 1))]
    assert chosen(found, "receipts", "units", "customers", "products", "stores") == [(4, 8, 2, 2, 2)]


def test_a_product_is_summed_over_days_with_its_primary_category(engine: Engine) -> None:
    days = [
        {"product_id": 5, "units": 4, "receipts": 3},
        {"product_id": 5, "units": 1, "receipts": 1},
        {"product_id": 6, "units": 2, "receipts": 2},
    ]
    categories = [
        {"product_id": 5, "category_id": 2, "is_primary": True},
        {"product_id": 5, "category_id": 3, "is_primary": False},
    ]
    found = built(engine, "gold.product_sales", days=days, categories=categories)
    assert chosen(found, "product_id", "category_id", "units", "receipts") == [(5, 2, 5, 4), (6, None, 2, 2)]


def test_every_category_listed_or_sold_has_a_row(engine: Engine) -> None:
    baskets = [
        {"category_id": 0, "basket_units": 3, "receipts": 2},
        {"category_id": 1, "basket_units": 1, "receipts": 5},
        {"category_id": 1, "basket_units": 2, "receipts": 1},
        {"category_id": 9, "basket_units": 1, "receipts": 1},
    ]
    names = [{"category_id": 1, "category_name": "BREAD"}, {"category_id": 2, "category_name": "MILK"}]
    listed = [
        {"product_id": 5, "category_id": 1},
        {"product_id": 6, "category_id": 1},
        {"product_id": 6, "category_id": 9},
    ]
    found = built(engine, "gold.category_sales", baskets=baskets, names=names, listed=listed)
    assert chosen(found, "category_id", "category_name", "units", "receipts", "listed_products") == [
        (0, None, 6, 2, 0),
        (1, "BREAD", 7, 6, 2),
        (2, "MILK", 0, 0, 0),
        (9, None, 1, 1, 1),
    ]


def test_customer_sales_are_the_features_by_their_common_names(engine: Engine) -> None:
    customers = [{"customer_id": 4, "frequency": 2, "total_products": 9}]
    found = built(engine, "gold.customer_sales", customers=customers)
    assert chosen(found, "customer_id", "receipts", "units") == [(4, 2, 9)]


def test_the_daily_series_is_the_days(engine: Engine) -> None:
    days = [day("2024-01-31", 3, 7) | {"customers": 2}, day("2024-02-01")]
    found = built(engine, "gold.daily_sales", days=days)
    assert chosen(found, "sold_on", "receipts", "units", "customers")[0] == (date(2024, 1, 31), 3, 7, 2)
    assert len(found) == 2


def test_the_monthly_series_counts_days_with_sales(engine: Engine) -> None:
    days = [day("2024-01-31", 3, 7), day("2024-01-30", 1, 1), day("2024-02-01", 1, 1)]
    found = built(engine, "gold.monthly_sales", days=days)
    assert chosen(found, "month", "receipts", "units", "days") == [("2024-01", 4, 8, 2), ("2024-02", 1, 1, 1)]


def test_weeks_at_year_boundaries_belong_to_the_year_of_their_thursday(engine: Engine) -> None:
    days = ["2016-01-03", "2018-12-31", "2020-12-31", "2021-01-03", "2021-01-04", "2024-12-29", "2024-12-30"]
    found = built(engine, "gold.weekly_sales", days=[day(one) for one in days])
    assert chosen(found, "iso_year", "iso_week", "receipts") == [
        (2015, 53, 1),
        (2019, 1, 1),
        (2020, 53, 2),
        (2021, 1, 1),
        (2024, 52, 1),
        (2025, 1, 1),
    ]


def test_weeks_are_those_of_the_calendar_on_every_day_of_ten_years(engine: Engine) -> None:
    days = [date(2012, 12, 20) + timedelta(n) for n in range(3700)]
    found = built(engine, "gold.weekly_sales", days=[day(one.isoformat()) for one in days])
    assert chosen(found, "iso_year", "iso_week") == sorted({tuple(one.isocalendar()[:2]) for one in days})


def test_the_first_day_of_the_week_is_sunday(engine: Engine) -> None:
    days = [day("2024-01-07"), day("2024-01-08"), day("2024-01-13"), day("2024-01-14")]
    found = built(engine, "gold.weekday_sales", days=days)
    assert chosen(found, "weekday", "receipts", "days") == [(1, 2, 2), (2, 1, 1), (7, 1, 1)]


def test_a_box_plot_interpolates_its_quartiles(engine: Engine) -> None:
    baskets = [{"month": f"2024-0{n}", "store_id": 101, "category_id": 3, "basket_units": n} for n in (1, 2, 3)]
    baskets += [{"month": "2024-04", "store_id": 101, "category_id": 3, "basket_units": 9}]
    baskets += [{"month": "2024-04", "store_id": 102, "category_id": 3, "basket_units": 2, "receipts": 5}]
    found = built(engine, "gold.category_store_distribution", baskets=baskets)
    box = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum", "average")
    assert chosen(found, "store_id", "units", "receipts", *box) == [
        (101, 15, 4, 1, 1.75, 2.5, 4.5, 9, 3.75),
        (102, 10, 5, 2, 2.0, 2.0, 2.0, 2, 2.0),
    ]


def test_features_that_do_not_vary_have_no_correlation(engine: Engine) -> None:
    customers = [
        {"customer_id": k, "frequency": k, "total_products": 2 * k, "diversity": 4 - k, "unique_stores": 1}
        for k in (1, 2, 3)
    ]
    found = built(engine, "gold.variable_correlation", customers=customers)
    seen = {(row["variable"], row["other"]): row["correlation"] for row in found}
    assert len(seen) == 25
    assert seen["frequency", "total_products"] == 1.0
    assert seen["diversity", "frequency"] == -1.0
    assert seen["unique_stores", "frequency"] is seen["unique_stores", "unique_stores"] is None


def test_a_correlation_is_rounded_from_exact_sums(engine: Engine) -> None:
    pairs = [(1, 1), (2, 4), (3, 2), (4_000_000_000, 7_000_000_000)]
    customers = [{"customer_id": a, "frequency": a, "total_products": b} for a, b in pairs]
    found = built(engine, "gold.variable_correlation", customers=customers)
    between = [r["correlation"] for r in found if (r["variable"], r["other"]) == ("frequency", "total_products")]
    assert between == [1.0]


def test_segments_are_numbered_by_falling_mean_units(engine: Engine) -> None:
    customers = [LABELS | {"customer_id": k, "total_products": units} for k, units in enumerate((2, 90, 1, 91, 40, 41))]
    found = built(engine, "gold.customer_segments", Parameters(n_clusters=3), customers=customers)
    assert chosen(found, "customer_id", "segment") == [(0, 2), (1, 0), (2, 2), (3, 0), (4, 1), (5, 1)]


def test_fewer_kinds_of_customers_than_segments_are_as_many_segments(engine: Engine) -> None:
    customers = [LABELS | {"customer_id": k, "total_products": k % 2} for k in range(4)]
    found = built(engine, "gold.customer_segments", customers=customers)
    assert chosen(found, "segment", "squared_distance") == [(1, 0.0), (0, 0.0), (1, 0.0), (0, 0.0)]


def test_two_segments_of_one_label_look_different(engine: Engine) -> None:
    alike = {"frequency": 2, "diversity": 2, "unique_categories": 1, "squared_distance": 0.25}
    segments = [{"customer_id": k, "segment": k % 2, "total_products": 9 - k} | alike for k in range(4)]
    found = built(engine, "gold.segment_profiles", segments=segments)
    assert chosen(found, "segment", "customers", "customers_pct", "avg_total_products", "inertia") == [
        (0, 2, 50.0, 8.0, 0.5),
        (1, 2, 50.0, 7.0, 0.5),
    ]
    assert all(row["label"].startswith("Occasional / New") for row in found)
    assert found[0]["label"] != found[1]["label"]
    assert all(row["recommendations"] for row in found)


def test_an_itemset_at_the_limit_of_support_is_frequent(engine: Engine) -> None:
    months = [
        {"items": [1], "month": "2024-01", "receipts": 2},
        {"items": [1], "month": "2024-02", "receipts": 3},
        {"items": [1, 2], "month": "2024-02", "receipts": 4},
    ]
    days = [day("2024-01-01", receipts=4), day("2024-02-01", receipts=6)]
    found = built(engine, "gold.itemsets", Parameters(min_support=0.5), months=months, days=days)
    assert chosen(found, "items", "size", "receipts", "support") == [([1], 1, 5, 0.5)]


def test_rules_have_one_consequent_and_enough_confidence(engine: Engine) -> None:
    itemsets = [itemset(1, receipts=8), itemset(2, receipts=4), itemset(1, 2, receipts=4)]
    found = built(
        engine,
        "gold.association_rules",
        Parameters(min_confidence=0.6),
        itemsets=itemsets,
        days=[day("2024-01-01", 10)],
    )
    assert chosen(found, "antecedent", "consequent", "receipts", "support", "confidence", "lift") == [
        ([2], 1, 4, 0.4, 1.0, 1.25)
    ]


def test_a_product_is_recommended_by_lift_then_confidence_then_number(engine: Engine) -> None:
    rules = [rule([1], k, confidence=0.5, lift=2.0) for k in (9, 4, 8, 7)]
    rules += [rule([1], 6, 0.9, 2.0), rule([1], 5, 0.1, 3.0), rule([1, 2], 3, 1.0, 9.0)]
    found = built(engine, "gold.product_recommendations", rules=rules)
    assert chosen(found, "product_id", "rank", "recommended_product_id") == [
        (1, 1, 5),
        (1, 2, 6),
        (1, 3, 4),
        (1, 4, 7),
        (1, 5, 8),
    ]


def test_a_customer_is_recommended_what_was_not_bought(engine: Engine) -> None:
    rules = [rule([1], 2, 0.5, 2.0), rule([1], 3, 0.4, 3.0), rule([1, 2], 3, 0.9, 4.0), rule([4], 1, 0.5, 5.0)]
    customers = [
        {"customer_id": 8, "products": [1]},
        {"customer_id": 9, "products": [1, 2]},
        {"customer_id": 10, "products": [7]},
    ]
    found = built(engine, "gold.customer_recommendations", rules=rules, customers=customers)
    assert chosen(found, "customer_id", "rank", "recommended_product_id", "based_on", "lift") == [
        (8, 1, 3, [1], 3.0),
        (8, 2, 2, [1], 2.0),
        (9, 1, 3, [1, 2], 4.0),
    ]


@pytest.mark.parametrize(("value", "rounded"), [(0.125, 0.13), (-0.125, -0.12), (0.1 + 0.2, 0.3)])
def test_floats_are_rounded_half_up_to_their_digits(engine: Engine, value: float, rounded: float) -> None:
    columns = (Column("share", DOUBLE, "A share.", digits=2),)
    table = Table(layer=Layer.SILVER, name="shares", doc="One row per share.", columns=columns, keys=("share",))
    frame = declared_frame(framed(engine, table, [{"share": value}]), table)
    assert engine.rows(frame, table.arrow_schema).read_all().to_pylist() == [{"share": rounded}]
