"""Bit columns: one per product, one bit per receipt or customer, 64 to a word."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

BLOCK_WORDS = 1 << 17  # worked on at a time: they stay in the cache
BLOCK_CELLS = 1 << 21


def bit_columns(coded: pa.DictionaryArray, offsets: Ints, items: Ints) -> Bits:
    """Set bit r of row i where receipt r holds items[i] (ascending): one row per item, 64 receipts per word.

    `coded` are all receipts' products on end, `offsets` where each receipt begins and ends.
    """
    known, codes = ints_of(coded.dictionary), coded.indices.to_numpy()
    row = np.full(len(known), len(items), np.int64)
    _, here, there = np.intersect1d(known, items, assume_unique=True, return_indices=True)
    row[here] = there
    receipts = len(offsets) - 1
    step = max(64, BLOCK_CELLS // (len(items) + 1) // 64 * 64)
    bits = np.zeros((len(items), -(-receipts // 64) * 8), np.uint8)
    for start in range(0, receipts, step):
        ends = offsets[start : start + step + 1]
        cells = np.zeros((len(items) + 1, len(ends) - 1), np.bool_)
        at = row[codes[ends[0] : ends[-1]]] * (len(ends) - 1)
        cells.reshape(-1)[at + np.repeat(np.arange(len(ends) - 1), np.diff(ends))] = True
        packed = np.packbits(cells[:-1], axis=1)
        bits[:, start // 8 : start // 8 + packed.shape[1]] = packed
    return bits.view(np.uint64)


def hold_all(products: pa.ChunkedArray, items: Collection[int]) -> pa.BooleanArray:
    """Say of each receipt whether it holds all the items."""
    lists = products.combine_chunks()
    columns = bit_columns(lists.flatten().dictionary_encode(), offsets_of(lists), np.unique(ints_of(pa.array(items))))
    held = np.bitwise_and.reduce(columns, axis=0)
    return pa.array(np.unpackbits(held.view(np.uint8))[: len(lists)].astype(np.bool_))


def popcounts(columns: Bits, by: Bits | None = None) -> Ints:
    """Count the bits of each column, of those also in `by`; in blocks that stay in the cache."""
    counts = np.empty(len(columns), np.int64)
    step = max(1, BLOCK_WORDS // max(1, columns.shape[1]))
    for start in range(0, len(columns), step):
        block = columns[start : start + step] if by is None else columns[start : start + step] & by
        counts[start : start + step] = np.bitwise_count(block).sum(axis=1, dtype=np.uint32)
    return counts


def columns_within(columns: Bits, chosen: Ints, by: Bits) -> Bits:
    """Give the `chosen` columns with only the receipts in `by`; bytes without any are dropped when they are many."""
    octets = by.view(np.uint8)
    held = np.flatnonzero(octets != 0)
    if 3 * len(held) > 2 * len(octets):
        return columns[chosen] & by
    kept = np.zeros((len(chosen), -(-len(held) // 8) * 8), np.uint8)
    np.take(columns[chosen].view(np.uint8), held, axis=1, out=kept[:, : len(held)], mode="clip")
    kept[:, : len(held)] &= octets[held]
    return kept.view(np.uint64)


def offsets_of(lists: pa.ListArray) -> Ints:
    """Give where each list begins and ends among the elements of all, from 0."""
    offsets = ints_of(lists.offsets)
    return offsets - int(offsets[0])


def ints_of(column: pa.Array) -> Ints:
    """Give a column as integers of 64 bits."""
    return np.asarray(column.to_numpy(), np.int64)
