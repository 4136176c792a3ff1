"""Distinct values per key."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels import distinct
from lakehouse.kernels.distinct import (
    cells_of,
    distinct_lists,
    is_repeated,
    lengths_of,
    pairs_of,
    table_size,
    value_codes,
)
from tests.layouts import layouts

VALUES = st.sampled_from([0, 1, 2, 700_000, 2**31 - 1])
PAIRS = st.lists(st.tuples(st.integers(0, 5), VALUES), max_size=40)
LISTS = st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=8)


def ints(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def test_each_element_of_a_list_gets_its_lists_owner() -> None:
    lists = pa.array([[7, 7], [], [8]], pa.list_(pa.int32()))
    owner, values = pairs_of(ints([5, 6, 5]), lists)
    assert (owner.tolist(), values.tolist()) == ([5, 5, 5], [7, 7, 8])


def test_lists_cut_out_of_others_keep_their_own_elements() -> None:
    rows = pa.table({"lists": pa.array([[1, 2], [], [3], [4, 5, 6]], pa.list_(pa.int32()))})
    for name, layout in layouts(rows).items():
        owner, values = pairs_of(ints([10, 20, 30, 40]), layout["lists"].combine_chunks())
        assert (owner.tolist(), values.tolist()) == ([10, 10, 30, 40, 40, 40], [1, 2, 3, 4, 5, 6]), name


@pytest.mark.parametrize("sparse", [0, distinct.SPARSE])
@given(pairs=PAIRS)
@settings(deadline=None)
def test_each_owner_gets_the_list_of_its_values(sparse: int, pairs: list[tuple[int, int]]) -> None:
    """In a table of all cells as by sorting; an owner without values has an empty list."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distinct, "SPARSE", sparse)
        lists = distinct_lists(ints([o for o, _ in pairs]), ints([v for _, v in pairs]), 7)
    assert lists.type == pa.list_(pa.int32())
    assert lists.to_pylist() == [sorted({v for o, v in pairs if o == owner}) for owner in range(7)]


def test_pairs_that_need_more_than_32_bits_are_told_apart() -> None:
    """Of 2^22 owners and 2^11 values, one owner with each value and one with two."""
    owner = np.append(np.full(2**11, 2**22), [0, 0])
    lists = distinct_lists(owner, ints([*range(2**11), 0, 2**11 - 1]), 2**22 + 1)
    assert lists[2**22].as_py() == list(range(2**11))
    assert (lists[0].as_py(), len(lists.flatten())) == ([0, 2**11 - 1], 2**11 + 2)


def test_nothing_gives_nothing() -> None:
    owner, values = pairs_of(ints([]), pa.array([], pa.list_(pa.int32())))
    assert distinct_lists(owner, values, 0).to_pylist() == []
    assert is_repeated(ints([]), values, 0).tolist() == []


@given(st.lists(VALUES | st.integers(-5, 40), max_size=30))
def test_codes_are_places_among_the_distinct_values_ascending(values: list[int]) -> None:
    known, places = value_codes(ints(values))
    assert known.tolist() == sorted(set(values))
    assert known[places].tolist() == values


@given(LISTS, st.integers(1, 20))
def test_an_element_is_repeated_when_it_comes_again_in_its_list(lists: list[list[int]], cells: int) -> None:
    """However few lists are looked at together."""
    rows = pa.array(lists, pa.list_(pa.int32()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distinct, "_CELLS", cells)
        found = is_repeated(lengths_of(rows), rows.flatten().to_numpy(), 5)
    assert found.tolist() == [value in row[place + 1 :] for row in lists for place, value in enumerate(row)]


@given(LISTS, st.integers(1, 20))
def test_every_element_has_the_cell_of_its_list_and_code(lists: list[list[int]], cells: int) -> None:
    rows = pa.array(lists, pa.list_(pa.int32()))
    codes = rows.flatten().to_numpy()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distinct, "_CELLS", cells)
        placed = list(cells_of(lengths_of(rows), codes, 5))
        assert all(cell < table_size(5) for _, _, some in placed for cell in some.tolist())
    found = [(first + cell // 5, cell % 5) for first, _, some in placed for cell in some.tolist()]
    assert found == [(place, code) for place, row in enumerate(lists) for code in row]
    assert [code for _, part, _ in placed for code in codes[part].tolist()] == codes.tolist()
