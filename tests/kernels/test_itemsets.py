from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import TooManyItemsets
from lakehouse.kernels import bits
from lakehouse.kernels import itemsets as kernel
from lakehouse.kernels.itemsets import MOST_ITEMSETS, count_itemsets, frequent_itemsets, min_count, mining_blocks
from tests.reference import reference_receipts

Found = dict[tuple[int, ...], int]

IDS = st.sampled_from([1, 2, 3, 5, 8, 13, 700_000, 2**31 - 1])
BASKETS = st.lists(st.lists(IDS, max_size=7), max_size=80)


@pytest.fixture(scope="module")
def receipts() -> pa.Table:
    return reference_receipts()


def lists(rows: Iterable[Sequence[int]]) -> pa.ListArray:
    return pa.array([list(row) for row in rows], pa.list_(pa.int32()))


def found(products: pa.ListArray, min_support: float, max_size: int = 3) -> Found:
    table = frequent_itemsets(products, min_support, max_size)
    return {tuple(row["items"]): row["receipts"] for row in table.to_pylist()}


def every_itemset(baskets: list[list[int]], max_size: int) -> Found:
    counts: Counter[tuple[int, ...]] = Counter()
    for basket in baskets:
        for size in range(1, max_size + 1):
            counts.update(combinations(sorted(set(basket)), size))
    return counts


def test_itemsets_are_ordered_by_size_then_items() -> None:
    table = frequent_itemsets(lists([[7, 3], [3, 7, 5], [5, 3], [9]]), 0.5, 3)
    assert table.schema == pa.schema({"items": pa.list_(pa.int32()), "receipts": pa.int64()})
    assert table.to_pylist() == [
        {"items": [3], "receipts": 3},
        {"items": [5], "receipts": 2},
        {"items": [7], "receipts": 2},
        {"items": [3, 5], "receipts": 2},
        {"items": [3, 7], "receipts": 2},
    ]


def test_a_product_twice_in_a_receipt_counts_once() -> None:
    assert found(lists([[4, 4, 4], [6]]), 1.0) == {}
    assert found(lists([[4, 4, 6]]), 1.0) == {(4,): 1, (6,): 1, (4, 6): 1}


def test_every_itemset_of_equal_baskets_is_found() -> None:
    baskets = [list(range(1, 13))] * 1_000
    table = frequent_itemsets(lists(baskets), 0.005, 20)
    assert table.num_rows == 2**12 - 1
    assert set(table["receipts"].to_pylist()) == {1_000}
    assert table["items"].to_pylist() == [list(c) for size in range(1, 13) for c in combinations(range(1, 13), size)]


def test_itemsets_of_up_to_eight_products_equal_those_of_counting_every_combination() -> None:
    numbers = [k * k * 7_919 + k * 104_729 for k in range(4_000)]
    baskets = [sorted({n % 97 % 13 for n in numbers[k * 20 : k * 20 + 6 + k % 15]}) for k in range(200)]
    expected = {items: n for items, n in every_itemset(baskets, 8).items() if n >= 6}
    assert {len(items) for items in expected} == set(range(1, 9))
    assert found(lists(baskets), 0.03, 8) == expected


@pytest.mark.parametrize(
    ("baskets", "max_size", "at_least"),
    [
        ([[1, 2, 3, 4]] * 3, 3, 14),
        ([list(range(300))] * 7 + [[301 + k] for k in range(1_200)], 3, 4_500_250),
        ([list(range(20))] * 1_000, 20, 2**20 - 1),
    ],
)
def test_too_many_itemsets_are_counted_before_they_are_made(
    baskets: list[list[int]], max_size: int, at_least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: object) -> None:
        raise AssertionError("an itemset of more than two products was made")

    monkeypatch.setattr(kernel, "columns_within", make)
    with pytest.raises(TooManyItemsets, match=f"at least {at_least:,} itemsets") as refused:
        frequent_itemsets(lists(baskets), 0.004, max_size, min(MOST_ITEMSETS, at_least - 1))
    assert refused.value.together == baskets[0]


