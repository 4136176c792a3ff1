"""Distinct values per key, sorted: marked in a table of keys and values where that is small, sorted where it is not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Wholes = npt.NDArray[np.signedinteger[Any]]  # whole numbers of any width: ids, or places from 0
Bools = npt.NDArray[np.bool_]
FEW = 4  # up to that many codes per value it is cheaper to count in a table of all codes than to sort
SPARSE = 8  # and up to that many cells per pair to mark pairs in a table of all of them
_CELLS = 1 << 19  # of a table that stays in the cache


def pairs_of(owner: Wholes, lists: pa.ListArray) -> tuple[Wholes, Wholes]:
    """Repeat each list's owner for every element of the list: two arrays as long as all elements together."""
    each: Wholes = np.repeat(owner, lengths_of(lists))
    return each, lists.flatten().to_numpy()


def distinct_lists(owner: Wholes, values: Wholes, owners: int) -> pa.ListArray:
    """Give the list of each owner's distinct values, ascending; `owner`, in 0 .. `owners` - 1, is each value's."""
    known, value = value_codes(values)
    owner, value = _distinct_codes(owner, value, owners, len(known))
    offsets = np.append(0, np.cumsum(np.bincount(owner, minlength=owners)))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(known[value].astype(np.int32)))


def _distinct_codes(owner: Wholes, value: Wholes, owners: int, width: int) -> tuple[Ints, Ints]:
    """Give the distinct (owner, value), ordered; they are in 0 .. `owners` - 1 and 0 .. `width` - 1."""
    cells = owner.astype(np.int64) * width + value
    if owners * width <= SPARSE * len(cells):
        is_there = np.zeros(owners * width, np.bool_)
        is_there[cells] = True
        cells = np.flatnonzero(is_there)
    else:
        cells = _sorted(cells)
        cells = cells[np.diff(cells, prepend=-1) != 0]
    found = cells // max(width, 1)
    return found, cells - found * width


def value_counts(codes: Wholes, size: int) -> tuple[Wholes, Ints]:
    """Give the distinct codes, of 0 .. `size` - 1, ascending, and how often each occurs."""
    if size <= FEW * len(codes):
        counts = np.bincount(codes, minlength=size)
        found = np.flatnonzero(counts != 0)
        return found, counts[found]
    ordered = np.sort(codes)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.diff(starts, append=len(ordered))


def value_codes(values: Wholes) -> tuple[Ints, Wholes]:
    """Give the distinct values, ascending, and each value's place among them."""
    if len(values) and values.min() >= 0 and values.max() < FEW * len(values):
        is_known = np.zeros(int(values.max()) + 1, np.bool_)
        is_known[values] = True
        return np.flatnonzero(is_known), (np.cumsum(is_known, dtype=np.int32) - np.int32(1))[values]
    encoded = pa.array(values).dictionary_encode()
    known = encoded.dictionary.to_numpy().astype(np.int64)
    order = np.argsort(known)
    return known[order], np.argsort(order)[encoded.indices.to_numpy()]


def cells_of(lengths: Ints, codes: Wholes, width: int) -> Iterator[tuple[int, slice, Wholes]]:
    """Place the elements of lists in a table of a row per list and a column per code, some lists at a time.

    `lengths` are the lists', `codes` their elements end to end, in 0 .. `width` - 1. Gives the number of the first
    list, which elements are placed, and the cell of each; the table has `table_size` cells at most.
    """
    ends, step = np.append(0, np.cumsum(lengths)), _lists_at_once(width)
    for first in range(0, len(lengths), step):
        some = lengths[first : first + step]
        part = slice(ends[first], ends[first + len(some)])
        yield first, part, np.repeat(np.arange(0, len(some) * width, width, dtype=np.int32), some) + codes[part]


def table_size(width: int) -> int:
    """Give the most cells of a table of `cells_of`."""
    return _lists_at_once(width) * width


def is_repeated(lengths: Ints, codes: Wholes, width: int) -> Bools:
    """Say of each element of lists, as `cells_of` takes them, whether it comes again in its list."""
    last, found = np.empty(table_size(width), np.int32), np.empty(len(codes), np.bool_)
    for _, part, cells in cells_of(lengths, codes, width):
        number = np.arange(len(cells), dtype=np.int32)
        last[cells] = number  # of a cell named twice, the later number stays
        found[part] = last[cells] != number
    return found


def lengths_of(lists: pa.ListArray) -> Ints:
    """Give how many elements each list has."""
    return np.asarray(np.diff(lists.offsets.to_numpy()), np.int64)


def _lists_at_once(width: int) -> int:
    return max(1, _CELLS // max(width, 1))


def _sorted(codes: Ints) -> Ints:
    """Sort, in 32 bits where they suffice: twice as fast. np.unique would hash: thirty times slower."""
    is_narrow = len(codes) and codes.max() < 2**32
    return np.sort(codes.astype(np.uint32)).astype(np.int64) if is_narrow else np.sort(codes)
