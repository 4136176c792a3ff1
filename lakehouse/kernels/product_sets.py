"""Lists of products as matrices of small numbers: one row per list.

Of a few hundred products a number takes one byte or two, and several fit into one integer, by which rows are compared.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.kernels.distinct import lengths_of, value_codes

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.unsignedinteger[Any]]

NOTHING = 0


class Matrix(NamedTuple):
    """A row per list: of each product 1 + its place among `products`, which ascend; filled up with NOTHING."""

    products: Ints
    rows: Codes


def matrix_of(lists: pa.ListArray | pa.ChunkedArray) -> Matrix:
    """Write lists as a matrix as wide as the longest of them."""
    whole = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    lengths = lengths_of(whole)
    products, places = value_codes(whole.flatten().to_numpy())
    rows = np.zeros((len(whole), int(lengths.max(initial=0))), np.min_scalar_type(len(products)))
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = places.astype(rows.dtype) + rows.dtype.type(1)
    return Matrix(products, rows)


def lists_of(matrix: Matrix) -> pa.ListArray:
    """Write such a matrix as lists of int32."""
    offsets = np.append(0, np.cumsum(sizes(matrix.rows))).astype(np.int32)
    ids = np.append(0, matrix.products).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids[matrix.rows[matrix.rows != NOTHING]]))


def sizes(rows: Codes) -> Ints:
    """Count the products of each row."""
    return np.asarray(np.count_nonzero(rows, axis=1), np.int64)


def row_numbers(rows: Codes) -> Ints:
    """Give rows numbers in their order, from 0: equal rows, and only those, get equal numbers.

    Of two that begin alike the shorter is first.
    """
    bits = max(1, int(rows.max(initial=0)).bit_length())
    together = max(1, (63 - len(rows).bit_length()) // bits)
    numbers = np.zeros(len(rows), np.int64)
    for start in range(0, rows.shape[1], together):
        for column in rows.T[start : start + together]:
            numbers = (numbers << bits) | column
        numbers = np.unique(numbers, return_inverse=True)[1]
    return numbers
