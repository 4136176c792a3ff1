"""Rows of the bronze and silver tables and of the quarantine, on both engines."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.engine.session import Engine
from lakehouse.errors import TooManyItemsets
from lakehouse.frames.kernels import Earlier
from lakehouse.parameters import Parameters
from lakehouse.silver import customers
from lakehouse.silver.recommendations import itemset_months
from lakehouse.table import Table
from tests.rows import Row, built, chosen, framed


def lines(*given: str) -> list[Row]:
    return [{"source_id": 7, "line_number": number, "line": line} for number, line in enumerate(given, 1)]


def receipt(sold_on: str, customer_id: int, products: list[int], store_id: int = 101) -> Row:
    on = date.fromisoformat(sold_on)
    bought = {"products": products, "units": len(products)}
    return {"month": sold_on[:7], "sold_on": on, "store_id": store_id, "customer_id": customer_id} | bought


def earlier_of(
    engine: Engine, table: Table, rows: Iterable[Row], months: Iterable[str], customer_ids: Iterable[int] = ()
) -> Earlier:
    return Earlier(framed(engine, table, rows), frozenset(months), pa.array(customer_ids, pa.int64()))


def test_lines_are_numbered_in_each_current_source(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "b.csv").write_bytes(b"three")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    current = {"entity": "transactions", "status": "current"}
    sources: list[Row] = [
        current | {"source_id": 1, "location": str(a), "bytes": 10, "sha256": sha256(a.read_bytes()).hexdigest()},
        current | {"source_id": 2, "location": str(b), "bytes": 5, "sha256": sha256(b.read_bytes()).hexdigest()},
        current | {"source_id": 3, "location": "/nowhere", "status": "superseded"},
        current | {"source_id": 4, "location": "/nowhere", "entity": "categories"},
    ]
    found = built(engine, "bronze.transactions", sources=sources)
    assert chosen(found, "source_id", "line_number", "line") == [(1, 1, "one"), (1, 2, "two"), (2, 1, "three")]


def test_a_line_is_a_receipt(engine: Engine) -> None:
    assert built(engine, "silver.receipts", transactions=lines("2013-02-01|103|1008848|34 5 34")) == [
        {
            "source_id": 7,
            "line_number": 1,
            "month": "2013-02",
            "sold_on": date(2013, 2, 1),
            "store_id": 103,
            "customer_id": 1008848,
            "products": [34, 5, 34],
            "units": 3,
        }
    ]


def test_the_same_line_twice_is_two_receipts(engine: Engine) -> None:
    twice = lines("2013-02-01|103|1008848|34", "2013-02-01|103|1008848|34")
    assert chosen(built(engine, "silver.receipts", transactions=twice), "line_number", "products") == [
        (1, [34]),
        (2, [34]),
    ]


def test_a_line_is_a_receipt_or_in_quarantine_never_both(engine: Engine) -> None:
    given = lines("2013-02-01|103|7|34", "2013-02-30|103|7|34", "2013-02-01|103|7|", "2013-02-01|103|7")
    kept = built(engine, "silver.receipts", transactions=given)
    refused = built(engine, "ops.quarantine", transactions=given)
    assert chosen(kept, "line_number") == [(1,)]
    assert chosen(refused, "line_number", "entity", "rule", "line") == [
        (2, "transactions", "bad_date", "2013-02-30|103|7|34"),
        (3, "transactions", "no_products", "2013-02-01|103|7|"),
        (4, "transactions", "wrong_field_count", "2013-02-01|103|7"),
    ]


def test_refused_reference_lines_are_in_the_same_quarantine(engine: Engine) -> None:
    links = lines("v.Code_pr|v.code", "20|x")
    found = built(engine, "ops.quarantine", categories=lines("one|BREAD"), product_categories=links)
    assert sorted(chosen(found, "entity", "line", "status")) == [
        ("categories", "one|BREAD", "open"),
        ("product_categories", "20|x", "open"),
    ]


def test_a_corrected_line_is_read_in_its_place_and_a_waived_one_is_not(engine: Engine) -> None:
    given = lines("2013-02-01|103|7|34", "2013-02-30|103|7|34", "2013-02-01|103|7|")
    decided = [
        {"source_id": 7, "line_number": 2, "decision": 1, "line": None},
        {"source_id": 7, "line_number": 2, "decision": 2, "line": "2013-03-01|103|7|34 5"},
        {"source_id": 7, "line_number": 3, "line": None},
        {"source_id": 8, "line_number": 1, "line": "2013-03-01|103|7|34 5"},
    ]
    kept = built(engine, "silver.receipts", transactions=given, corrections=decided)
    refused = built(engine, "ops.quarantine", transactions=given, corrections=decided)
    assert chosen(kept, "line_number", "month", "units") == [(1, "2013-02", 1), (2, "2013-03", 2)]
    assert chosen(refused, "line_number", "line", "status") == [
        (2, "2013-02-30|103|7|34", "replayed"),
        (3, "2013-02-01|103|7|", "waived"),
    ]


def test_reference_lines_are_corrected_alike(engine: Engine) -> None:
    decided = [{"source_id": 7, "line_number": 2, "line": "20|3"}]
    names = built(engine, "silver.categories", categories=lines("1|BREAD", "20"), corrections=decided)
    links = lines("v.Code_pr|v.code", "20|x")
    pairs = built(engine, "silver.product_categories", product_categories=links, corrections=decided)
    assert chosen(names, "category_id", "category_name") == [(1, "BREAD"), (20, "3")]
    assert chosen(pairs, "product_id", "category_id", "lines") == [(20, 3, 1)]


def test_a_category_name_keeps_its_commas(engine: Engine) -> None:
    found = built(engine, "silver.categories", categories=lines("1|BREAD, CAKES, AND MORE", "2|MILK"))
    assert chosen(found, "category_id", "category_name") == [(1, "BREAD, CAKES, AND MORE"), (2, "MILK")]


def test_the_smallest_category_of_a_product_is_primary_and_repeats_are_counted(engine: Engine) -> None:
    links = lines("v.Code_pr|v.code", "20|9", "20|4", "20|9", "21|9")
    found = built(engine, "silver.product_categories", product_categories=links)
    assert chosen(found, "product_id", "category_id", "is_primary", "lines") == [
        (20, 4, True, 1),
        (20, 9, False, 2),
        (21, 9, True, 1),
    ]


def test_a_product_twice_in_a_line_is_two_units(engine: Engine) -> None:
    found = built(engine, "silver.product_days", receipts=[receipt("2024-01-05", 1, [5, 5, 8])])
    assert chosen(found, "product_id", "units", "receipts") == [(5, 2, 1), (8, 1, 1)]


def test_products_are_counted_per_day_and_store(engine: Engine) -> None:
    receipts = [
        receipt("2024-01-05", 1, [5], store_id=101),
        receipt("2024-01-05", 2, [5, 5], store_id=101),
        receipt("2024-01-05", 3, [5], store_id=102),
        receipt("2024-02-05", 3, [5], store_id=101),
    ]
    found = built(engine, "silver.product_days", receipts=receipts)
    assert chosen(found, "month", "store_id", "units", "receipts") == [
        ("2024-01", 101, 3, 2),
        ("2024-01", 102, 1, 1),
        ("2024-02", 101, 1, 1),
    ]


def test_a_customer_of_two_stores_is_one_customer_of_the_day(engine: Engine) -> None:
    receipts = [receipt("2024-01-05", 1, [5], store_id=101), receipt("2024-01-05", 1, [6, 7], store_id=102)]
    found = built(engine, "silver.sales_days", receipts=receipts)
    assert chosen(found, "month", "receipts", "units", "customers") == [("2024-01", 2, 3, 1)]


def test_the_units_of_a_day_are_summed_beyond_32_bits(engine: Engine) -> None:
    large = receipt("2024-01-05", 1, []) | {"units": 2**31 - 1}
    assert chosen(built(engine, "silver.sales_days", receipts=[large, large]), "units") == [(2**32 - 2,)]


def test_a_customer_has_one_row_per_month_with_what_is_distinct(engine: Engine) -> None:
    receipts = [
        receipt("2024-01-05", 1, [9, 5, 9], store_id=102),
        receipt("2024-01-03", 1, [5], store_id=101),
        receipt("2024-02-01", 1, [6]),
        receipt("2024-01-03", -4, [6]),
    ]
    found = built(engine, "silver.customer_months", receipts=receipts)
    assert chosen(found, "customer_id", "month", "receipts", "units", "stores", "products") == [
        (-4, "2024-01", 1, 1, [101], [6]),
        (1, "2024-01", 2, 4, [101, 102], [5, 9]),
        (1, "2024-02", 1, 1, [101], [6]),
    ]
    assert chosen(found[1:2], "first_on", "last_on") == [(date(2024, 1, 3), date(2024, 1, 5))]


def test_a_customer_is_summed_over_months_and_categories_of_every_kind(engine: Engine) -> None:
    first = {"month": "2024-01", "receipts": 2, "units": 5, "stores": [101, 102], "products": [5, 9]}
    then = {"month": "2024-02", "receipts": 1, "units": 2, "stores": [101], "products": [5, 6]}
    categories = [
        {"product_id": 5, "category_id": 1, "is_primary": True},
        {"product_id": 5, "category_id": 2, "is_primary": False},
        {"product_id": 9, "category_id": 2, "is_primary": True},
    ]
    found = built(engine, "silver.customers", months=[first, then], categories=categories)
    figures = ("frequency", "total_products", "diversity", "avg_quantity", "unique_stores", "unique_categories")
    assert chosen(found, *figures, "products") == [(3, 7, 3, 2.3333, 2, 2, [5, 6, 9])]


def test_a_product_without_category_is_in_category_zero_never_a_guessed_one(engine: Engine) -> None:
    categories = [
        {"product_id": 5, "category_id": 3, "is_primary": True},
        {"product_id": 5, "category_id": 4, "is_primary": False},
    ]
    receipts = [receipt("2024-01-05", 1, [5, 6, 5]), receipt("2024-01-06", 2, [4])]
    found = built(engine, "silver.basket_months", receipts=receipts, categories=categories)
    assert chosen(found, "category_id", "basket_units", "receipts") == [(0, 1, 2), (3, 2, 1)]


def test_a_customer_nothing_touched_is_not_made_anew_and_one_without_receipts_is_gone(engine: Engine) -> None:
    before: list[Row] = [{"customer_id": k, "frequency": 9, "products": [k]} for k in (1, 2, 3)]
    earlier = earlier_of(engine, customers.TABLE, before, {"2024-02"}, [2, 3, 4])
    months = [{"customer_id": k, "month": "2024-01", "receipts": 1, "products": [8]} for k in (1, 2, 4)]
    found = built(engine, "silver.customers", earlier=earlier, months=months)
    assert chosen(found, "customer_id", "frequency", "products") == [(1, 9, [1]), (2, 1, [8]), (4, 1, [8])]


def days_of(receipts: list[Row]) -> list[Row]:
    counted = Counter(row["sold_on"] for row in receipts)
    return [{"sold_on": on, "month": f"{on:%Y-%m}", "receipts": n} for on, n in counted.items()]


def itemsets(engine: Engine, receipts: list[Row], asked: Parameters, earlier: Earlier | None = None) -> list[Row]:
    return built(engine, "silver.itemset_months", asked, earlier, receipts=receipts, days=days_of(receipts))


ASKED = Parameters(min_support=0.6, max_itemset_size=2)
JANUARY = [receipt("2024-01-05", k, [1, 2]) for k in range(20)]
FEBRUARY = [receipt("2024-02-05", k, [1, 3]) for k in range(19)] + [receipt("2024-02-05", 19, [2, 1, 2])]
MARCH = [receipt("2024-03-05", k, [2, 3, 4]) for k in range(20)]
A_DAY_OF_MARCH = MARCH[:4]


def test_an_itemset_that_may_be_frequent_in_all_months_is_counted_in_every_one(engine: Engine) -> None:
    found = itemsets(engine, JANUARY + FEBRUARY, ASKED)
    assert chosen(found, "items", "month", "receipts") == [
        ([1], "2024-01", 20),
        ([1], "2024-02", 20),
        ([1, 2], "2024-01", 20),
        ([1, 2], "2024-02", 1),
        ([1, 3], "2024-01", 0),
        ([1, 3], "2024-02", 19),
        ([2], "2024-01", 20),
        ([2], "2024-02", 1),
        ([3], "2024-01", 0),
        ([3], "2024-02", 19),
    ]
    assert set(chosen(found, "last_month", "least", "largest")) == {("2024-01", 10, 2), ("2024-02", 10, 2)}


@pytest.mark.parametrize(
    ("before", "after", "touched"),
    [
        (JANUARY, JANUARY + FEBRUARY, {"2024-02"}),
        (JANUARY + FEBRUARY, JANUARY + FEBRUARY + A_DAY_OF_MARCH, {"2024-03"}),
        (JANUARY + FEBRUARY + A_DAY_OF_MARCH, JANUARY + FEBRUARY + MARCH, {"2024-03"}),
        (JANUARY + A_DAY_OF_MARCH + FEBRUARY, JANUARY + FEBRUARY, {"2024-03"}),
        (JANUARY + FEBRUARY[:9] + MARCH, JANUARY + MARCH, {"2024-02"}),
        (JANUARY + FEBRUARY + MARCH, JANUARY[:12] + FEBRUARY + MARCH, {"2024-01"}),
        (JANUARY, [], {"2024-01"}),
    ],
)
def test_itemsets_made_upon_earlier_ones_are_those_made_anew(
    engine: Engine, before: list[Row], after: list[Row], touched: set[str]
) -> None:
    earlier = earlier_of(engine, itemset_months.TABLE, itemsets(engine, before, ASKED), touched)
    assert itemsets(engine, after, ASKED, earlier) == itemsets(engine, after, ASKED)


def test_months_are_mined_anew_only_when_they_are_touched_or_asked_for_otherwise(engine: Engine) -> None:
    before = itemsets(engine, JANUARY + FEBRUARY, ASKED)
    marked = [row | {"receipts": 17 if row["month"] == "2024-01" else 99} for row in before]
    earlier = earlier_of(engine, itemset_months.TABLE, marked, {"2024-02"})
    found = itemsets(engine, JANUARY + FEBRUARY, ASKED, earlier)
    assert set(chosen([row for row in found if row["month"] == "2024-01"], "receipts")) == {(17,)}
    assert [r for r in found if r["month"] == "2024-02"] == [r for r in before if r["month"] == "2024-02"]
    for asked in (Parameters(min_support=0.6, max_itemset_size=1), Parameters(min_support=0.9, max_itemset_size=2)):
        assert itemsets(engine, JANUARY + FEBRUARY, asked, earlier) == itemsets(engine, JANUARY + FEBRUARY, asked)


def test_of_too_many_itemsets_the_receipts_are_named_that_have_them(engine: Engine) -> None:
    orders = [
        receipt("2024-02-05", 7, [*range(1, 21), *range(1, 21), *more]) | {"source_id": 8, "line_number": line}
        for line, more in enumerate(([], [30], [40, 41], [30, 31]), 1)
    ]
    wholesale = {"entity": "transactions", "source_id": 8}
    sources = [
        {"source_id": 1, "path": "transactions/a.csv", "status": "current"},
        wholesale | {"path": "transactions/orders.csv", "status": "current"},
        wholesale | {"path": "transactions/again.csv", "status": "duplicate"},
    ]
    rows, asked = JANUARY + FEBRUARY + orders, Parameters(min_support=0.1, max_itemset_size=19)
    with pytest.raises(TooManyItemsets) as refused:
        built(engine, "silver.itemset_months", asked, receipts=rows, days=days_of(rows), sources=sources)
    assert str(refused.value) == (
        "Among the 44 receipts of 2024-01 to 2024-02 at least 1,048,574 itemsets are frequent, and 1,000,000 are the "
        "most that are kept. The same 20 products are in 4 of them; the largest of these, line 3 of "
        "transactions/orders.csv, has 22. Ask for a smaller --max-itemset-size or a higher --min-support, or "
        "correct or withdraw transactions/orders.csv."
    )


MANY = [receipt("2024-03-05", k, [2, 3, 4, 5]) for k in range(20)]


@pytest.mark.parametrize("untouched", [False, True])
def test_all_months_together_have_so_many_itemsets_and_no_more_whichever_are_mined_anew(
    engine: Engine, untouched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, asked = JANUARY + FEBRUARY + MANY, Parameters(min_support=0.95, max_itemset_size=3)
    whole = itemsets(engine, rows, asked)
    by_month = Counter(row["month"] for row in whole)
    assert by_month == {
        "2024-01": 3,
        "2024-02": 3,
        "2024-03": 14,
    }  # March has more than a third, and takes what is left
    earlier = earlier_of(engine, itemset_months.TABLE, whole, {"2024-03"}) if untouched else None
    monkeypatch.setattr(itemset_months, "MOST_COUNTS", 20)
    assert itemsets(engine, rows, asked, earlier) == whole
    monkeypatch.setattr(itemset_months, "MOST_COUNTS", 19)
    with pytest.raises(TooManyItemsets, match="Among the 60 receipts, in 3 blocks of months, at least 20 itemsets"):
        itemsets(engine, rows, asked, earlier)
