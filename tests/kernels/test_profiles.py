"""What segments are called, and what is said of them."""

from typing import Any

import pyarrow as pa
import pytest

from lakehouse.kernels.profiles import (
    EXPLORERS,
    FREQUENT,
    OCCASIONAL,
    RECOMMENDATIONS,
    REGULAR,
    VIP,
    label_of,
    profiles,
)


def totals(
    segment: int, customers: int, frequency: float, units: float, diversity: float, categories: float
) -> dict[str, Any]:
    """Give the sums of a segment whose customers have these means."""
    means = {"frequency": frequency, "total_products": units, "diversity": diversity, "unique_categories": categories}
    row: dict[str, Any] = {"segment": segment, "customers": customers, "inertia_millionths": 1_500_000}
    row |= {f"sum_{name}": round(mean * customers) for name, mean in means.items()}
    row |= {f"{end}_{name}": k for k, end in enumerate(("min", "max")) for name in ("frequency", "total_products")}
    return row


def described(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return profiles(pa.Table.from_pylist(list(rows))).to_pylist()


@pytest.mark.parametrize(
    ("frequency", "units", "diversity", "categories", "label"),
    [
        (16, 51, 0, 11, VIP),
        (15, 51, 0, 11, FREQUENT),
        (16, 50, 0, 11, FREQUENT),
        (16, 51, 0, 10, FREQUENT),
        (15.01, 50.01, 0, 10.01, VIP),
        (11, 1, 30, 20, FREQUENT),
        (10, 1, 20, 8, REGULAR),
        (10, 100, 21, 0, EXPLORERS),
        (10, 100, 0, 9, EXPLORERS),
        (1, 1, 21, 1, EXPLORERS),
        (1, 1, 20, 8.5, EXPLORERS),
        (4.99, 19.99, 20, 8, OCCASIONAL),
        (5, 19, 5, 5, REGULAR),
        (4, 20, 5, 5, REGULAR),
        (0, 0, 0, 0, OCCASIONAL),
        (7, 40, 15, 6, REGULAR),
    ],
)
def test_the_first_rule_that_holds_names_a_segment(
    frequency: float, units: float, diversity: float, categories: float, label: str
) -> None:
    assert label_of(frequency, units, diversity, categories) == label


def test_a_segment_is_described_by_its_means() -> None:
    (row,) = described(totals(0, 4, 2.5, 10, 6, 3.25))
    assert row["label"] == OCCASIONAL
    assert row["description"] == (
        "4 customers with on average 2.5 receipts, 10.0 units, 6.0 distinct products and 3.2 categories."
    )
    assert (row["avg_frequency"], row["avg_total_products"], row["avg_diversity"]) == (2.5, 10, 6)
    assert (row["avg_unique_categories"], row["customers"], row["customers_pct"], row["inertia"]) == (3.25, 4, 100, 1.5)
    assert (row["min_frequency"], row["max_frequency"]) == (0, 1)
    assert row["recommendations"] == list(RECOMMENDATIONS[OCCASIONAL])


def test_segments_are_in_the_order_of_their_numbers_and_share_all_customers() -> None:
    rows = described(totals(2, 10, 1, 1, 1, 1), totals(0, 30, 20, 60, 30, 12), totals(1, 60, 7, 40, 15, 6))
    assert [(row["segment"], row["label"]) for row in rows] == [(0, VIP), (1, REGULAR), (2, OCCASIONAL)]
    assert [row["customers_pct"] for row in rows] == [30, 60, 10]


def test_a_label_used_twice_is_numbered_in_the_order_of_segments() -> None:
    rows = described(*(totals(n, 10, 1, 10 - n, 1, 1) for n in (3, 1, 0)), totals(2, 10, 7, 40, 15, 6))
    labels = [row["label"] for row in rows]
    assert labels == [f"{OCCASIONAL} 1", f"{OCCASIONAL} 2", REGULAR, f"{OCCASIONAL} 3"]
    assert rows[0]["recommendations"] == rows[3]["recommendations"] == list(RECOMMENDATIONS[OCCASIONAL])


def test_no_two_segments_look_alike() -> None:
    rows = described(*(totals(n, 1, n, 5 * n, 2 * n, n) for n in range(20)))
    assert len({row["label"] for row in rows}) == 20


def test_every_label_has_recommendations() -> None:
    assert set(RECOMMENDATIONS) == {VIP, FREQUENT, EXPLORERS, OCCASIONAL, REGULAR}
    assert all(len(advice) >= 3 for advice in RECOMMENDATIONS.values())


def test_no_segments_have_no_profiles() -> None:
    empty = pa.Table.from_pylist([totals(0, 1, 1, 1, 1, 1)]).slice(0, 0)
    made = profiles(empty)
    assert made.num_rows == 0
    assert made["recommendations"].type == pa.list_(pa.string())
