"""Which itemsets must be counted where, when blocks of receipts are mined apart."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from lakehouse.kernels.rules import pad, row_numbers, unpad


def needed_counts(known: pa.Table, least: Mapping[str, int], frequent: int) -> tuple[pa.Table, pa.Table]:
    """Say which counts tell, exactly, the itemsets held by at least `frequent` receipts of all blocks together.

    `known` has counts: items (ascending), month (the block's name), receipts; among them every itemset that at
    least `least` receipts of its block hold. An itemset not among them is held by fewer, so most cannot reach
    `frequent`. Gives the part of `known` that is needed, and what is to be counted besides (items, month).
    """
    sets, names = pad(known["items"]), sorted(least)
    at, receipts = row_numbers(sets), np.asarray(known["receipts"].to_numpy(), np.int64)
    _, first = np.unique(at, return_index=True)
    block = np.searchsorted(names, known["month"].to_numpy(zero_copy_only=False).astype(str)) if len(at) else at
    limit = np.array([least[name] for name in names], np.int64)
    is_mined = receipts >= limit[block]
    held, at_most = np.zeros((2, len(first), len(names)), np.int64)
    held[at, block] = 1
    at_most[:] = limit - 1
    at_most[at[is_mined], block[is_mined]] = receipts[is_mined]
    may_be_frequent = at_most.sum(axis=1) >= frequent
    rows, missing = np.nonzero(may_be_frequent[:, None] & (held == 0))
    to_count = {"items": unpad(sets[first[rows]]), "month": pa.array(names, pa.string()).take(pa.array(missing))}
    return known.filter(pa.array(is_mined | may_be_frequent[at])), pa.table(to_count)
