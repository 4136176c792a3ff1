"""The histogram of baskets and its box plots, against counting and against numpy."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.baskets import basket_histogram, box_plots, primary_categories
from tests.layouts import layouts

Receipt = tuple[int, list[int]]  # store, products
Cell = tuple[int, int, int]  # category, store, units in a receipt

IDS = st.sampled_from([0, 1, 2, 530, 2**31 - 1])
RECEIPTS = st.lists(st.tuples(IDS, st.lists(IDS, min_size=1, max_size=6)), max_size=30)
PRIMARY = st.dictionaries(IDS, st.integers(1, 3))
CELLS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 40)), st.integers(1, 9), min_size=1, max_size=20
)


def receipts(rows: list[Receipt], month: str = "2013-02") -> pa.Table:
    return pa.table(
        {
            "month": pa.array([month] * len(rows), pa.string()),
            "store_id": pa.array([store for store, _ in rows], pa.int32()),
            "products": pa.array([products for _, products in rows], pa.list_(pa.int32())),
        }
    )


def columns(primary: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(sorted(primary), np.int64), np.array([primary[p] for p in sorted(primary)], np.int64)


def histogram(cells: dict[Cell, int]) -> pa.Table:
    category, store, units = ([cell[k] for cell in cells] for k in range(3))
    names = ("category_id", "store_id", "basket_units", "receipts")
    columns = (category, store, units, list(cells.values()))
    kinds = (pa.int32(), pa.int32(), pa.int32(), pa.int64())
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def counted(rows: list[Receipt], primary: dict[int, int]) -> Counter[tuple[int, int, int]]:
    cells: Counter[tuple[int, int, int]] = Counter()
    for store, products in rows:
        units = Counter(primary.get(product, 0) for product in products)
        cells.update((store, category, n) for category, n in units.items())
    return cells


def cells_of(made: pa.Table) -> dict[tuple[int, int, int], int]:
    rows = made.to_pylist()
    return {(row["store_id"], row["category_id"], row["basket_units"]): row["receipts"] for row in rows}


def test_receipts_are_counted_by_store_category_and_units() -> None:
    rows = [(102, [5, 5, 6]), (102, [6, 5, 5]), (102, [9]), (103, [5])]
    made = basket_histogram(receipts(rows), *columns({5: 1, 6: 2}))
    assert made.column_names == ["month", "store_id", "category_id", "basket_units", "receipts"]
    assert cells_of(made) == {(102, 1, 2): 2, (102, 2, 1): 2, (102, 0, 1): 1, (103, 1, 1): 1}
    assert set(made["month"].to_pylist()) == {"2013-02"}


@given(RECEIPTS, PRIMARY)
@settings(deadline=None, max_examples=100)
def test_the_histogram_is_that_of_counting_one_by_one(rows: list[Receipt], primary: dict[int, int]) -> None:
    made = basket_histogram(receipts(rows), *columns(primary))
    assert cells_of(made) == counted(rows, primary)
    assert made.num_rows == len(cells_of(made))


@given(RECEIPTS, PRIMARY)
@settings(deadline=None, max_examples=100)
def test_the_units_of_all_cells_are_those_of_all_receipts(rows: list[Receipt], primary: dict[int, int]) -> None:
    made = basket_histogram(receipts(rows), *columns(primary))
    units = sum(row["basket_units"] * row["receipts"] for row in made.to_pylist())
    assert units == sum(len(products) for _, products in rows)


@pytest.mark.parametrize(
    ("primary", "found"), [({}, [0, 0, 0]), ({5: 1}, [1, 0, 0]), ({4: 2, 9: 3}, [0, 3, 0]), ({10: 4}, [0, 0, 4])]
)
def test_products_without_a_category_are_in_category_0(primary: dict[int, int], found: list[int]) -> None:
    assert primary_categories(np.array([5, 9, 10]), *columns(primary)).tolist() == found


def test_a_month_without_receipts_has_no_cells() -> None:
    made = basket_histogram(receipts([]), *columns({5: 1}))
    assert made.num_rows == 0
    assert made["month"].type == pa.string()


def test_a_box_of_one_receipt_is_a_point() -> None:
    (box,) = box_plots(histogram({(1, 102, 3): 1})).to_pylist()
    assert box == {
        "category_id": 1,
        "store_id": 102,
        "units": 3,
        "receipts": 1,
        "minimum": 3,
        "lower_quartile": 3,
        "median": 3,
        "upper_quartile": 3,
        "maximum": 3,
        "average": 3,
    }


def test_quartiles_lie_between_receipts() -> None:
    (box,) = box_plots(histogram({(1, 102, 1): 1, (1, 102, 2): 1, (1, 102, 4): 1, (1, 102, 9): 1})).to_pylist()
    assert [box[name] for name in ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")] == [
        1,
        1.75,
        3,
        5.25,
        9,
    ]
    assert (box["units"], box["receipts"], box["average"]) == (16, 4, 4)


@given(CELLS)
@settings(deadline=None, max_examples=100)
def test_boxes_are_those_of_numpy_on_the_receipts_themselves(cells: dict[Cell, int]) -> None:
    boxes = box_plots(histogram(cells)).to_pylist()
    assert [(b["category_id"], b["store_id"]) for b in boxes] == sorted({(c, s) for c, s, _ in cells})
    for box in boxes:
        own = [
            units
            for (category, store, units), many in cells.items()
            for _ in range(many)
            if (category, store) == (box["category_id"], box["store_id"])
        ]
        expected = [len(own), sum(own), sum(own) / len(own), *np.quantile(own, [0, 0.25, 0.5, 0.75, 1])]
        found = [box["receipts"], box["units"], box["average"], box["minimum"], box["lower_quartile"]]
        assert [*found, box["median"], box["upper_quartile"], box["maximum"]] == pytest.approx(expected, rel=1e-12)


def test_millions_of_receipts_are_not_spelled_out() -> None:
    (box,) = box_plots(histogram({(0, 1, 1): 10**12, (0, 1, 2): 10**12, (0, 1, 3): 1})).to_pylist()
    assert (box["lower_quartile"], box["median"], box["upper_quartile"], box["maximum"]) == (1, 2, 2, 3)


def test_nothing_gives_no_box() -> None:
    empty = histogram({(0, 1, 1): 1}).slice(0, 0)
    assert box_plots(empty).num_rows == 0


def test_the_layout_of_memory_does_not_show() -> None:
    rows = receipts([(102, [5, 5, 6]), (103, [6, 5, 5]), (102, [9]), (103, [5])])
    cells = histogram({(1, 102, 1): 2, (1, 102, 2): 1, (0, 102, 4): 1, (1, 103, 9): 1})
    primary = columns({5: 1, 6: 2})
    counted_once, boxes = basket_histogram(rows, *primary).to_pylist(), box_plots(cells).to_pylist()
    for name, layout in layouts(rows).items():
        assert basket_histogram(layout, *primary).to_pylist() == counted_once, name
    for name, layout in layouts(cells).items():
        assert box_plots(layout).to_pylist() == boxes, name


def test_the_order_of_columns_does_not_show() -> None:
    cells = histogram({(1, 102, 1): 2, (1, 102, 2): 1, (0, 103, 4): 1})
    assert box_plots(cells.select(cells.column_names[::-1])).to_pylist() == box_plots(cells).to_pylist()
