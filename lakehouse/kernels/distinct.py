"""Distinct values per key, sorted: packed into 64-bit codes, sorted once."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
FEW = 4  # up to that many codes per value it is cheaper to count in a table of all codes than to sort


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
    bits = int(values.max(initial=0)).bit_length()
    codes = _sorted((keys << bits) | values)
    codes = codes[np.diff(codes, prepend=-1) != 0]
    return codes >> bits, codes & ((1 << bits) - 1)


def counted(codes: Ints, size: int) -> tuple[Ints, Ints]:
    """Give the distinct codes, of 0 .. `size` - 1, ascending, and how often each occurs."""
    if size <= FEW * len(codes):
        counts = np.bincount(codes, minlength=size)
        found = np.flatnonzero(counts)
        return found, counts[found]
    ordered = np.sort(codes)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.diff(starts, append=len(ordered))


def sorted_pairs(keys: Ints, values: Ints, largest: int) -> tuple[Ints, Ints, Ints]:
    """Order pairs by key, then value, repeats kept; keys are not negative, values are in 0 .. `largest`.

    Gives the keys, the values, and where each distinct pair begins.
    """
    bits = largest.bit_length()
    codes = _sorted((keys << bits) | values)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes >> bits, codes & ((1 << bits) - 1), starts


def coded(values: Ints) -> tuple[Ints, Ints]:
    """Give the distinct values in a fixed order, and each value's place among them."""
    if len(values) and values.min() >= 0 and values.max() < FEW * len(values):
        is_known = np.zeros(int(values.max()) + 1, np.bool_)
        is_known[values] = True
        return np.flatnonzero(is_known), (np.cumsum(is_known) - 1)[values]
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.int64)


def lists_of(keys: Ints, pair_keys: Ints, pair_values: Ints) -> pa.ListArray:
    """Give, for each of the ascending `keys`, the list of its pairs' values; pairs are ordered by key."""
    offsets = np.append(np.searchsorted(pair_keys, keys), len(pair_keys)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(pair_values.astype(np.int32)))


def _sorted(codes: Ints) -> Ints:
    """Sort, in 32 bits where they suffice: twice as fast. np.unique would hash: thirty times slower."""
    is_narrow = len(codes) and codes.max() < 2**32
    return np.sort(codes.astype(np.uint32)).astype(np.int64) if is_narrow else np.sort(codes)
