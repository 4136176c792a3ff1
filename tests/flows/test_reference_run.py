"""The main job on half a year of a real retailer's receipts, held to figures known from elsewhere."""

from pathlib import Path

import pytest

from tests.flows.command import answer, lakehouse
from tests.reference import unpack

WEEKDAYS = [191406, 142445, 150739, 137245, 158766, 139371, 189015]
TOP_PRODUCTS = {
    5: 300526,
    10: 290313,
    3: 269855,
    4: 260418,
    6: 254644,
    8: 253899,
    7: 225877,
    16: 224159,
    11: 221968,
    9: 212480,
}
CATEGORIES = {6: 1811523, 3: 1410750, 17: 729513, 20: 493388, 28: 294753, 31: 125567, 1: 116773, 0: 5330800}
CORRELATIONS = {
    ("frequency", "total_products"): 0.8439,
    ("frequency", "diversity"): 0.7286,
    ("total_products", "diversity"): 0.8496,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    folder = tmp_path_factory.mktemp("home")
    done = lakehouse(folder, "run", "--source", source, "--no-prefect")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_whole_is_what_it_is_known_to_be(home: Path) -> None:
    def asked(sql: str) -> list[tuple[object, ...]]:
        return [tuple(row.values()) for row in answer(home, "query", sql)]

    totals = asked("select receipts, units, customers, products from gold.sales_totals")
    assert totals == [(1_108_987, 10_591_793, 131_186, 449)]
    assert asked("select count(*) from ops.quarantine") == [(0,)]
    assert asked("select count(*), sum(abs(difference)) from ops.ledger where entity = 'transactions'") == [(16, 0)]
    assert asked("select receipts from gold.weekday_sales order by weekday") == [(count,) for count in WEEKDAYS]
    assert asked("select sold_on, receipts from gold.daily_sales order by receipts desc limit 1") == [
        ("2013-06-15", 9_476)
    ]
    assert asked("select sold_on, units from gold.daily_sales order by units desc limit 1") == [("2013-03-03", 97_246)]
    top = asked("select product_id, units from gold.product_sales order by units desc limit 10")
    assert dict(top) == TOP_PRODUCTS
    largest = asked("select category_id, units from gold.category_sales order by units desc limit 8")
    assert dict(largest) == CATEGORIES
    found = {(a, b): c for a, b, c in asked("select variable, other, correlation from gold.variable_correlation")}
    assert {pair: round(float(str(found[pair])), 4) for pair in CORRELATIONS} == CORRELATIONS
    sizes = asked("select size, count(*) from gold.itemsets group by size order by size")
    assert sizes == [(1, 208), (2, 3_414), (3, 27_698)]
    ((inertia,),) = asked("select sum(inertia) from gold.segment_profiles")
    assert float(str(inertia)) <= 1.02 * 116_488
    twice = "select count(*) from silver.receipts where sold_on = '2013-02-01' and store_id = 103 "
    assert asked(twice + "and customer_id = 1008848 and products = [34]") == [(2,)]


def test_rules_at_another_support_are_as_many_as_known(home: Path, source: Path) -> None:
    options = ("--min-support", 0.05, "--max-itemset-size", 4, "--no-checks", "--no-prefect")
    done = lakehouse(home, "run", "--source", source, *options)
    assert done.returncode == 0, done.stderr
    counts = ", ".join(f"count(*) filter (confidence >= {c}) as c{k}" for k, c in enumerate((0.2, 0.3, 0.4, 0.5)))
    (rules,) = answer(home, "query", f"select {counts} from gold.association_rules")
    assert list(rules.values()) == [947, 843, 674, 458]
    assert answer(home, "query", "select count(*) as n from gold.itemsets") == [{"n": 452}]
