"""Association rules with one consequent, and the recommendations they make for a product.

Rules from itemsets: Agrawal and Srikant, "Fast algorithms for mining association rules", 1994. Lists of products are
worked on as matrices: one row per list, ascending, filled up with NOTHING.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.kernels.itemsets import decimal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOTHING = -1


def association_rules(itemsets: pa.Table, total_receipts: int, min_confidence: float) -> pa.Table:
    """Give the rules antecedent -> consequent whose confidence is at least `min_confidence`.

    `itemsets` has items list<int32> (ascending) and receipts, and holds every subset of each of its itemsets.
    Gives antecedent list<int32> (ascending), consequent int32, receipts int64 (that hold both), support, confidence,
    lift; ordered `best_first`.
    """
    sets, held = pad(itemsets["items"]), _ints(itemsets["receipts"])
    source, antecedent, consequent = _splits(sets)
    alone = np.full_like(antecedent, NOTHING)
    alone[:, :1] = consequent[:, None]
    first, then = np.split(_receipts_of(np.concatenate([antecedent, alone]), sets, held), 2)
    both = held[source]
    least = decimal(min_confidence).limit_denominator(10**6)
    kept = np.flatnonzero(both * least.denominator >= first * least.numerator)
    antecedent, consequent, both, first, then = (x[kept] for x in (antecedent, consequent, both, first, then))
    confidence, lift = both / first, (both * total_receipts) / (first * then)
    order = best_first(antecedent, consequent, confidence, lift)
    return pa.table(
        {
            "antecedent": unpad(antecedent[order]),
            "consequent": consequent[order].astype(np.int32),
            "receipts": both[order],
            "support": (both / total_receipts)[order],
            "confidence": confidence[order],
            "lift": lift[order],
        }
    )


def product_recommendations(rules: pa.Table, per_product: int = 5) -> pa.Table:
    """Recommend, to who buys a product, the consequents of the rules that have just that product before them.

    `rules` are as `association_rules` gives them. Gives product_id, rank (1, 2, ...), recommended_product_id (int32),
    support, confidence, lift; ranked by lift, confidence (descending), recommended product (ascending).
    """
    antecedent = pad(rules["antecedent"])
    single = np.flatnonzero(sizes(antecedent) == 1)
    product, recommended = antecedent[single, :1].ravel(), _ints(rules["consequent"])[single]
    measures = {name: rules[name].to_numpy()[single] for name in ("support", "confidence", "lift")}
    order = np.lexsort((recommended, -measures["confidence"], -measures["lift"], product))
    rank = np.arange(len(order)) - np.searchsorted(product[order], product[order]) + 1
    order, rank = order[rank <= per_product], rank[rank <= per_product]
    return pa.table(
        {
            "product_id": product[order].astype(np.int32),
            "rank": rank.astype(np.int32),
            "recommended_product_id": recommended[order].astype(np.int32),
            **{name: values[order] for name, values in measures.items()},
        }
    )


def best_first(antecedent: Ints, consequent: Ints, confidence: Floats, lift: Floats) -> Ints:
    """Order rules by lift, confidence (descending), consequent, size of the antecedent, antecedent (ascending)."""
    keys = (*antecedent.T[::-1], sizes(antecedent), consequent, -confidence, -lift)
    return np.asarray(np.lexsort(keys), np.int64)


def pad(lists: pa.ListArray | pa.ChunkedArray) -> Ints:
    """Give lists as rows of a matrix as wide as the longest, filled up with NOTHING."""
    whole = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    lengths = np.diff(whole.offsets.to_numpy())
    rows = np.full((len(whole), int(lengths.max(initial=0))), NOTHING, np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = whole.flatten().to_numpy()
    return rows


def unpad(rows: Ints) -> pa.ListArray:
    """Give the rows of such a matrix as lists of int32."""
    offsets = np.append(0, np.cumsum(sizes(rows))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows[rows != NOTHING].astype(np.int32)))


def sizes(rows: Ints) -> Ints:
    """Count the products of each row."""
    return np.asarray(np.count_nonzero(rows != NOTHING, axis=1), np.int64)


def row_numbers(rows: Ints) -> Ints:
    """Give distinct rows their numbers: equal rows, and only those, get equal numbers from 0."""
    numbers = np.zeros(len(rows), np.int64)
    for column in rows.T:
        numbers = np.unique((numbers << 32) | (column - NOTHING), return_inverse=True)[1]
    return numbers


def _splits(sets: Ints) -> tuple[Ints, Ints, Ints]:
    """Split each itemset of two or more at each of its items: row of the itemset, antecedents, consequents."""
    size = sizes(sets)
    rows = [np.flatnonzero(size > max(1, at)) for at in range(sets.shape[1])]
    antecedents = [np.delete(sets[chosen], at, axis=1) for at, chosen in enumerate(rows)]
    consequents = [sets[chosen, at] for at, chosen in enumerate(rows)]
    if not rows:
        return np.empty(0, np.int64), np.empty((0, 0), np.int64), np.empty(0, np.int64)
    return np.concatenate(rows), np.concatenate(antecedents), np.concatenate(consequents)


def _receipts_of(wanted: Ints, sets: Ints, held: Ints) -> Ints:
    """Look up the receipts of the `wanted` itemsets among `sets`, which are one column wider."""
    same_width = np.pad(wanted, ((0, 0), (0, sets.shape[1] - wanted.shape[1])), constant_values=NOTHING)
    numbers = row_numbers(np.concatenate([sets, same_width]))
    receipts = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    receipts[numbers[: len(sets)]] = held
    found = receipts[numbers[len(sets) :]]
    if len(found) and not found.all():
        missing = [int(item) for item in wanted[np.flatnonzero(found == 0)[0]] if item != NOTHING]
        raise ValueError(f"the itemset {missing} is missing, though a larger one that contains it is there")
    return found


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), np.int64)
