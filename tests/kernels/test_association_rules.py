from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import TooManyRules
from lakehouse.kernels import association_rules as kernel
from lakehouse.kernels.association_rules import association_rules, product_recommendations
from lakehouse.kernels.itemsets import frequent_itemsets
from tests.reference import reference_receipts

BASKETS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=40)


def itemsets(counts: dict[tuple[int, ...], int]) -> pa.Table:
    lists = pa.array([list(items) for items in counts], pa.list_(pa.int32()))
    return pa.table({"items": lists, "receipts": pa.array(counts.values(), pa.int64())})


def rules(rows: list[tuple[list[int], int, float, float]]) -> pa.Table:
    antecedent, consequent, confidence, lift = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "antecedent": pa.array(antecedent, pa.list_(pa.int32())),
            "consequent": pa.array(consequent, pa.int32()),
            "support": pa.array([0.5] * len(rows), pa.float64()),
            "confidence": pa.array(confidence, pa.float64()),
            "lift": pa.array(lift, pa.float64()),
        }
    )


def spelled_out(baskets: list[list[int]], max_size: int, min_confidence: Fraction) -> list[dict[str, Any]]:
    """Make the rules one by one, with exact fractions."""
    total = len(baskets)
    counts = {tuple(r["items"]): r["receipts"] for r in frequent_itemsets(lists(baskets), 0.1, max_size).to_pylist()}
    made = []
    for items, both in counts.items():
        for consequent in items if len(items) > 1 else ():
            antecedent = tuple(item for item in items if item != consequent)
            if Fraction(both, counts[antecedent]) >= min_confidence:
                lift = Fraction(both * total, counts[antecedent] * counts[(consequent,)])
                made.append((antecedent, consequent, both, Fraction(both, counts[antecedent]), lift))
    made.sort(key=lambda rule: (-rule[4], -rule[3], rule[1], len(rule[0]), rule[0]))
    return [
        {
            "antecedent": list(antecedent),
            "consequent": consequent,
            "receipts": both,
            "support": both / total,
            "confidence": float(confidence),
            "lift": float(lift),
        }
        for antecedent, consequent, both, confidence, lift in made
    ]


def lists(baskets: list[list[int]]) -> pa.ListArray:
    return pa.array(baskets, pa.list_(pa.int32()))


def test_a_rule_has_support_confidence_and_lift() -> None:
    made = association_rules(itemsets({(1,): 8, (2,): 4, (1, 2): 4}), 16, 0.5)
    assert made.to_pylist() == [
        {"antecedent": [2], "consequent": 1, "receipts": 4, "support": 0.25, "confidence": 1.0, "lift": 2.0},
        {"antecedent": [1], "consequent": 2, "receipts": 4, "support": 0.25, "confidence": 0.5, "lift": 2.0},
    ]
    assert [made.schema.field(name).type for name in ("antecedent", "consequent", "receipts", "lift")] == [
        pa.list_(pa.int32()),
        pa.int32(),
        pa.int64(),
        pa.float64(),
    ]


@pytest.mark.parametrize("min_confidence", [0.3, 0.1 + 0.2])
def test_a_rule_just_confident_enough_is_kept(min_confidence: float) -> None:
    made = association_rules(itemsets({(1,): 10, (2,): 30, (1, 2): 3}), 100, min_confidence)
    assert made["antecedent"].to_pylist() == [[1]]


def test_itemsets_of_one_product_make_no_rules() -> None:
    assert association_rules(itemsets({(1,): 3, (2,): 1}), 3, 0.2).num_rows == 0
    assert association_rules(itemsets({}), 0, 0.2).num_rows == 0


def test_an_itemset_without_its_subsets_is_refused() -> None:
    with pytest.raises(ValueError, match="an itemset is missing"):
        association_rules(itemsets({(1,): 3, (1, 2): 2}), 3, 0.2)


