"""How many itemsets there are at least, told from pairs of products, before any larger itemset is made."""

from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Bound(NamedTuple):
    """The least number of itemsets, and places of products that are all together in enough receipts."""

    itemsets: int
    together: Ints


def least_itemsets(held: Ints, pairs: npt.NDArray[np.uint32], start: int, least: int, max_size: int) -> Bound:
    """Bound the itemsets of at most `max_size` items whose first item is `start` or one of those after it.

    `held` are the receipts of every item, `pairs` has a row for each of these first items: the receipts that hold
    it and each item (0 for those that are not later). Of the receipts of a first item, some lack a later one; as long
    as those that lack any of several leave `least`, every choice of these later items is an itemset with the first.
    """
    lacking = held[start : start + len(pairs), None] - pairs
    order = np.argsort(lacking, axis=1, kind="stable")
    spare = held[start : start + len(pairs), None] - least
    many = np.count_nonzero(np.cumsum(np.take_along_axis(lacking, order, axis=1), axis=1) <= spare, axis=1)
    sizes, firsts = np.unique(many, return_counts=True)
    itemsets = sum(int(n) * sum(comb(int(m), k) for k in range(max_size)) for m, n in zip(sizes, firsts, strict=True))
    best = int(many.argmax())
    return Bound(itemsets, np.append(start + best, order[best, : many[best]]))
