"""Frequent itemsets, exact: packed bit columns, depth first.

One bit column per product, one bit per receipt (Eclat with bitmaps: Zaki, "Scalable algorithms for association
mining", 2000; Burdick et al., "MAFIA", 2001). Rare products come first, so that the receipts of a prefix are few,
and bytes in which a prefix has no receipt are dropped before it is extended.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.errors import TooManyItemsets
from lakehouse.kernels import bits
from lakehouse.kernels.bits import Bits, Ints, bit_columns, columns_within, ints_of, offsets_of, popcounts
from lakehouse.kernels.itemset_bounds import least_itemsets

Sets = npt.NDArray[np.int32]
LookAhead = Callable[[int, npt.NDArray[np.uint32]], None]

MOST_ITEMSETS = 1_000_000  # of a month with 230 frequent products, up to five together, there are 860,000
_FEW_WORDS = 1 << 15  # of all columns after a prefix: fewer are cheaper to extend many at a time


class Found(NamedTuple):
    """Itemsets of one size: a row of places per set, and the receipts that hold each."""

    sets: Sets
    receipts: Ints


def decimal(share: float) -> Fraction:
    """Read a share as the decimal it was written as, without float noise, to twelve digits: 0.005 is 1/200."""
    return Fraction(f"{share:.12g}")


def min_count(min_support: float, receipts: int) -> int:
    """Give the least number of receipts that is frequent, at least 1."""
    return max(1, ceil(decimal(min_support) * receipts))


def mining_blocks(month_receipts: Mapping[str, int], min_support: float) -> dict[str, str]:
    """Name, for each month 'YYYY-MM', the block it is mined in: the block's first month.

    Months are taken in order and gathered until a block holds 10 / `min_support` receipts; what is left at the end
    and holds fewer joins the block before it, or is a block alone. A later month changes no block but the last.
    """
    enough = 10 / decimal(min_support)
    blocks: list[list[str]] = []
    gathered: list[str] = []
    for month in sorted(month_receipts):
        gathered.append(month)
        if sum(month_receipts[m] for m in gathered) >= enough:
            blocks.append(gathered)
            gathered = []
    if gathered and blocks:
        blocks[-1].extend(gathered)
    elif gathered:
        blocks.append(gathered)
    return {month: block[0] for block in blocks for month in block}


def frequent_itemsets(products: pa.ListArray, min_support: float, max_size: int, most: int = MOST_ITEMSETS) -> pa.Table:
    """Find every itemset of at most `max_size` products that `min_support` of the receipts hold.

    `products` has one list of ids per receipt, repeats allowed. Gives items list<int32> (ascending) and receipts
    int64, ordered by size, then items. Errors: TooManyItemsets, when they are more than `most`; where pairs of products
    tell that, before any larger itemset is made.
    """
    least = min_count(min_support, len(products))
    coded = products.flatten().dictionary_encode()
    known = ints_of(coded.dictionary)
    bought = np.bincount(ints_of(coded.indices), minlength=len(known))
    items = np.sort(known[bought >= least])
    columns = bit_columns(coded, offsets_of(products), items)
    receipts = popcounts(columns)
    order = np.argsort(receipts, kind="stable")
    order = order[receipts[order] >= least]
    singles = Found(np.arange(len(order), dtype=np.int32)[:, None], receipts[order])
    found: list[Found] = []
    count = 0

    def too_many(at_least: int, together: npt.NDArray[np.signedinteger[Any]]) -> TooManyItemsets:
        return TooManyItemsets(f"{len(products):,} receipts", at_least, most, sorted(items[order[together]].tolist()))

    def look_ahead(start: int, pairs: npt.NDArray[np.uint32]) -> None:
        at_least, together = least_itemsets(receipts[order], pairs, start, least, max_size)
        if at_least > most:
            raise too_many(at_least, together)

    longer = _longer((), np.arange(len(order)), columns[order], least, max_size - 1, look_ahead)
    for some in chain([singles][:max_size], longer):
        found.append(some)
        count += len(some.sets)
        if count > most:
            raise too_many(count, some.sets[-1:].ravel())
    return _table(found, items[order])


def count_itemsets(products: pa.ListArray, itemsets: pa.ListArray) -> Ints:
    """Count, for each of the `itemsets`, the receipts that hold all its products."""
    lengths, starts = np.diff(offsets_of(itemsets)), offsets_of(itemsets)[:-1]
    items, index = np.unique(ints_of(itemsets.flatten()), return_inverse=True)
    columns = bit_columns(products.flatten().dictionary_encode(), offsets_of(products), items)
    order = np.argsort(popcounts(columns), kind="stable")
    columns, index = columns[order], np.argsort(order)[index]
    counts = np.full(len(itemsets), len(products), np.int64)
    for size in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == size)
        sets = np.sort(index[starts[rows][:, None] + np.arange(size)], axis=1)
        by_items = np.lexsort(sets.T[::-1])
        counts[rows[by_items]] = _holding(columns, sets[by_items])
    return counts


def _longer(
    prefix: tuple[int, ...], items: Ints, columns: Bits, least: int, more: int, look_ahead: LookAhead | None = None
) -> Iterator[Found]:
    """Extend a prefix by two items, and those it finds by further ones, `more` products after the first at most.

    `columns` are those of the items, restricted to the prefix's receipts. `look_ahead` sees each band of counts first.
    """
    for start, counts in _pair_counts(columns) if more > 0 else ():
        if look_ahead is not None:
            look_ahead(start, counts)
        row, second = np.nonzero(counts >= least)
        first = row + start
        sets = np.empty((len(row), len(prefix) + 2), np.int32)
        sets[:, :-2], sets[:, -2], sets[:, -1] = prefix, items[first], items[second]
        yield Found(sets, counts[row, second].astype(np.int64))
        if more > 1:
            ends = np.searchsorted(row, np.arange(len(counts) + 1))
            for i in np.flatnonzero(np.diff(ends) > 1):
                after, by = second[ends[i] : ends[i + 1]], columns[start + i]
                longer, kept = (*prefix, int(items[start + i])), columns_within(columns, after, by)
                if more > 2 and kept.size <= _FEW_WORDS:
                    some = np.column_stack([np.tile(longer, (len(after), 1)), items[after]]).astype(np.int32)
                    yield from _wider(some, np.zeros(len(after), np.int64), kept, least, more - 1)
                else:
                    yield from _longer(longer, items[after], kept, least, more - 1)


def _wider(sets: Sets, parents: Ints, columns: Bits, least: int, more: int) -> Iterator[Found]:
    """Extend sets by the last items of later ones with the same parent, and what is found likewise, `more` times.

    Does what `_longer` does, but for many sets at a time: those whose columns are short. Sets of the same parent lie
    together, their last items ascending.
    """
    later = np.searchsorted(parents, parents, "right") - np.arange(len(sets)) - 1
    ends = np.cumsum(later)
    begins = ends - later
    start = 0
    while start < len(sets):
        room = begins[start] + max(1, bits.BLOCK_WORDS // max(1, columns.shape[1]))
        end = max(start + 1, int(np.searchsorted(ends, room, "right")))
        first = np.repeat(np.arange(start, end), later[start:end])
        second = first + 1 + np.arange(len(first)) - (begins[first] - begins[start])
        both = columns[first] & columns[second]
        counts = np.bitwise_count(both).sum(axis=1, dtype=np.uint32)
        kept = np.flatnonzero(counts >= least)
        first, second = first[kept], second[kept]
        found = np.column_stack([sets[first], sets[second, -1]])
        yield Found(found, counts[kept].astype(np.int64))
        if more > 1:
            pairs = np.flatnonzero((np.diff(first, prepend=-1) == 0) | (np.diff(first, append=-1) == 0))
            yield from _wider(found[pairs], first[pairs], both[kept[pairs]], least, more - 1)
        start = end


def _pair_counts(columns: Bits) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """Count the receipts of each two columns: give the first row of a band, and its counts with each later column.

    Short columns are counted many pairs at a time: between two calls of numpy another thread may take over. Of rows
    counted together those left of the diagonal are for nothing: they are few among a quarter of what is left.
    """
    items, words = columns.shape
    both = np.empty(max(words, min(bits.BLOCK_WORDS, items * columns.size)), np.uint64)
    height = max(1, bits.BLOCK_CELLS // max(1, items))
    for start in range(0, items - 1, height):
        counts = np.zeros((min(height, items - start), items), np.uint32)
        i = start
        while i < min(start + height, items - 1):
            rows = max(1, min(start + height - i, (items - i) // 4, bits.BLOCK_WORDS // (max(1, words) * (items - i))))
            step = max(1, bits.BLOCK_WORDS // max(1, words * rows))
            for j in range(i + 1, items, step):
                later = columns[j : j + step]
                held = both[: rows * later.size].reshape(rows, *later.shape)
                np.bitwise_and(columns[i : i + rows, None], later, out=held)
                into = counts[i - start : i - start + rows, j : j + step]
                np.add.reduce(np.bitwise_count(held), axis=2, dtype=np.uint32, out=into)
            i += rows
        yield start, np.triu(counts, start + 1)


def _holding(columns: Bits, sets: Ints) -> Ints:
    """Count receipts per row of `sets` (column numbers, ascending in the row, rows in order)."""
    if sets.shape[1] == 1:
        return popcounts(columns)[sets[:, 0]]
    counts = np.empty(len(sets), np.int64)
    cuts = np.flatnonzero(np.diff(sets[:, 0])) + 1
    for start, end in zip([0, *cuts], [*cuts, len(sets)], strict=True):
        first, rest = columns[sets[start, 0]], sets[start:end, 1:]
        if rest.shape[1] == 1:
            counts[start:end] = popcounts(columns[rest[:, 0]], first)
        else:
            used, index = np.unique(rest, return_inverse=True)
            counts[start:end] = _holding(columns_within(columns, used, first), index.reshape(rest.shape))
    return counts


def _table(found: list[Found], items: Ints) -> pa.Table:
    """Write positions in `items` as ids; order by size, then items."""
    values, sizes, receipts = [np.empty(0, np.int32)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    ids = items.astype(np.int32)
    for size in sorted({f.sets.shape[1] for f in found}):
        level = [f for f in found if f.sets.shape[1] == size]
        sets = np.sort(ids[np.concatenate([f.sets for f in level])], axis=1)
        order = np.lexsort(sets.T[::-1])
        values.append(sets[order].ravel())
        sizes.append(np.full(len(sets), size))
        receipts.append(np.concatenate([f.receipts for f in level])[order])
    offsets = np.append(0, np.cumsum(np.concatenate(sizes))).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(values)))
    return pa.table({"items": lists, "receipts": np.concatenate(receipts)})
