"""Which itemsets must be counted where, when blocks of receipts are mined apart."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from lakehouse.errors import TooManyItemsets
from lakehouse.kernels.product_sets import Ints, Matrix, lists_of, matrix_of, row_numbers


def needed_counts(known: pa.Table, least: Mapping[str, int], frequent: int, most: int) -> tuple[pa.Table, pa.Table]:
    """Say which counts tell, exactly, the itemsets held by at least `frequent` receipts of all blocks together.

    `known` has counts: items (ascending), month (the block's name), receipts; among them every itemset that at
    least `least` receipts of its block hold. An itemset not among them is held by fewer, so most cannot reach
    `frequent`. Gives the part of `known` that is needed, and what is to be counted besides (items, month).
    Errors: TooManyItemsets, when they are more than `most` together.
    """
    names = sorted(least)
    matrix, block = matrix_of(known["items"]), _places(known["month"], names)
    at, receipts = row_numbers(matrix.rows), np.asarray(known["receipts"].to_numpy(), np.int64)
    limit = np.array([least[name] for name in names], np.int64)
    is_mined = receipts >= limit[block]
    above = (receipts - limit[block] + 1)[is_mined]
    kinds = int(at.max(initial=-1)) + 1
    at_most = (limit - 1).sum() + np.bincount(at[is_mined], above, kinds)
    chosen = np.flatnonzero(at_most >= frequent)
    place = np.full(kinds, -1)
    place[chosen] = np.arange(len(chosen))
    is_held, is_chosen = np.zeros((len(chosen), len(names)), np.bool_), place[at] >= 0
    is_held[place[at[is_chosen]], block[is_chosen]] = True
    is_kept = is_mined | is_chosen
    if (counts := int(np.count_nonzero(is_kept)) + is_held.size - int(np.count_nonzero(is_held))) > most:
        raise TooManyItemsets(f"the receipts, in {len(names)} blocks of months,", counts, most)
    first = np.empty(kinds, np.int64)
    first[at[::-1]] = np.arange(len(at))[::-1]
    rows, missing = np.nonzero(~is_held)
    items = lists_of(Matrix(matrix.products, matrix.rows[first[chosen[rows]]]))
    to_count = {"items": items, "month": pa.array(names, pa.string()).take(pa.array(missing))}
    kept = known if is_kept.all() else known.filter(pa.array(is_kept))  # of most nothing goes: no copy is made
    return kept, pa.table(to_count)


def _places(months: pa.ChunkedArray, names: list[str]) -> Ints:
    """Look up the place of each month among the names."""
    encoded = months.combine_chunks().dictionary_encode()
    places = np.asarray([names.index(name) for name in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(places[encoded.indices.to_numpy()])
