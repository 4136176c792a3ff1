"""Customer segments: k-means on standardised features."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.kernels.segments import FEATURES, Model, fit, nearest, reorder
from tests.layouts import layouts

Point = tuple[int, int, int, int]


def customers(points: list[Point]) -> pa.Table:
    """Give the customers 1, 2, 3 ... those features."""
    features = {name: [point[k] for point in points] for k, name in enumerate(FEATURES)}
    ids = pa.array(range(1, len(points) + 1), pa.int64())
    return pa.table({"customer_id": ids} | {name: pa.array(values, pa.int64()) for name, values in features.items()})


def around(centre: int, count: int, seed: int) -> list[Point]:
    draw = random.Random(seed)
    return [tuple(centre + draw.randint(-2, 2) for _ in FEATURES) for _ in range(count)]  # type: ignore[misc]


THREE = around(10, 30, 1) + around(100, 20, 2) + around(500, 10, 3)


def groups(made: pa.Table) -> set[frozenset[int]]:
    """Give the segments as sets of customers, whatever their numbers."""
    found: dict[int, set[int]] = {}
    for row in made.to_pylist():
        found.setdefault(row["segment"], set()).add(row["customer_id"])
    return {frozenset(group) for group in found.values()}


def rows(made: pa.Table) -> list[dict[str, Any]]:
    return made.sort_by("customer_id").to_pylist()


def test_customers_far_apart_are_in_segments_of_their_own() -> None:
    made = nearest(customers(THREE), fit(customers(THREE), 3))
    expected = {frozenset(range(1, 31)), frozenset(range(31, 51)), frozenset(range(51, 61))}
    assert groups(made) == expected
    assert made.schema.field("segment").type == pa.int32()


def test_centres_are_the_means_of_their_customers() -> None:
    model = fit(customers(THREE), 3)
    means = [np.mean(part, axis=0) for part in (THREE[:30], THREE[30:50], THREE[50:])]
    found = sorted((model.centres * model.deviation + model.mean).tolist())
    assert found == pytest.approx(np.array(means), rel=1e-9)


def test_features_are_standardised_by_the_deviation_of_the_population() -> None:
    model = fit(customers([(1, 1, 10, 1), (3, 1, 30, 2)]), 2)
    assert model.mean.tolist() == [2, 1, 20, 1.5]
    assert model.deviation.tolist() == [1, 1, 10, 0.5]


def test_the_distance_is_that_to_the_nearest_centre_squared_and_standardised() -> None:
    model = Model(np.zeros(4), np.array([1.0, 2, 1, 1]), np.array([[0.0, 0, 0, 0], [3.0, 0, 0, 0]]))
    made = nearest(customers([(1, 4, 0, 0), (3, 0, 1, 0)]), model)
    assert made["segment"].to_pylist() == [0, 1]
    assert made["squared_distance"].to_pylist() == [5, 1]


def test_a_tie_goes_to_the_segment_of_the_smaller_number() -> None:
    model = Model(np.zeros(4), np.ones(4), np.array([[0.0, 0, 0, 0], [2.0, 0, 0, 0]]))
    assert nearest(customers([(1, 0, 0, 0)]), model)["segment"].to_pylist() == [0]


def test_the_order_and_layout_of_rows_do_not_show() -> None:
    whole = customers(THREE)
    model = fit(whole, 4)
    expected = rows(nearest(whole, model))
    order = list(range(len(THREE)))
    random.Random(7).shuffle(order)
    for name, layout in layouts(whole.take(order)).items():
        again = fit(layout, 4)
        assert np.array_equal(again.centres, model.centres), name
        assert rows(nearest(layout, again)) == expected, name


def test_fitting_again_gives_the_same_bits() -> None:
    centres = {fit(customers(THREE), 5).centres.tobytes() for _ in range(3)}
    assert len(centres) == 1


def test_fewer_distinct_customers_than_segments_are_segments_of_their_own() -> None:
    points: list[Point] = [(1, 1, 1, 1), (5, 5, 5, 5), (1, 1, 1, 1)]
    made = nearest(customers(points), fit(customers(points), 4))
    assert groups(made) == {frozenset({1, 3}), frozenset({2})}
    assert made["squared_distance"].to_pylist() == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 5])
def test_equal_customers_are_one_segment(count: int) -> None:
    points: list[Point] = [(3, 2, 9, 1)] * count
    made = nearest(customers(points), fit(customers(points), 4))
    assert (made["segment"].to_pylist(), made["squared_distance"].to_pylist()) == ([0] * count, [0] * count)


def test_no_customers_have_no_segments() -> None:
    model = fit(customers([]), 4)
    made = nearest(customers([]), model)
    assert (len(model.centres), made.num_rows) == (0, 0)
    assert made.schema.field("segment").type == pa.int32()
    assert len(reorder(model, []).centres) == 0


def test_a_part_without_customers_has_no_segments() -> None:
    assert nearest(customers([]), fit(customers(THREE), 3)).num_rows == 0


def test_a_feature_that_does_not_vary_does_not_matter() -> None:
    points: list[Point] = [(a, b, c, 7) for a, b, c, _ in THREE]
    model = fit(customers(points), 3)
    assert model.deviation[3] == 1
    assert groups(nearest(customers(points), model)) == groups(nearest(customers(THREE), fit(customers(THREE), 3)))


def test_segments_are_numbered_anew() -> None:
    model = fit(customers(THREE), 3)
    old = rows(nearest(customers(THREE), model))
    new = rows(nearest(customers(THREE), reorder(model, [2, 0, 1])))
    assert {(a["segment"], b["segment"]) for a, b in zip(old, new, strict=True)} == {(2, 0), (0, 1), (1, 2)}
    assert [row["squared_distance"] for row in new] == [row["squared_distance"] for row in old]


def test_a_centre_that_is_left_out_gives_its_customers_to_the_others() -> None:
    model = fit(customers(THREE), 3)
    assert set(nearest(customers(THREE), reorder(model, [1, 2]))["segment"].to_pylist()) == {0, 1}
