"""What customers did, against counting one receipt at a time."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.customers import customer_features, customer_months
from tests.layouts import layouts

MONTHS = {
    "customer_id": pa.int64(),
    "month": pa.string(),
    "first_on": pa.date32(),
    "last_on": pa.date32(),
    "receipts": pa.int64(),
    "units": pa.int64(),
    "stores": pa.list_(pa.int32()),
    "products": pa.list_(pa.int32()),
}
Receipt = tuple[int, int, int, list[int]]  # day of the month, store, customer, products
Pair = tuple[int, int]  # product, category

IDS = st.sampled_from([0, 1, 2, 530, 2**31 - 1])
CUSTOMERS = st.sampled_from([0, 1, 7, 1008848, 2**63 - 1])
RECEIPTS = st.lists(st.tuples(st.integers(1, 28), IDS, CUSTOMERS, st.lists(IDS, min_size=1, max_size=5)), max_size=30)
PAIRS = st.sets(st.tuples(IDS, st.integers(1, 4)), max_size=12).map(sorted)


def receipts(rows: list[Receipt], month: int = 2) -> pa.Table:
    return pa.table(
        {
            "month": pa.array([f"2013-{month:02}"] * len(rows), pa.string()),
            "sold_on": pa.array([date(2013, month, day) for day, _, _, _ in rows], pa.date32()),
            "store_id": pa.array([store for _, store, _, _ in rows], pa.int32()),
            "customer_id": pa.array([customer for _, _, customer, _ in rows], pa.int64()),
            "products": pa.array([products for _, _, _, products in rows], pa.list_(pa.int32())),
            "units": pa.array([len(products) for _, _, _, products in rows], pa.int32()),
        }
    )


def columns(pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    product, category = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    return product, category


def month_of(customer: int, rows: list[Receipt], month: int = 2) -> dict[str, Any]:
    """Count one customer's receipts, one at a time."""
    own = [row for row in rows if row[2] == customer]
    days = sorted(date(2013, month, row[0]) for row in own)
    return {
        "customer_id": customer,
        "month": f"2013-{month:02}",
        "first_on": days[0],
        "last_on": days[-1],
        "receipts": len(own),
        "units": sum(len(row[3]) for row in own),
        "stores": sorted({row[1] for row in own}),
        "products": sorted({product for row in own for product in row[3]}),
    }


def features_of(customer: int, rows: list[tuple[int, Receipt]], pairs: list[Pair]) -> dict[str, Any]:
    own = [(date(2013, month, row[0]), row) for month, row in rows if row[2] == customer]
    products = sorted({product for _, row in own for product in row[3]})
    units = sum(len(row[3]) for _, row in own)
    return {
        "customer_id": customer,
        "first_on": min(day for day, _ in own),
        "last_on": max(day for day, _ in own),
        "frequency": len(own),
        "total_products": units,
        "diversity": len(products),
        "avg_quantity": units / len(own),
        "unique_stores": len({row[1] for _, row in own}),
        "unique_categories": len({category for product, category in pairs if product in products}),
        "products": products,
    }


def test_a_month_of_a_customer_is_one_row() -> None:
    rows = [(3, 102, 7, [5, 5, 2]), (1, 103, 7, [2]), (9, 102, 8, [1])]
    first, second = customer_months(receipts(rows)).to_pylist()
    assert first == {
        "customer_id": 7,
        "month": "2013-02",
        "first_on": date(2013, 2, 1),
        "last_on": date(2013, 2, 3),
        "receipts": 2,
        "units": 4,
        "stores": [102, 103],
        "products": [2, 5],
    }
    assert (second["customer_id"], second["stores"], second["products"]) == (8, [102], [1])


def test_the_largest_customer_id_has_its_products() -> None:
    (row,) = customer_months(receipts([(1, 102, 2**63 - 1, [5, 2])])).to_pylist()
    assert (row["stores"], row["products"]) == ([102], [2, 5])


@given(RECEIPTS)
@settings(deadline=None, max_examples=80)
def test_months_are_those_of_counting_one_by_one(rows: list[Receipt]) -> None:
    made = customer_months(receipts(rows))
    assert made.to_pylist() == [month_of(customer, rows) for customer in sorted({row[2] for row in rows})]
    made.validate(full=True)


@given(RECEIPTS, RECEIPTS, PAIRS)
@settings(deadline=None, max_examples=80)
def test_features_are_those_of_counting_one_by_one(
    first: list[Receipt], then: list[Receipt], pairs: list[Pair]
) -> None:
    months = pa.concat_tables([customer_months(receipts(then, 3)), customer_months(receipts(first, 2))])
    made = customer_features(months, *columns(pairs))
    rows = [(2, row) for row in first] + [(3, row) for row in then]
    assert made.to_pylist() == [features_of(c, rows, pairs) for c in sorted({row[2] for _, row in rows})]
    made.validate(full=True)


def test_every_category_of_a_product_counts_and_a_product_without_has_none() -> None:
    months = customer_months(receipts([(1, 102, 7, [5, 6]), (1, 102, 8, [9])]))
    made = customer_features(months, *columns([(5, 1), (5, 3), (6, 3), (7, 4)]))
    assert made["unique_categories"].to_pylist() == [2, 0]
    assert customer_features(months, *columns([]))["unique_categories"].to_pylist() == [0, 0]


def test_a_store_or_product_of_two_months_counts_once() -> None:
    again = [customer_months(receipts([(1, 102, 7, [5, 5])], month)) for month in (2, 3)]
    (row,) = customer_features(pa.concat_tables(again), *columns([])).to_pylist()
    assert (row["frequency"], row["total_products"], row["diversity"], row["unique_stores"]) == (2, 4, 1, 1)
    assert row["last_on"] - row["first_on"] == timedelta(days=28)


def test_nothing_gives_typed_nothing() -> None:
    months = customer_months(receipts([]))
    assert dict(zip(months.schema.names, months.schema.types, strict=True)) == MONTHS
    features = customer_features(months, *columns([(5, 1)]))
    assert (months.num_rows, features.num_rows) == (0, 0)
    assert features["products"].type == pa.list_(pa.int32())
    assert features["avg_quantity"].type == pa.float64()


def test_the_layout_of_memory_does_not_show() -> None:
    rows = [(3, 102, 7, [5, 5, 2]), (1, 103, 7, [2]), (9, 102, 8, [1]), (9, 102, 1, [1, 2, 3]), (1, 102, 8, [6])]
    pairs = columns([(1, 1), (2, 1), (2, 2), (5, 4)])
    months = customer_months(receipts(rows))
    features = customer_features(months, *pairs)
    for name, layout in layouts(receipts(rows)).items():
        assert customer_months(layout).to_pylist() == months.to_pylist(), name
    for name, layout in layouts(months).items():
        assert customer_features(layout, *pairs).to_pylist() == features.to_pylist(), name
