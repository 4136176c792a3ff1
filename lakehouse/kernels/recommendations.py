"""What to recommend to each customer, from association rules.

Rules are tried best first, many at a time, on bit columns: one per product, one bit per customer. Most customers have
their recommendations after a small part of the rules; customers who have are dropped on the way.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.kernels.itemsets import bit_columns, offsets_of
from lakehouse.kernels.rules import NOTHING, best_first, pad, unpad

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_CUSTOMERS = 1 << 16
_BLOCK_WORDS = 1 << 15
_MATCH_BITS = (_BLOCK_WORDS * 64).bit_length()  # of the number of a match among those of a block
_MATCH_MASK = (1 << _MATCH_BITS) - 1


@dataclass(frozen=True)
class Scorer:
    """Rules, best first, ready to be tried on customers; can be pickled."""

    products: Ints  # the ids the rules speak of, ascending: P of them
    needs: Ints  # per rule and place in its antecedent, position in `products`; P where there is none
    gives: Ints  # per rule, position of its consequent
    antecedents: pa.ListArray
    confidence: Floats
    lift: Floats


def scorer_of(rules: pa.Table) -> Scorer:
    """Prepare `rules` (antecedent, consequent, confidence, lift; in any order)."""
    antecedent, consequent = pad(rules["antecedent"]), np.asarray(rules["consequent"].to_numpy(), np.int64)
    confidence, lift = rules["confidence"].to_numpy(), rules["lift"].to_numpy()
    order = best_first(antecedent, consequent, confidence, lift)
    antecedent, consequent = antecedent[order], consequent[order]
    products = np.unique(np.append(antecedent[antecedent != NOTHING], consequent))
    needs = np.where(antecedent == NOTHING, len(products), np.searchsorted(products, antecedent))
    gives = np.searchsorted(products, consequent)
    return Scorer(products, needs, gives, unpad(antecedent), confidence[order], lift[order])


def customer_recommendations(
    customer_id: pa.Int64Array, products: pa.ListArray, rules: pa.Table, per_customer: int = 5
) -> pa.Table:
    """Recommend to each customer the consequents, not yet bought, of rules whose antecedents are bought entirely.

    `products` are the distinct products each customer has bought, `rules` as `association_rules` gives them. Gives
    customer_id, rank (1, 2, ...), recommended_product_id, based_on list<int32> (the antecedent), confidence, lift.
    The best rule counts for each consequent; ranked by lift, confidence (descending), consequent, size of the
    antecedent, antecedent (ascending). Customers keep their order and do not depend on each other.
    """
    return recommendations(scorer_of(rules), customer_id, products, per_customer)


def recommendations(
    scorer: Scorer, customer_id: pa.Int64Array, products: pa.ListArray, per_customer: int = 5
) -> pa.Table:
    """Do what `customer_recommendations` does, with prepared rules."""
    starts = range(0, len(products), _CUSTOMERS)
    chosen = [_chosen_rules(scorer, products.slice(start, _CUSTOMERS), per_customer) for start in starts]
    rules = np.concatenate([np.empty((0, per_customer), np.int64), *chosen])
    customer, place = np.nonzero(rules != NOTHING)
    rule = rules[customer, place]
    return pa.table(
        {
            "customer_id": customer_id.take(pa.array(customer)),
            "rank": (place + 1).astype(np.int32),
            "recommended_product_id": scorer.products[scorer.gives[rule]].astype(np.int32),
            "based_on": scorer.antecedents.take(pa.array(rule)),
            "confidence": scorer.confidence[rule],
            "lift": scorer.lift[rule],
        }
    )


def _chosen_rules(scorer: Scorer, products: pa.ListArray, per_customer: int) -> Ints:
    """Give each customer's rules, best first: one row per customer, filled up with NOTHING."""
    bought = bit_columns(products.flatten().dictionary_encode(), offsets_of(products), scorer.products)
    wanting, everyone = ~bought, ~np.zeros((1, bought.shape[1]), np.uint64)
    bought, waiting = np.concatenate([bought, everyone]), everyone[0]
    chosen = np.full((len(products), per_customer), NOTHING, np.int64)
    customers, held = np.arange(len(products)), np.zeros(len(products), np.int64)
    start = 0
    while start < len(scorer.gives) and len(customers):
        end = start + max(1, _BLOCK_WORDS // len(waiting))
        matches = wanting[scorer.gives[start:end]] & waiting
        for needed in scorer.needs[start:end].T:
            matches &= bought[needed]
        row, at = np.divmod(_set_bits(matches), len(waiting) * 64)
        first = _first_per_consequent(at, scorer.gives[start + row], len(scorer.products))
        rule, at = start + row[first], at[first]
        customer = customers[at]
        place = held[customer] + np.arange(len(at)) - np.searchsorted(at, at)
        held[customer] = place + 1
        kept = place < per_customer
        chosen[customer[kept], place[kept]] = rule[kept]
        _clear_bits(wanting, scorer.gives[rule] * len(waiting) * 64 + at)
        _clear_bits(waiting, at[place + 1 >= per_customer])
        if 3 * np.bitwise_count(waiting).sum() < 2 * len(customers):
            left = np.flatnonzero(held[customers] < per_customer)
            bought, wanting, customers = _narrowed(bought, left), _narrowed(wanting, left), customers[left]
            waiting = bought[-1].copy()
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
