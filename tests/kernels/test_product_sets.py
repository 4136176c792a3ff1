"""Lists of products as matrices of small numbers."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.kernels.product_sets import lists_of, matrix_of, row_numbers, sizes
from tests.layouts import layouts

IDS = st.integers(0, 2**31 - 1) | st.integers(0, 5)
LISTS = st.lists(st.lists(IDS, max_size=21))


def lists(rows: list[list[int]]) -> pa.ListArray:
    return pa.array(rows, pa.list_(pa.int32()))


@given(LISTS)
def test_lists_survive_being_a_matrix(rows: list[list[int]]) -> None:
    matrix = matrix_of(lists(rows))
    assert lists_of(matrix).to_pylist() == rows
    assert sizes(matrix.rows).tolist() == [len(row) for row in rows]


def test_lists_cut_out_of_others_are_a_matrix_of_their_own_products() -> None:
    rows = pa.table({"lists": lists([[1, 2], [], [3], [4, 5, 6]])})
    for name, layout in layouts(rows).items():
        assert lists_of(matrix_of(layout["lists"])).to_pylist() == rows["lists"].to_pylist(), name


@given(LISTS)
def test_rows_are_numbered_in_the_order_of_their_lists(rows: list[list[int]]) -> None:
    distinct = sorted(map(list, {tuple(row) for row in rows}))
    assert row_numbers(matrix_of(lists(rows)).rows).tolist() == [distinct.index(row) for row in rows]


def test_of_a_few_products_a_number_takes_a_byte() -> None:
    assert matrix_of(lists([[7, 2_000_000_000], [9]])).rows.dtype == np.uint8
    assert matrix_of(lists([list(range(256))])).rows.dtype == np.uint16
