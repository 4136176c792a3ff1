from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.kernels import recommendations as kernel
from lakehouse.kernels.association_rules import association_rules
from lakehouse.kernels.distinct import distinct_lists, pairs_of
from lakehouse.kernels.itemsets import frequent_itemsets
from lakehouse.kernels.recommendations import recommendations, scorer_of
from tests.reference import reference_receipts

Rule = tuple[tuple[int, ...], int, float, float]

ANTECEDENTS = st.sets(st.integers(0, 7), min_size=1, max_size=7).map(sorted)
QUARTERS = st.integers(1, 4).map(lambda n: n / 4)
RULES = st.dictionaries(
    st.tuples(ANTECEDENTS.map(tuple), st.integers(0, 7)), st.tuples(QUARTERS, QUARTERS), max_size=60
)
OWNED = st.lists(st.sets(st.integers(0, 9)).map(sorted), max_size=150)


def rules(rows: list[Rule]) -> pa.Table:
    antecedent, consequent, confidence, lift = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "antecedent": pa.array([list(a) for a in antecedent], pa.list_(pa.int32())),
            "consequent": pa.array(consequent, pa.int32()),
            "confidence": pa.array(confidence, pa.float64()),
            "lift": pa.array(lift, pa.float64()),
        }
    )


def customer_recommendations(
    customer_id: pa.Int64Array, products: pa.ListArray, rules: pa.Table, per_customer: int = 5
) -> pa.Table:
    return recommendations(scorer_of(rules), customer_id, products, per_customer)


def customers(owned: list[list[int]]) -> tuple[pa.Int64Array, pa.ListArray]:
    return pa.array(range(100, 100 + len(owned)), pa.int64()), pa.array(owned, pa.list_(pa.int32()))


def one_by_one(owned: list[int], ordered: list[Rule], per_customer: int) -> list[Rule]:
    """Walk through the rules, best first, for one customer."""
    bought, best = set(owned), dict[int, Rule]()
    for rule in ordered:
        if bought.issuperset(rule[0]) and rule[1] not in bought:
            best.setdefault(rule[1], rule)
    return list(best.values())[:per_customer]


def best_first(rows: list[Rule]) -> list[Rule]:
    return sorted(rows, key=lambda r: (-r[3], -r[2], r[1], len(r[0]), r[0]))


def given_to(customer: int, table: pa.Table) -> list[Rule]:
    rows = [row for row in table.to_pylist() if row["customer_id"] == customer]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return [(tuple(r["based_on"]), r["recommended_product_id"], r["confidence"], r["lift"]) for r in rows]


def test_a_customer_gets_what_follows_from_all_bought_and_is_not_bought() -> None:
    made = rules([((1, 2), 3, 0.5, 4.0), ((1, 4), 5, 0.5, 3.0), ((1,), 2, 0.5, 2.0), ((2,), 6, 0.25, 1.5)])
    table = customer_recommendations(*customers([[1, 2], [4], [], [1, 99]]), made)
    assert table.to_pylist() == [
        {
            "customer_id": 100,
            "rank": 1,
            "recommended_product_id": 3,
            "based_on": [1, 2],
            "confidence": 0.5,
            "lift": 4.0,
        },
        {"customer_id": 100, "rank": 2, "recommended_product_id": 6, "based_on": [2], "confidence": 0.25, "lift": 1.5},
        {"customer_id": 103, "rank": 1, "recommended_product_id": 2, "based_on": [1], "confidence": 0.5, "lift": 2.0},
    ]


def test_the_best_rule_counts_for_each_product() -> None:
    made = [((1,), 9, 0.5, 2.0), ((2,), 9, 0.75, 2.0), ((1, 2), 9, 0.75, 2.0), ((3,), 9, 0.75, 3.0)]
    assert given_to(100, customer_recommendations(*customers([[1, 2]]), rules(made))) == [made[1]]


def test_at_most_five_are_recommended() -> None:
    made = rules([((1,), 10 + k, 0.5, 2.0) for k in reversed(range(9))])
    table = customer_recommendations(*customers([[1]]), made)
    assert table["recommended_product_id"].to_pylist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(("owned", "made"), [([], [((1,), 2, 0.5, 2.0)]), ([[1], []], []), ([], [])])
def test_without_customers_or_rules_nothing_is_recommended(owned: list[list[int]], made: list[Rule]) -> None:
    table = customer_recommendations(*customers(owned), rules(made))
    assert table.num_rows == 0
    assert table.schema.types == [
        pa.int64(),
        pa.int32(),
        pa.int32(),
        pa.list_(pa.int32()),
        pa.float64(),
        pa.float64(),
    ]


@given(OWNED, RULES, st.integers(1, 3), st.integers(1, 200))
def test_recommendations_equal_those_made_one_by_one(
    owned: list[list[int]], made: dict[Any, Any], per_customer: int, block_words: int
) -> None:
    rows = [(*which, *measures) for which, measures in made.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_WORDS", block_words)
        table = customer_recommendations(*customers(owned), rules(rows), per_customer)
    ordered = best_first(rows)
    expected = [
        (100 + at, rule) for at, products in enumerate(owned) for rule in one_by_one(products, ordered, per_customer)
    ]
    given_ids = list(dict.fromkeys(table["customer_id"].to_pylist()))
    assert [(c, rule) for c in given_ids for rule in given_to(c, table)] == expected


@given(OWNED, RULES, st.integers(1, 70))
def test_batches_do_not_show(owned: list[list[int]], made: dict[Any, Any], batch: int) -> None:
    rows = [(*which, *measures) for which, measures in made.items()]
    ids, products = customers(owned)
    scorer = cloudpickle.loads(cloudpickle.dumps(scorer_of(rules(rows))))
    whole = recommendations(scorer, ids, products)
    starts = range(0, max(1, len(owned)), batch)
    parts = [recommendations(scorer, ids.slice(s, batch), products.slice(s, batch)) for s in starts]
    assert pa.concat_tables(parts).equals(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_CUSTOMERS", batch)
        assert recommendations(scorer, ids, products).equals(whole)


def test_reference_customers_get_what_the_rules_say_one_by_one() -> None:
    receipts = reference_receipts()
    products = receipts["products"].combine_chunks()
    made = association_rules(frequent_itemsets(products, 0.005, 3), len(products), 0.2)
    customers, owner = np.unique(receipts["customer_id"].to_numpy(), return_inverse=True)
    ids, lists = pa.array(customers), distinct_lists(*pairs_of(owner, products), len(customers))
    table = customer_recommendations(ids, lists, made)
    assert (made.num_rows, len(ids), table.num_rows) == (73_385, 131_186, 612_321)
    names = ("antecedent", "consequent", "confidence", "lift")
    ordered = [(tuple(a), *rest) for a, *rest in zip(*(made[n].to_pylist() for n in names), strict=True)]
    for at in range(0, len(ids), 8_191):
        one = table.filter(pc.equal(table["customer_id"], ids[at]))
        assert given_to(ids[at].as_py(), one) == one_by_one(lists[at].as_py(), ordered, 5)
