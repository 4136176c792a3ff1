"""Bit columns."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.kernels.bits import hold_all

IDS = st.integers(0, 9) | st.just(2**31 - 1)


@given(st.lists(st.lists(IDS, max_size=8), max_size=140), st.sets(IDS, min_size=1, max_size=4))
def test_a_receipt_holds_all_of_some_products_or_does_not(baskets: list[list[int]], items: set[int]) -> None:
    products = pa.chunked_array([pa.array(baskets, pa.list_(pa.int32()))])
    assert hold_all(products, items).to_pylist() == [items <= set(basket) for basket in baskets]