@given(BASKETS, st.sampled_from([0.02, 0.1, 0.25]), st.integers(1, 8))
def test_just_as_many_itemsets_as_are_allowed_are_found(
    baskets: list[list[int]], min_support: float, max_size: int
) -> None:
    products, least = lists(baskets), min_count(min_support, len(baskets))
    whole = frequent_itemsets(products, min_support, max_size)
    assert frequent_itemsets(products, min_support, max_size, whole.num_rows).equals(whole)
    for most in {whole.num_rows - 1, whole.num_rows // 2} if whole.num_rows else ():
        with pytest.raises(TooManyItemsets) as refused:
            frequent_itemsets(products, min_support, max_size, most)
        assert most < refused.value.at_least <= whole.num_rows
        assert count_itemsets(products, lists([list(refused.value.together)])).tolist()[0] >= least


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_nothing_bought_has_no_itemsets(rows: list[list[int]]) -> None:
    assert found(lists(rows), 0.005) == {}


def test_itemsets_stop_at_the_largest_size() -> None:
    assert {len(items) for items in found(lists([[1, 2, 3, 4, 5, 6]]), 1.0, 5)} == {1, 2, 3, 4, 5}
    assert list(found(lists([[1, 2]]), 1.0, 1)) == [(1,), (2,)]


@given(BASKETS, st.sampled_from([0.02, 0.1, 0.25, 0.5]), st.integers(1, 8))
def test_itemsets_equal_those_of_counting_every_combination(
    baskets: list[list[int]], min_support: float, max_size: int
) -> None:
    least = min_count(min_support, len(baskets))
    expected = {items: n for items, n in every_itemset(baskets, max_size).items() if n >= least}
    got = found(lists(baskets), min_support, max_size)
    assert got == expected
    assert list(got) == sorted(expected, key=lambda items: (len(items), items))


@given(BASKETS, st.lists(st.lists(IDS | st.just(99), unique=True, max_size=5), max_size=12))
def test_counts_are_of_receipts_that_hold_all_products(baskets: list[list[int]], wanted: list[list[int]]) -> None:
    expected = [sum(set(items) <= set(basket) for basket in baskets) for items in wanted]
    assert count_itemsets(lists(baskets), lists(wanted)).tolist() == expected


@given(BASKETS, st.integers(0, 80), st.integers(0, 80))
def test_a_slice_is_read_as_a_slice(baskets: list[list[int]], start: int, length: int) -> None:
    part = lists(baskets).slice(start, length)
    assert found(part, 0.1) == found(lists(baskets[start : start + length]), 0.1)
    wanted = lists([[], [1], [1, 2], [3, 1, 2]]).slice(1)
    counted = count_itemsets(part, wanted)
    assert (
        counted.tolist()
        == count_itemsets(lists(baskets[start : start + length]), lists([[1], [1, 2], [1, 2, 3]])).tolist()
    )


@settings(max_examples=25)
@given(st.lists(st.lists(IDS, max_size=7), min_size=100, max_size=300))
def test_blocks_of_the_work_do_not_show(baskets: list[list[int]]) -> None:
    whole = found(lists(baskets), 0.02, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bits, "BLOCK_WORDS", 3)
        patch.setattr(bits, "BLOCK_CELLS", 1)
        assert found(lists(baskets), 0.02, 5) == whole
        patch.setattr(kernel, "_FEW_WORDS", 0)
        assert found(lists(baskets), 0.02, 5) == whole
        assert count_itemsets(lists(baskets), lists(whole)).tolist() == list(whole.values())


@pytest.mark.parametrize(
    ("min_support", "receipts", "least"),
    [(0.005, 1000, 5), (0.005, 1001, 6), (0.1 + 0.2, 10, 3), (0.07, 100, 7), (0.5, 1, 1), (0.005, 0, 1)],
)
def test_float_noise_does_not_move_the_least_count(min_support: float, receipts: int, least: int) -> None:
    assert min_count(min_support, receipts) == least


def test_small_months_are_mined_with_their_neighbours() -> None:
    months = {"2024-03": 1500, "2024-01": 1999, "2024-02": 1, "2024-04": 500, "2024-05": 7}
    assert mining_blocks(months, 0.005) == {
        "2024-01": "2024-01",
        "2024-02": "2024-01",
        "2024-03": "2024-03",
        "2024-04": "2024-03",
        "2024-05": "2024-03",
    }
    assert mining_blocks({"2024-01": 2000, "2024-02": 2000}, 0.005) == {"2024-01": "2024-01", "2024-02": "2024-02"}
    assert mining_blocks({"2024-01": 7}, 0.005) == {"2024-01": "2024-01"}
    assert mining_blocks({}, 0.005) == {}


@given(st.dictionaries(st.sampled_from([f"2024-{m:02}" for m in range(1, 13)]), st.integers(0, 4000)))
def test_a_block_is_large_enough_or_alone_and_its_months_are_consecutive(months: dict[str, int]) -> None:
    blocks = mining_blocks(months, 0.005)
    assert list(blocks) == sorted(months)
    assert list(blocks.values()) == sorted(blocks.values())
    totals = [sum(months[m] for m in months if blocks[m] == name) for name in set(blocks.values())]
    assert len(totals) <= 1 or min(totals) >= 2000


def test_reference_receipts_have_the_known_itemsets(receipts: pa.Table) -> None:
    products = receipts["products"].combine_chunks()
    table = frequent_itemsets(products, 0.005, 3)
    items = table["items"].combine_chunks()
    assert np.bincount(pc.list_value_length(items).to_numpy()).tolist() == [0, 208, 3414, 27698]
    assert table.slice(0, 1)["items"].to_pylist() == [[1]]


def test_reference_itemsets_are_frequent_in_some_month(receipts: pa.Table) -> None:
    months = pc.unique(receipts["month"]).to_pylist()
    parts = [receipts.filter(pc.equal(receipts["month"], m))["products"].combine_chunks() for m in months]
    mined = {tuple(items) for part in parts for items in frequent_itemsets(part, 0.005, 3)["items"].to_pylist()}
    wanted = sorted(mined)
    counts = np.sum([count_itemsets(part, lists(wanted)) for part in parts], axis=0)
    least = min_count(0.005, receipts.num_rows)
    merged = {items: int(n) for items, n in zip(wanted, counts, strict=True) if n >= least}
    assert merged == found(receipts["products"].combine_chunks(), 0.005)
