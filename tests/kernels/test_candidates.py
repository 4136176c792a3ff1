"""What is counted of blocks that are mined apart tells exactly which itemsets are frequent in all of them together."""

from collections import Counter
from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import TooManyItemsets
from lakehouse.kernels.candidates import needed_counts
from lakehouse.kernels.itemsets import count_itemsets, decimal, frequent_itemsets, min_count

ITEMS = pa.list_(pa.int32())
KNOWN = pa.schema([("items", ITEMS), ("month", pa.string()), ("receipts", pa.int64())])
basket = st.frozensets(st.integers(1, 6), min_size=1, max_size=4).map(sorted)
blocks = st.lists(st.lists(basket, min_size=1, max_size=12), min_size=1, max_size=4)
Baskets = list[list[int]]
MOST = 10**6


def known_of(rows: list[tuple[list[int], str, int]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(KNOWN.names, row, strict=True)) for row in rows], KNOWN)


def mined(baskets: Baskets, block: str, share: float) -> pa.Table:
    found = frequent_itemsets(pa.array(baskets, ITEMS), share, 3)
    return found.append_column("month", pa.repeat(block, found.num_rows)).select(KNOWN.names).cast(KNOWN)


def totals(rows: pa.Table) -> Counter[tuple[int, ...]]:
    sums: Counter[tuple[int, ...]] = Counter()
    for row in rows.to_pylist():
        sums[tuple(row["items"])] += row["receipts"]
    return sums


@settings(deadline=None)
@given(blocks, st.sampled_from([0.1, 0.25, 0.5]), st.sampled_from([1, 0.8, 0.3]))
def test_frequent_itemsets_are_those_of_counting_every_combination(
    parts: list[Baskets], support: float, margin: float
) -> None:
    of = {f"2024-{n:02}": baskets for n, baskets in enumerate(parts, 1)}
    least = {n: min_count(support * margin, len(b)) for n, b in of.items()}
    frequent = min_count(support, sum(map(len, parts)))
    found = pa.concat_tables([mined(b, n, support * margin) for n, b in of.items()])
    kept, missing = needed_counts(found, least, frequent, MOST)
    assert kept.num_rows == found.num_rows
    counted = [
        (
            row["items"],
            row["month"],
            int(count_itemsets(pa.array(of[row["month"]], ITEMS), pa.array([row["items"]], ITEMS))[0]),
        )
        for row in missing.to_pylist()
    ]
    everything = pa.concat_tables([kept, known_of(counted)])
    every = Counter(c for b in parts for basket in b for k in (1, 2, 3) for c in combinations(basket, k))
    expected = {items: n for items, n in every.items() if n >= decimal(support) * sum(map(len, parts))}
    assert {items: n for items, n in totals(everything).items() if n >= frequent} == expected
    again, left = needed_counts(everything, least, frequent, MOST)
    assert (again.num_rows, left.num_rows) == (everything.num_rows, 0)


def test_a_count_that_decides_nothing_any_more_is_left_out() -> None:
    rows = known_of([([1], "2024-01", 10), ([1], "2024-02", 3), ([2], "2024-01", 4)])
    least = {"2024-01": 5, "2024-02": 5}
    kept, missing = needed_counts(rows, least, 13, MOST)
    assert kept.to_pylist() == rows.slice(0, 2).to_pylist()
    assert missing.num_rows == 0
    kept, missing = needed_counts(rows, least, 8, MOST)
    assert kept.num_rows == 3
    assert missing.to_pylist() == [{"items": [2], "month": "2024-02"}]
    assert needed_counts(rows, least, 15, MOST)[0].to_pylist() == rows.slice(0, 1).to_pylist()


def test_without_blocks_nothing_is_needed() -> None:
    kept, missing = needed_counts(KNOWN.empty_table(), {}, 1, MOST)
    assert (kept.num_rows, missing.num_rows) == (0, 0)


def test_counts_that_are_missing_count_against_the_limit_too() -> None:
    rows = known_of([([1], "2024-01", 10), ([1], "2024-02", 3), ([2], "2024-01", 4)])
    least = {"2024-01": 5, "2024-02": 5}
    assert sum(part.num_rows for part in needed_counts(rows, least, 8, 4)) == 4
    with pytest.raises(TooManyItemsets, match="in 2 blocks of months, at least 4 itemsets .* and 3 are the most"):
        needed_counts(rows, least, 8, 3)
