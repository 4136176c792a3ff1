"""Row rules: which lines are receipts, and which rule refuses the others."""

from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.kernels.receipt_rules import Receipt, Refusal, accepted_receipts, read_line, refused_receipts
from quality.ledger.recount import line_units
from tests.layouts import layouts

GOOD = "2013-02-01|103|1008848|34 2 34"
ACCEPTED = {
    "source_id": pa.int64(),
    "line_number": pa.int32(),
    "month": pa.string(),
    "sold_on": pa.date32(),
    "store_id": pa.int32(),
    "customer_id": pa.int64(),
    "products": pa.list_(pa.int32()),
    "units": pa.int32(),
}

DAYS = [
    "2013-02-28", "2012-02-29", "1990-01-01", "2100-01-01", "2013-02-29", "0000-01-01", "1989-12-31", "2100-01-02",
    "2013-13-01", "2013-00-10", "2013-1-1", "2013-W05-5", "20130201", "+013-02-01", "2013-02-01 ", "\uff12013-02-01",
    "",
]  # fmt: skip
NUMBERS = [
    "0", "1", "103", "007", "000000000", "0000000001", "999999999", "1000000000", "2147483647", "2147483648",
    "4294967297", "9223372036854775807", "9223372036854775808", "18446744073709551617", "0" * 18 + "7", "0" * 19 + "7",
    "1" * 40, "-1", "+1", "1.0", "1e3", "1_000", "0x1", "٣", "²", "\uff13", " 1", "1 ", "1\t", "1\r", "\ufeff1", "",
    " ", "a", "\0", "1\0",
]  # fmt: skip
LISTS = [
    "", " ", "   ", "5", "5 5", "5  7", " 5", "5 ", "5\r", "5\t7", "5,7", "5 x", "5\xa07", "5 \uefff", "\uefff", "٣ 4",
    "0", "2147483647", "2147483648 1", "007 7", "1000000000 5", " ".join(map(str, range(300))),
]  # fmt: skip


def lines(texts: list[str]) -> pa.Table:
    return pa.table(
        {
            "source_id": pa.array([-9] * len(texts), pa.int64()),
            "line_number": pa.array(range(1, len(texts) + 1), pa.int32()),
            "line": pa.array(texts, pa.string()),
        }
    )


