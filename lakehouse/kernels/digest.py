"""A digest of rows that knows no order, no file layout and no engine.

Each row is hashed from its values with splitmix64 (Steele, Lea, Flood 2014) in two lanes of 64 bits; the digest is
the number of rows and the sums of the lanes. Floats count as whole multiples of 10^-digits, text by its BLAKE2b,
lists by their elements and their places.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Lane = npt.NDArray[np.uint64]
SEEDS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
_NULL = np.uint64(0xA5A5A5A5A5A5A5A5)


def digest(batches: Iterable[pa.RecordBatch], digits: dict[str, int]) -> str:
    """Digest batches of equal schema; `digits` says how many decimals of a float column count."""
    rows, sums = 0, [0, 0]
    for batch in batches:
        rows += batch.num_rows
        named = [(name, _bits(batch.column(name), digits.get(name, 6))) for name in batch.schema.names]
        columns = [_mixed(bits + _text(name)) for name, bits in named]
        for lane, seed in enumerate(SEEDS):
            hashed = np.full(batch.num_rows, seed, np.uint64)
            for bits in columns:
                hashed = _mixed(hashed ^ bits)
            sums[lane] = (sums[lane] + int(hashed.sum(dtype=np.uint64))) % 2**64
    return f"{rows}-{sums[0]:016x}{sums[1]:016x}"


def _bits(values: pa.Array, digits: int) -> Lane:
    """Give 64 bits per value."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _bits(values.dictionary_decode(), digits)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        bits = _of_lists(values, digits)
    elif pa.types.is_floating(kind):
        bits = _of_floats(values, digits)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        coded = values.fill_null("").dictionary_encode()
        words = np.array([_text(word) for word in coded.dictionary.to_pylist()], np.uint64)
        bits = words[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.uint64)
    elif pa.types.is_date(kind):
        bits = _whole(values.cast(pa.int32()))
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        bits = _whole(values)
    else:
        raise TypeError(f"no digest of {kind}")
    return np.where(values.is_null().to_numpy(zero_copy_only=False), _NULL, bits) if values.null_count else bits


def _whole(values: pa.Array) -> Lane:
    nothing = False if pa.types.is_boolean(values.type) else 0
    return np.asarray(values.fill_null(nothing).cast(pa.int64())).view(np.uint64)


def _of_floats(values: pa.Array, digits: int) -> Lane:
    """Count the multiples; what 64 bits cannot count (too large, infinite, not a number) is its own bits."""
    floats = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    with np.errstate(over="ignore"):
        scaled = np.floor(floats * 10.0**digits + 0.5)
    counted = np.abs(scaled) < 2.0**63
    bits = np.where(counted, scaled, 0).astype(np.int64).view(np.uint64)
    return (
        bits if counted.all() else np.where(counted, bits, np.where(np.isnan(floats), np.nan, floats).view(np.uint64))
    )


def _of_lists(values: pa.ListArray, digits: int) -> Lane:
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    hashed = _mixed(_bits(values.flatten(), digits) ^ _mixed(places.astype(np.uint64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashed, dtype=np.uint64)])
    return np.asarray(sums[ends] - sums[ends - lengths] + _mixed(lengths.astype(np.uint64)), np.uint64)


def _mixed(bits: Lane) -> Lane:
    """Scramble 64 bits: the finaliser of splitmix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _text(word: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little"))
