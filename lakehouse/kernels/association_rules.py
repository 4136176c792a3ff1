"""Association rules with one consequent, and the recommendations they make for a product.

Rules from itemsets: Agrawal and Srikant, "Fast algorithms for mining association rules", 1994.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import TooManyRules
from lakehouse.kernels.itemsets import decimal
from lakehouse.kernels.product_sets import Codes, Ints, Matrix, lists_of, matrix_of, row_numbers, sizes

Floats = npt.NDArray[np.float64]

MOST_RULES = 3_000_000  # of half a year with 208 frequent products, up to five together, there are 2,558,042


def association_rules(itemsets: pa.Table, total_receipts: int, min_confidence: float) -> pa.Table:
    """Give the rules antecedent -> consequent whose confidence is at least `min_confidence`.

    `itemsets` has items list<int32> (ascending) and receipts, and holds every subset of each of its itemsets.
    Gives antecedent list<int32> (ascending), consequent int32, receipts int64 (that hold both), support, confidence,
    lift; ordered `best_first`. Errors: TooManyRules, when they would be more than `MOST_RULES`.
    """
    (products, rows), held = matrix_of(itemsets["items"]), _ints(itemsets["receipts"])
    source, place, first = _confident_splits(rows, held, min_confidence)
    antecedent, consequent, both = _without(rows[source], place), rows[source, place], held[source]
    single = sizes(rows) == 1
    alone = np.zeros(len(products) + 1, np.int64)
    alone[rows[single, :1].ravel()] = held[single]
    confidence, lift = both / first, (both * total_receipts) / (first * alone[consequent])
    order = best_first(antecedent, consequent, confidence, lift)
    return pa.table(
        {
            "antecedent": lists_of(Matrix(products, antecedent[order])),
            "consequent": np.append(0, products)[consequent[order]].astype(np.int32),
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
    single = rules.filter(pc.equal(pc.list_value_length(rules["antecedent"]), 1))
    product, recommended = _ints(pc.list_flatten(single["antecedent"])), _ints(single["consequent"])
    measures = {name: single[name].to_numpy() for name in ("support", "confidence", "lift")}
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


def best_first(antecedent: Codes, consequent: Ints | Codes, confidence: Floats, lift: Floats) -> Ints:
    """Order rules by lift, confidence (descending), consequent, size of the antecedent, antecedent (ascending)."""
    keys = (row_numbers(antecedent), sizes(antecedent), consequent, -confidence, -lift)
    return np.asarray(np.lexsort(keys), np.int64)


def _confident_splits(rows: Codes, held: Ints, min_confidence: float) -> tuple[Ints, Ints, Ints]:
    """Split itemsets at each of their products: row, place of the consequent, receipts of the antecedent.

    Only what is confident enough is kept, and counted on the way, smaller itemsets first. Errors: TooManyRules.
    """
    least = decimal(min_confidence).limit_denominator(10**6)
    by_size = [np.flatnonzero(sizes(rows) == size) for size in range(rows.shape[1] + 1)]
    found = [(np.empty(0, np.int64),) * 3]
    count = smaller = 0
    for size in range(2, len(by_size)):
        sets, parts = by_size[size], by_size[size - 1]
        for place in range(size):
            antecedents = np.delete(rows[sets, :size], place, axis=1)
            first = _receipts_of(antecedents, rows[parts, : size - 1], held[parts])
            kept = np.flatnonzero(held[sets] * least.denominator >= first * least.numerator)
            found.append((sets[kept], np.full(len(kept), place), first[kept]))
            count += len(kept)
            if count > MOST_RULES:
                raise TooManyRules(size, MOST_RULES, smaller)
        smaller = count
    source, at, first = (np.concatenate(column) for column in zip(*found, strict=True))
    return source, at, first


def _receipts_of(wanted: Codes, sets: Codes, held: Ints) -> Ints:
    """Look up the receipts of the `wanted` itemsets among `sets`, which are as wide."""
    numbers = row_numbers(np.concatenate([sets, wanted]))
    receipts = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    receipts[numbers[: len(sets)]] = held
    found = receipts[numbers[len(sets) :]]
    if not found.all():
        raise ValueError("an itemset is missing, though a larger one that contains it is there")
    return found


def _without(rows: Codes, place: Ints) -> Codes:
    """Leave out the product at a place of each row."""
    later = np.arange(max(0, rows.shape[1] - 1)) >= place[:, None]
    return np.where(later, rows[:, 1:], rows[:, :-1])


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), np.int64)