def one_by_one(texts: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read each line on its own: what is accepted, what is refused."""
    accepted, refused = [], []
    for number, text in enumerate(texts, 1):
        match read_line(text):
            case Receipt(sold_on, store, customer, products):
                receipt = {"month": text[:7], "sold_on": sold_on, "store_id": store, "customer_id": customer}
                receipt |= {"products": products, "units": len(products)}
                accepted.append({"source_id": -9, "line_number": number} | receipt)
            case Refusal(rule, detail):
                entity = {"entity": "transactions", "line": text, "rule": rule, "detail": detail, "status": "open"}
                refused.append({"source_id": -9, "line_number": number} | entity)
    return accepted, refused


def in_order(rows: pa.Table) -> list[dict[str, Any]]:
    return sorted(rows.to_pylist(), key=lambda row: row["line_number"])


def near(good: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from(good) | st.text(alphabet="0123456789 -+.|x\t\r٣²\uefff", max_size=12)


SMALL = st.just("103") | near(NUMBERS)
FIELDS = st.tuples(st.just("2013-02-01") | near(DAYS), SMALL, SMALL, near(LISTS))
NEAR_MISSES = st.lists(FIELDS.map("|".join) | st.just(GOOD) | near([GOOD + " ", GOOD + "\r", " " + GOOD]), max_size=12)


def test_a_line_is_a_receipt() -> None:
    (row,) = accepted_receipts(lines([GOOD])).to_pylist()
    assert row == {
        "source_id": -9,
        "line_number": 1,
        "month": "2013-02",
        "sold_on": date(2013, 2, 1),
        "store_id": 103,
        "customer_id": 1008848,
        "products": [34, 2, 34],
        "units": 3,
    }


def test_the_same_line_twice_is_two_receipts() -> None:
    assert accepted_receipts(lines([GOOD, GOOD]))["line_number"].to_pylist() == [1, 2]


@pytest.mark.parametrize("texts", [[], [GOOD], ["x"], [GOOD + " "], [GOOD, GOOD + " ", "x"]])
def test_columns_have_their_types_whatever_is_read(texts: list[str]) -> None:
    accepted = accepted_receipts(lines(texts))
    assert dict(zip(accepted.schema.names, accepted.schema.types, strict=True)) == ACCEPTED
    assert refused_receipts(lines(texts))["rule"].type == pa.string()


@pytest.mark.parametrize(
    ("products", "read"),
    [
        ("5", [5]),
        ("5 5", [5, 5]),
        ("5  7", [5, 7]),
        (" 5 7", [5, 7]),
        ("5 7  ", [5, 7]),
        ("0", [0]),
        ("007", [7]),
        ("1000000000", [10**9]),
        ("2147483647 0000000000000000007", [2**31 - 1, 7]),
    ],
)
def test_products_are_read_as_delivered(products: str, read: list[int]) -> None:
    (row,) = accepted_receipts(lines([f"2013-02-01|1|2|{products}"])).to_pylist()
    assert (row["products"], row["units"]) == (read, len(read))


@pytest.mark.parametrize(
    ("line", "rule", "detail"),
    [
        ("2013-02-01|1|2|3 \uefff", "not_utf8", "byte 0xff at character 18"),
        ("\uef80", "not_utf8", "byte 0x80 at character 1"),
        ("", "wrong_field_count", "1 fields instead of 4"),
        ("2013-02-01|1|2", "wrong_field_count", "3 fields instead of 4"),
        ("2013-02-01|1|2|3|", "wrong_field_count", "5 fields instead of 4"),
        ("2013-02-01;1;2;3", "wrong_field_count", "1 fields instead of 4"),
        ("2013-02-29|1|2|3", "bad_date", "'2013-02-29' is no date YYYY-MM-DD"),
        ("0000-01-01|1|2|3", "bad_date", "'0000-01-01' is no date YYYY-MM-DD"),
        ("2013-W05-5|1|2|3", "bad_date", "'2013-W05-5' is no date YYYY-MM-DD"),
        ("20130201|1|2|3", "bad_date", "'20130201' is no date YYYY-MM-DD"),
        (" 2013-02-01|1|2|3", "bad_date", "' 2013-02-01' is no date YYYY-MM-DD"),
        ("\uff12\uff10\uff11\uff13-02-01|1|2|3", "bad_date", "'\uff12\uff10\uff11\uff13-02-01' is no date YYYY-MM-DD"),
        ("|1|2|3", "bad_date", "'' is no date YYYY-MM-DD"),
        ("1989-12-31|1|2|3", "date_out_of_range", "1989-12-31 is not within 1990-01-01 to 2100-01-01"),
        ("2100-01-02|1|2|3", "date_out_of_range", "2100-01-02 is not within 1990-01-01 to 2100-01-01"),
        ("0001-01-01|1|2|3", "date_out_of_range", "0001-01-01 is not within 1990-01-01 to 2100-01-01"),
        ("2013-02-01||2|3", "bad_store", "'' is no whole number up to 2147483647"),
        ("2013-02-01|2147483648|2|3", "bad_store", "'2147483648' is no whole number up to 2147483647"),
        ("2013-02-01|-1|2|3", "bad_store", "'-1' is no whole number up to 2147483647"),
        ("2013-02-01|1 |2|3", "bad_store", "'1 ' is no whole number up to 2147483647"),
        (
            "2013-02-01|1|9223372036854775808|3",
            "bad_customer",
            f"'{2**63}' is no whole number up to 9223372036854775807",
        ),
        ("2013-02-01|1|٣|3", "bad_customer", "'٣' is no whole number up to 9223372036854775807"),
        ("2013-02-01|1|+2|3", "bad_customer", "'+2' is no whole number up to 9223372036854775807"),
        ("2013-02-01|1|2|", "no_products", "the product list is empty"),
        ("2013-02-01|1|2|   ", "no_products", "the product list is empty"),
        ("2013-02-01|1|2|3 x", "bad_product", "'x' is no whole number up to 2147483647"),
        ("2013-02-01|1|2|3\t4", "bad_product", "'3\\t4' is no whole number up to 2147483647"),
        ("2013-02-01|1|2|3\r", "bad_product", "'3\\r' is no whole number up to 2147483647"),
        ("2013-02-01|1|2|2147483648", "bad_product", "'2147483648' is no whole number up to 2147483647"),
        ("2013-02-01|1|2|²", "bad_product", "'²' is no whole number up to 2147483647"),
        ("2013-02-01|1|2|3\xa04", "bad_product", "'3\\xa04' is no whole number up to 2147483647"),
    ],
)
def test_a_line_is_refused_by_its_rule_and_kept_whole(line: str, rule: str, detail: str) -> None:
    (row,) = refused_receipts(lines([GOOD, line])).to_pylist()
    assert (row["line_number"], row["line"], row["rule"], row["detail"]) == (2, line, rule, detail)
    assert (row["entity"], row["status"]) == ("transactions", "open")
    assert accepted_receipts(lines([line])).num_rows == 0


@pytest.mark.parametrize("day", ["1990-01-01", "2100-01-01", "2012-02-29"])
def test_the_ends_of_the_range_are_in_it(day: str) -> None:
    assert accepted_receipts(lines([f"{day}|1|2|3"]))["sold_on"].to_pylist() == [date.fromisoformat(day)]


def test_the_largest_ids_are_read() -> None:
    (row,) = accepted_receipts(lines(["2013-02-01|2147483647|9223372036854775807|2147483647"])).to_pylist()
    assert (row["store_id"], row["customer_id"], row["products"]) == (2**31 - 1, 2**63 - 1, [2**31 - 1])


def test_the_first_rule_that_applies_is_named() -> None:
    """Mend one field after the other: each rule shows when all before it are kept."""
    wrong = ["\uefff|2013", "a|b|c|d|e", "x|x|x| ", "0001-01-01|x|x| ", "2013-02-01|x|x| ", "2013-02-01|1|x| "]
    wrong += ["2013-02-01|1|2| ", "2013-02-01|1|2| x", "2013-02-01|1|2| 3"]
    rules = ["not_utf8", "wrong_field_count", "bad_date", "date_out_of_range", "bad_store", "bad_customer"]
    rules += ["no_products", "bad_product"]
    assert refused_receipts(lines(wrong))["rule"].to_pylist() == rules
    assert accepted_receipts(lines(wrong))["line_number"].to_pylist() == [9]


def test_details_of_endless_fields_are_short() -> None:
    (row,) = refused_receipts(lines([f"2013-02-01|1|2|{'9' * 10_000}"])).to_pylist()
    assert row["rule"] == "bad_product"
    assert len(row["detail"]) < 100
    assert len(row["line"]) > 10_000


def test_every_pair_of_near_misses_is_read_as_one_by_one() -> None:
    texts = [f"{day}|103|17|5 5" for day in DAYS]
    texts += [f"2013-02-01|{store}|{customer}|5 5" for store in NUMBERS for customer in NUMBERS]
    texts += [f"2013-02-01|{store}|17|{listed}" for store in NUMBERS for listed in LISTS]
    texts += [f"2013-02-01|103|17|{first} {then}" for first in NUMBERS for then in NUMBERS]
    accepted, refused = one_by_one(texts)
    assert in_order(accepted_receipts(lines(texts))) == accepted
    assert in_order(refused_receipts(lines(texts))) == refused
    assert len(accepted) > 400
    assert len(refused) > 1_000


@given(NEAR_MISSES)
@example([GOOD] * 3)
@settings(deadline=None, max_examples=200)
def test_columns_are_read_as_lines_are(texts: list[str]) -> None:
    accepted, refused = one_by_one(texts)
    assert in_order(accepted_receipts(lines(texts))) == accepted
    assert in_order(refused_receipts(lines(texts))) == refused


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))) | NEAR_MISSES)
@settings(deadline=None, max_examples=100)
def test_every_line_is_accepted_or_refused(texts: list[str]) -> None:
    accepted, refused = accepted_receipts(lines(texts)), refused_receipts(lines(texts))
    numbers = accepted["line_number"].to_pylist() + refused["line_number"].to_pylist()
    assert sorted(numbers) == list(range(1, len(texts) + 1))
    assert all(texts[row["line_number"] - 1] == row["line"] for row in refused.to_pylist())


@given(NEAR_MISSES)
@settings(deadline=None, max_examples=200)
def test_the_units_of_a_receipt_are_those_an_independent_reader_counts(texts: list[str]) -> None:
    for row in accepted_receipts(lines(texts)).to_pylist():
        assert row["units"] == len(row["products"]) == line_units(texts[row["line_number"] - 1])


def test_the_layout_of_memory_does_not_show() -> None:
    rows = lines([GOOD, "x", "2014-12-31|7|8|9  10", "2013-02-29|1|2|3", "2013-03-01|1|2|3 4 5", ""])
    for name, layout in layouts(rows).items():
        assert in_order(accepted_receipts(layout)) == in_order(accepted_receipts(rows)), name
        assert in_order(refused_receipts(layout)) == in_order(refused_receipts(rows)), name


def test_large_text_is_read_alike() -> None:
    rows = lines([GOOD, "x", "2014-12-31|7|8|9  10"])
    other = rows.set_column(2, "line", rows["line"].cast(pa.large_string()))
    assert in_order(accepted_receipts(other)) == in_order(accepted_receipts(rows))
    assert in_order(refused_receipts(other)) == in_order(refused_receipts(rows))


def test_a_month_is_the_beginning_of_its_day() -> None:
    read = accepted_receipts(lines([f"{year}-{month:02}-15|1|2|3" for year in (1999, 2013) for month in range(1, 13)]))
    assert pc.equal(read["month"], pc.strftime(read["sold_on"], "%Y-%m")).to_pylist() == [True] * 24
