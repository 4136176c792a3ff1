"""Distinct values per key, sorted: packed into 64-bit codes, sorted once."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def pairs_of(keys: Ints, lists: pa.ListArray) -> tuple[Ints, Ints]:
    """Repeat each key for every element of its list: two arrays as long as all elements together."""
    lengths = np.diff(lists.offsets.to_numpy())
    return np.repeat(keys, lengths), lists.flatten().to_numpy().astype(np.int64)


def distinct_pairs(keys: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Give the distinct (key, value), ordered by key, then value. `values` are in 0 .. 2^31 - 1."""
    if len(keys) and (keys.min() < 0 or keys.max() >> 32):
        known, index = np.unique(keys, return_inverse=True)
        places, found = distinct_pairs(index.astype(np.int64), values)
        return known[places], found
    codes = np.sort((keys << 31) | values)  # np.unique would hash them: thirty times slower
    codes = codes[np.diff(codes, prepend=-1) != 0]
    return codes >> 31, codes & (2**31 - 1)


def counted(codes: Ints) -> tuple[Ints, Ints]:
    """Give the distinct codes, ascending, and how often each occurs."""
    ordered = np.sort(codes)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.diff(starts, append=len(ordered))


def coded(values: Ints) -> tuple[Ints, Ints]:
    """Give the distinct values in the order of their first occurrence, and each value's place among them."""
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.int64)


def lists_of(keys: Ints, pair_keys: Ints, pair_values: Ints) -> pa.ListArray:
    """Give, for each of the ascending `keys`, the list of its pairs' values; pairs are ordered by key."""
    offsets = np.append(np.searchsorted(pair_keys, keys), len(pair_keys)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(pair_values.astype(np.int32)))
