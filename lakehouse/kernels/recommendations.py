"""What to recommend to each customer, from association rules.

Rules are tried best first, many at a time, on bit columns: one per product, one bit per customer. Most customers have
their recommendations after a small part of the rules; customers who have are dropped on the way.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.kernels.association_rules import best_first
from lakehouse.kernels.bits import Bits, Ints, bit_columns, offsets_of
from lakehouse.kernels.product_sets import NOTHING, Codes, Matrix, lists_of, matrix_of

Floats = npt.NDArray[np.float64]

NO_RULE = -1
_CUSTOMERS = 1 << 16
_BLOCK_WORDS = 1 << 15
_MATCH_BITS = (_BLOCK_WORDS * 64).bit_length()  # of the number of a match among those of a block
_MATCH_MASK = (1 << _MATCH_BITS) - 1


@dataclass(frozen=True)
class Scorer:
    """Rules, best first, ready to be tried on customers; can be pickled, small enough to be sent to an engine."""

    products: Ints  # the ids the rules speak of, ascending
    needs: Codes  # per rule, its antecedent as a row of a matrix of those products
    gives: Codes  # per rule, place of its consequent among them
    confidence: Floats
    lift: Floats


def scorer_of(rules: pa.Table) -> Scorer:
    """Prepare `rules` (antecedent, consequent, confidence, lift; in any order)."""
    antecedent, consequent = matrix_of(rules["antecedent"]), np.asarray(rules["consequent"].to_numpy(), np.int64)
    confidence, lift = rules["confidence"].to_numpy(), rules["lift"].to_numpy()
    order = best_first(antecedent.rows, consequent, confidence, lift)
    products = np.union1d(antecedent.products, consequent)
    codes = np.arange(len(products) + 1, dtype=np.min_scalar_type(len(products)))
    code = np.append(codes[:1], codes[1:][np.searchsorted(products, antecedent.products)])
    gives = codes[np.searchsorted(products, consequent[order])]
    return Scorer(products, code[antecedent.rows[order]], gives, confidence[order], lift[order])


def recommendations(
    scorer: Scorer, customer_id: pa.Int64Array, products: pa.ListArray, per_customer: int = 5
) -> pa.Table:
    """Recommend to each customer the consequents, not yet bought, of rules whose antecedents are bought entirely.

    `products` are the distinct products each customer has bought. Gives customer_id, rank (1, 2, ...),
    recommended_product_id, based_on list<int32> (the antecedent), confidence, lift.
    The best rule counts for each consequent; ranked by lift, confidence (descending), consequent, size of the
    antecedent, antecedent (ascending). Customers keep their order and do not depend on each other.
    """
    starts = range(0, len(products), _CUSTOMERS)
    chosen = [_chosen_rules(scorer, products.slice(start, _CUSTOMERS), per_customer) for start in starts]
    rules = np.concatenate([np.empty((0, per_customer), np.int64), *chosen])
    customer, place = np.nonzero(rules != NO_RULE)
    rule = rules[customer, place]
    return pa.table(
        {
            "customer_id": customer_id.take(pa.array(customer)),
            "rank": (place + 1).astype(np.int32),
            "recommended_product_id": scorer.products[scorer.gives[rule]].astype(np.int32),
            "based_on": lists_of(Matrix(scorer.products, scorer.needs[rule])),
            "confidence": scorer.confidence[rule],
            "lift": scorer.lift[rule],
        }
    )


def _chosen_rules(scorer: Scorer, products: pa.ListArray, per_customer: int) -> Ints:
    """Give each customer's rules, best first: one row per customer, filled up with NO_RULE."""
    bought = bit_columns(products.flatten().dictionary_encode(), offsets_of(products), scorer.products)
    wanting, everyone = ~bought, ~np.zeros((1, bought.shape[1]), np.uint64)
    bought, waiting = np.concatenate([everyone, bought]), everyone[0]  # the row of a product is its code
    chosen = np.full((len(products), per_customer), NO_RULE, np.int64)
    customers, held = np.arange(len(products)), np.zeros(len(products), np.int64)
    start = 0
    while start < len(scorer.gives) and len(customers):
        end = start + max(1, _BLOCK_WORDS // len(waiting))
        gives, needs = scorer.gives[start:end].astype(np.int64), scorer.needs[start:end]
        matches = wanting[gives] & waiting
        for needed in needs.T:
            rows = np.flatnonzero(needed != NOTHING)
            if 2 * len(rows) > len(needed):
                matches &= bought[needed]
            elif len(rows):
                matches[rows] &= bought[needed[rows]]
        row, at = np.divmod(_set_bits(matches), len(waiting) * 64)
        first = _first_per_consequent(at, gives[row], len(scorer.products))
        row, at = row[first], at[first]
        customer = customers[at]
        place = held[customer] + np.arange(len(at)) - np.searchsorted(at, at)
        held[customer] = place + 1
        kept = place < per_customer
        chosen[customer[kept], place[kept]] = start + row[kept]
        _clear_bits(wanting, gives[row] * len(waiting) * 64 + at)
        _clear_bits(waiting, at[place + 1 >= per_customer])
        if 3 * np.bitwise_count(waiting).sum() < 2 * len(customers):
            left = np.flatnonzero(held[customers] < per_customer)
            bought, wanting, customers = _narrowed(bought, left), _narrowed(wanting, left), customers[left]
            waiting = bought[0].copy()
        start = end
    return chosen


def _narrowed(bits: Bits, left: Ints) -> Bits:
    """Keep only the columns `left` of a bit matrix; what fills up the last word is 0."""
    kept = np.zeros((len(bits), -(-len(left) // 64) * 8), np.uint8)
    for row, line in zip(kept, bits.view(np.uint8), strict=True):
        packed = np.packbits(np.unpackbits(line)[left])
        row[: len(packed)] = packed
    return kept.view(np.uint64)


def _first_per_consequent(customer: Ints, consequent: Ints, consequents: int) -> Ints:
    """Choose, of matches ordered by rule, each customer's first of each consequent; order by customer, then rule.

    Sorting numbers that hold their own place takes a quarter of the time of sorting places by numbers.
    """
    at = np.arange(len(customer))
    pairs = np.sort((customer * consequents + consequent) << _MATCH_BITS | at)
    first = pairs[np.diff(pairs >> _MATCH_BITS, prepend=-1) != 0] & _MATCH_MASK
    return np.sort(customer[first] << _MATCH_BITS | first) & _MATCH_MASK


def _set_bits(bits: Bits) -> Ints:
    """Give the numbers of the bits that are set, in the order of `np.packbits`, row after row."""
    flat = bits.reshape(-1)
    words = np.flatnonzero(flat != 0)  # of truth values numpy finds them three times as fast
    octets = flat[words].view(np.uint8)
    held = np.flatnonzero(octets != 0)
    first = words[held >> 3] * 64 + (held & 7) * 8
    at = np.flatnonzero(np.unpackbits(octets[held]))
    return np.asarray(first[at >> 3] + (at & 7), np.int64)


def _clear_bits(bits: Bits, at: Ints) -> None:
    """Clear, in place, the bits of those numbers."""
    octets = bits.reshape(-1, copy=False).view(np.uint8)
    np.bitwise_and.at(octets, at >> 3, ~(np.uint8(128) >> (at & 7).astype(np.uint8)))