def test_more_rules_than_are_kept_are_refused_with_the_size_that_makes_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = frequent_itemsets(lists([[1, 2, 3, 4]] * 5), 0.5, 20)
    assert association_rules(found, 5, 0.2).num_rows == 12 + 12 + 4
    monkeypatch.setattr(kernel, "MOST_RULES", 27)
    with pytest.raises(TooManyRules, match="--max-itemset-size 3, with which they are 24, or a higher --min-conf"):
        association_rules(found, 5, 0.2)
    monkeypatch.setattr(kernel, "MOST_RULES", 11)
    with pytest.raises(TooManyRules, match=r"up to 2 products make more than 11 rules.* Ask for a higher --min-conf"):
        association_rules(found, 5, 0.2)


def test_only_rules_that_are_confident_enough_count_against_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = itemsets({(1,): 10, (2,): 30, (1, 2): 3})
    monkeypatch.setattr(kernel, "MOST_RULES", 1)
    assert association_rules(found, 100, 0.3).num_rows == 1
    with pytest.raises(TooManyRules):
        association_rules(found, 100, 0.1)


@given(BASKETS, st.integers(1, 6), st.sampled_from(["0.2", "0.3", "0.5", "0.6", "1"]))
def test_rules_equal_those_spelled_out(baskets: list[list[int]], max_size: int, min_confidence: str) -> None:
    found = frequent_itemsets(lists(baskets), 0.1, max_size)
    made = association_rules(found, len(baskets), float(min_confidence))
    assert made.to_pylist() == spelled_out(baskets, max_size, Fraction(min_confidence))


def test_a_product_recommends_its_five_best_consequents() -> None:
    made = rules(
        [([1], 9, 0.5, 2.0), ([1, 2], 7, 0.9, 9.0), ([1], 8, 0.5, 2.0), ([1], 7, 0.6, 2.0)]
        + [([1], 10 + k, 0.3, 3.0 + k) for k in range(3)]
        + [([0], 1, 0.3, 1.5)]
    )
    rows = product_recommendations(made).to_pylist()
    assert [(r["product_id"], r["rank"], r["recommended_product_id"]) for r in rows] == [
        (0, 1, 1),
        (1, 1, 12),
        (1, 2, 11),
        (1, 3, 10),
        (1, 4, 7),
        (1, 5, 8),
    ]
    assert rows[0] | {"rank": 0} == {
        "product_id": 0,
        "rank": 0,
        "recommended_product_id": 1,
        "support": 0.5,
        "confidence": 0.3,
        "lift": 1.5,
    }
    assert product_recommendations(rules([])).num_rows == 0


@given(BASKETS, st.integers(1, 3), st.randoms())
def test_product_recommendations_are_the_first_rules_of_each_product(
    baskets: list[list[int]], per_product: int, random: Any
) -> None:
    made = association_rules(frequent_itemsets(lists(baskets), 0.1, 3), len(baskets), 0.2)
    ordered = [rule for rule in made.to_pylist() if len(rule["antecedent"]) == 1]
    expected = [
        (product, rank, rule["consequent"], rule["support"], rule["confidence"], rule["lift"])
        for product in range(7)
        for rank, rule in enumerate([r for r in ordered if r["antecedent"] == [product]][:per_product], 1)
    ]
    shuffled = made.take(pa.array(random.sample(range(made.num_rows), made.num_rows), pa.int64()))
    assert [tuple(row.values()) for row in product_recommendations(shuffled, per_product).to_pylist()] == expected


def test_reference_receipts_have_the_known_rules() -> None:
    receipts = reference_receipts()
    found = frequent_itemsets(receipts["products"].combine_chunks(), 0.05, 4)
    made = {c: association_rules(found, receipts.num_rows, c).num_rows for c in (0.2, 0.3, 0.4, 0.5)}
    assert (found.num_rows, made) == (452, {0.2: 947, 0.3: 843, 0.4: 674, 0.5: 458})
