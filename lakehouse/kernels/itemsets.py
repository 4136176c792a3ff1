"""Frequent itemsets, exact: packed bit columns, depth first.

One bit column per product, one bit per receipt (Eclat with bitmaps: Zaki, "Scalable algorithms for association
mining", 2000; Burdick et al., "MAFIA", 2001). Rare products come first, so that the receipts of a prefix are few,
and bytes in which a prefix has no receipt are dropped before it is extended.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.errors import TooManyItemsets

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

MOST_ITEMSETS = 5_000_000  # some 500 MB; of six months with 450 products there are 240,000
_BLOCK_WORDS = 1 << 17
_BLOCK_CELLS = 1 << 21


class Found(NamedTuple):
    """Itemsets of one size: a row of places per set, and the receipts that hold each."""

    sets: npt.NDArray[np.int32]
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


def frequent_itemsets(products: pa.ListArray, min_support: float, max_size: int) -> pa.Table:
    """Find every itemset of at most `max_size` products that `min_support` of the receipts hold.

    `products` has one list of ids per receipt, repeats allowed. Gives items list<int32> (ascending) and receipts
    int64, ordered by size, then items. Errors: TooManyItemsets, when they are more than `MOST_ITEMSETS`.
    """
    least = min_count(min_support, len(products))
    coded = products.flatten().dictionary_encode()
    known = _ints(coded.dictionary)
    bought = np.bincount(_ints(coded.indices), minlength=len(known))
    items = np.sort(known[bought >= least])
    columns = bit_columns(coded, offsets_of(products), items)
    receipts = _popcounts(columns)
    order = np.argsort(receipts, kind="stable")
    order = order[receipts[order] >= least]
    singles = Found(np.arange(len(order), dtype=np.int32)[:, None], receipts[order])
    found = [singles] if len(order) and max_size > 0 else []
    count = len(order)
    for some in _longer((), np.arange(len(order)), columns[order], least, max_size - 1):
        found.append(some)
        count += len(some.sets)
        if count > MOST_ITEMSETS:
            raise TooManyItemsets(len(products), least, MOST_ITEMSETS)
    return _table(found, items[order])


def count_itemsets(products: pa.ListArray, itemsets: pa.ListArray) -> Ints:
    """Count, for each of the `itemsets`, the receipts that hold all its products."""
    lengths, starts = np.diff(offsets_of(itemsets)), offsets_of(itemsets)[:-1]
    items, index = np.unique(_ints(itemsets.flatten()), return_inverse=True)
    columns = bit_columns(products.flatten().dictionary_encode(), offsets_of(products), items)
    order = np.argsort(_popcounts(columns), kind="stable")
    columns, index = columns[order], np.argsort(order)[index]
    counts = np.full(len(itemsets), len(products), np.int64)
    for size in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == size)
        sets = np.sort(index[starts[rows][:, None] + np.arange(size)], axis=1)
        by_items = np.lexsort(sets.T[::-1])
        counts[rows[by_items]] = _holding(columns, sets[by_items])
    return counts


def _longer(prefix: tuple[int, ...], items: Ints, columns: Bits, least: int, more: int) -> Iterator[Found]:
    """Extend a prefix by two items, and those it finds by further ones, `more` products after the first at most.

    `columns` are those of the items, restricted to the prefix's receipts.
    """
    for start, counts in _pair_counts(columns) if more > 0 else ():
        row, second = np.nonzero(counts >= least)
        first = row + start
        sets = np.empty((len(row), len(prefix) + 2), np.int32)
        sets[:, :-2], sets[:, -2], sets[:, -1] = prefix, items[first], items[second]
        yield Found(sets, counts[row, second].astype(np.int64))
        if more > 1:
            ends = np.searchsorted(row, np.arange(len(counts) + 1))
            for i in np.flatnonzero(np.diff(ends) > 1):
                after, by = second[ends[i] : ends[i + 1]], columns[start + i]
                longer = (*prefix, int(items[start + i]))
                yield from _longer(longer, items[after], _restricted(columns, after, by), least, more - 1)


def _pair_counts(columns: Bits) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """Count the receipts of each two columns: give the first row of a band, and its counts with each later column.

    Short columns are counted many pairs at a time: between two calls of numpy another thread may take over. Of rows
    counted together those left of the diagonal are for nothing: they are few among a quarter of what is left.
    """
    items, words = columns.shape
    both = np.empty(max(words, min(_BLOCK_WORDS, items * columns.size)), np.uint64)
    height = max(1, _BLOCK_CELLS // max(1, items))
    for start in range(0, items - 1, height):
        counts = np.zeros((min(height, items - start), items), np.uint32)
        i = start
        while i < min(start + height, items - 1):
            rows = max(1, min(start + height - i, (items - i) // 4, _BLOCK_WORDS // (max(1, words) * (items - i))))
            step = max(1, _BLOCK_WORDS // max(1, words * rows))
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
        return _popcounts(columns)[sets[:, 0]]
    counts = np.empty(len(sets), np.int64)
    cuts = np.flatnonzero(np.diff(sets[:, 0])) + 1
    for start, end in zip([0, *cuts], [*cuts, len(sets)], strict=True):
        first, rest = columns[sets[start, 0]], sets[start:end, 1:]
        if rest.shape[1] == 1:
            counts[start:end] = _popcounts(columns[rest[:, 0]], first)
        else:
            used, index = np.unique(rest, return_inverse=True)
            counts[start:end] = _holding(_restricted(columns, used, first), index.reshape(rest.shape))
    return counts


def _restricted(columns: Bits, chosen: Ints, by: Bits) -> Bits:
    """Give the `chosen` columns with only the receipts in `by`; bytes without any are dropped when they are many."""
    octets = by.view(np.uint8)
    held = np.flatnonzero(octets != 0)
    if 3 * len(held) > 2 * len(octets):
        return columns[chosen] & by
    kept = np.zeros((len(chosen), -(-len(held) // 8) * 8), np.uint8)
    np.take(columns[chosen].view(np.uint8), held, axis=1, out=kept[:, : len(held)], mode="clip")
    kept[:, : len(held)] &= octets[held]
    return kept.view(np.uint64)


def _popcounts(columns: Bits, by: Bits | None = None) -> Ints:
    """Count the bits of each column, of those also in `by`; in blocks that stay in the cache."""
    counts = np.empty(len(columns), np.int64)
    step = max(1, _BLOCK_WORDS // max(1, columns.shape[1]))
    for start in range(0, len(columns), step):
        block = columns[start : start + step] if by is None else columns[start : start + step] & by
        counts[start : start + step] = np.bitwise_count(block).sum(axis=1, dtype=np.uint32)
    return counts


def bit_columns(coded: pa.DictionaryArray, offsets: Ints, items: Ints) -> Bits:
    """Set bit r of row i where receipt r holds items[i] (ascending): one row per item, 64 receipts per word.

    `coded` are all receipts' products on end, `offsets` where each receipt begins and ends.
    """
    known, codes = _ints(coded.dictionary), coded.indices.to_numpy()
    row = np.full(len(known), len(items), np.int64)
    _, here, there = np.intersect1d(known, items, assume_unique=True, return_indices=True)
    row[here] = there
    receipts = len(offsets) - 1
    step = max(64, _BLOCK_CELLS // (len(items) + 1) // 64 * 64)
    bits = np.zeros((len(items), -(-receipts // 64) * 8), np.uint8)
    for start in range(0, receipts, step):
        ends = offsets[start : start + step + 1]
        cells = np.zeros((len(items) + 1, len(ends) - 1), np.bool_)
        at = row[codes[ends[0] : ends[-1]]] * (len(ends) - 1)
        cells.reshape(-1)[at + np.repeat(np.arange(len(ends) - 1), np.diff(ends))] = True
        packed = np.packbits(cells[:-1], axis=1)
        bits[:, start // 8 : start // 8 + packed.shape[1]] = packed
    return bits.view(np.uint64)


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


def offsets_of(lists: pa.ListArray) -> Ints:
    """Give where each list begins and ends among the elements of all, from 0."""
    offsets = _ints(lists.offsets)
    return offsets - int(offsets[0])


def _ints(column: pa.Array) -> Ints:
    return np.asarray(column.to_numpy(), np.int64)
