"""Distinct values per key."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.distinct import distinct_pairs, lists_of, pairs_of
from tests.layouts import layouts

KEYS = st.sampled_from([-(2**63), -1, 0, 1, 2, 1008848, 2**63 - 1])
VALUES = st.sampled_from([0, 1, 2, 700_000, 2**31 - 1])
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=40)


def ints(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def test_each_element_of_a_list_gets_its_lists_key() -> None:
    lists = pa.array([[7, 7], [], [8]], pa.list_(pa.int32()))
    keys, values = pairs_of(ints([5, 6, 5]), lists)
    assert (keys.tolist(), values.tolist()) == ([5, 5, 5], [7, 7, 8])
    assert values.dtype == np.int64


def test_lists_cut_out_of_others_keep_their_own_elements() -> None:
    rows = pa.table({"lists": pa.array([[1, 2], [], [3], [4, 5, 6]], pa.list_(pa.int32()))})
    for name, layout in layouts(rows).items():
        keys, values = pairs_of(ints([10, 20, 30, 40]), layout["lists"].combine_chunks())
        assert (keys.tolist(), values.tolist()) == ([10, 10, 30, 40, 40, 40], [1, 2, 3, 4, 5, 6]), name


@given(PAIRS)
@settings(deadline=None)
def test_distinct_pairs_are_those_of_a_set(pairs: list[tuple[int, int]]) -> None:
    keys, values = distinct_pairs(ints([k for k, _ in pairs]), ints([v for _, v in pairs]))
    assert list(zip(keys.tolist(), values.tolist(), strict=True)) == sorted(set(pairs))


@given(PAIRS, st.sets(KEYS))
@settings(deadline=None)
def test_every_key_gets_the_list_of_its_values(pairs: list[tuple[int, int]], others: set[int]) -> None:
    """Whatever the key: the largest there is has a list too, and a key without values an empty one."""
    found: dict[int, set[int]] = {key: set() for key in others}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    keys = sorted(found)
    lists = lists_of(ints(keys), *distinct_pairs(ints([k for k, _ in pairs]), ints([v for _, v in pairs])))
    assert lists.type == pa.list_(pa.int32())
    assert lists.to_pylist() == [sorted(found[key]) for key in keys]


def test_nothing_gives_nothing() -> None:
    keys, values = pairs_of(ints([]), pa.array([], pa.list_(pa.int32())))
    assert lists_of(ints([]), *distinct_pairs(keys, values)).to_pylist() == []
