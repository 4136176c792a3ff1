"""Categories and product categories from the lines of the reference files."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.reference_rules import (
    HEADER,
    accepted_categories,
    accepted_product_categories,
    refused_categories,
    refused_product_categories,
    without_header,
)
from tests.layouts import layouts


def lines(texts: list[str], first: int = 1) -> pa.Table:
    return pa.table(
        {
            "source_id": pa.array([3] * len(texts), pa.int64()),
            "line_number": pa.array(range(first, first + len(texts)), pa.int32()),
            "line": pa.array(texts, pa.string()),
        }
    )


def names(texts: list[str]) -> list[tuple[int, str]]:
    return [(row["category_id"], row["category_name"]) for row in accepted_categories(lines(texts)).to_pylist()]


def links(texts: list[str]) -> list[tuple[int, int, bool, int]]:
    return [tuple(row.values()) for row in accepted_product_categories(lines(texts)).to_pylist()]


def refusals(refused: pa.Table) -> list[tuple[int, str]]:
    return list(zip(refused["line_number"].to_pylist(), refused["rule"].to_pylist(), strict=True))


def test_a_category_has_a_number_and_a_name_with_commas() -> None:
    read = names(["6|VEGETABLES, LEAF, FRESH", "17|Ñandú & Co. "])
    assert read == [(6, "VEGETABLES, LEAF, FRESH"), (17, "Ñandú & Co. ")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("1|\uefe9", "not_utf8"),
        ("", "wrong_field_count"),
        ("FRUIT", "wrong_field_count"),
        ("1|", "wrong_field_count"),
        ("1|  ", "wrong_field_count"),
        ("1|A|B", "wrong_field_count"),
        ("|FRUIT", "bad_category"),
        ("0|FRUIT", "bad_category"),
        ("-1|FRUIT", "bad_category"),
        ("1.5|FRUIT", "bad_category"),
        ("٣|FRUIT", "bad_category"),
        ("2147483648|FRUIT", "bad_category"),
        ("3|BREAD\r", "bad_category"),
    ],
)
def test_a_line_that_is_no_category_is_refused_whole(line: str, rule: str) -> None:
    (row,) = refused_categories(lines(["1|FRUIT", line])).to_pylist()
    assert (row["line_number"], row["line"], row["rule"], row["entity"]) == (2, line, rule, "categories")
    assert names(["1|FRUIT", line]) == [(1, "FRUIT")]


def test_a_category_delivered_twice_stays_two_rows_for_the_suite_to_find() -> None:
    assert names(["1|FRUIT", "1|FRUITS"]) == [(1, "FRUIT"), (1, "FRUITS")]


def test_pairs_are_there_once_with_the_lines_that_say_so() -> None:
    assert links([HEADER, "7|5", "4|9", "7|5", "7|5"]) == [(4, 9, True, 1), (7, 5, True, 3)]


def test_the_smallest_category_of_a_product_is_its_primary_one() -> None:
    assert links([HEADER, "7|20", "7|3", "7|20", "8|20"]) == [(7, 3, True, 1), (7, 20, False, 2), (8, 20, True, 1)]


def test_numbers_are_ordered_as_numbers() -> None:
    assert [pair[:2] for pair in links(["10|2", "9|10", "9|9"])] == [(9, 9), (9, 10), (10, 2)]


def test_the_header_is_no_row_and_no_refusal() -> None:
    assert links([HEADER]) == []
    assert refusals(refused_product_categories(lines([HEADER, "7|5"]))) == []


def test_a_file_without_header_loses_no_row() -> None:
    assert links(["7|5"]) == [(7, 5, True, 1)]


@pytest.mark.parametrize("texts", [["7|5", HEADER], [HEADER, HEADER]])
def test_a_header_is_one_only_in_the_first_line(texts: list[str]) -> None:
    assert refusals(refused_product_categories(lines(texts))) == [(2, "bad_product")]


def test_a_header_is_one_only_where_line_1_is() -> None:
    assert refusals(refused_product_categories(lines([HEADER], first=5))) == [(5, "bad_product")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("7|\uefff5", "not_utf8"),
        ("", "wrong_field_count"),
        ("7", "wrong_field_count"),
        ("7|5|3", "wrong_field_count"),
        ("x|5", "bad_product"),
        ("|5", "bad_product"),
        ("2147483648|5", "bad_product"),
        ("x|x", "bad_product"),
        ("7|0", "bad_category"),
        ("7|", "bad_category"),
        ("7|5 ", "bad_category"),
        ("7|2147483648", "bad_category"),
    ],
)
def test_a_line_that_is_no_pair_is_refused_whole(line: str, rule: str) -> None:
    (row,) = refused_product_categories(lines([HEADER, line])).to_pylist()
    assert (row["line_number"], row["line"], row["rule"], row["entity"]) == (2, line, rule, "product_categories")
    assert links([HEADER, line]) == []


def test_product_0_and_the_largest_numbers_are_read() -> None:
    assert [pair[:2] for pair in links(["0|1", "2147483647|2147483647"])] == [(0, 1), (2**31 - 1, 2**31 - 1)]


PAIR_LINES = st.lists(st.sampled_from([HEADER, "7|5", "7|3", "07|3", "8|3", "x|3", "7|0", ""]), max_size=15)


@given(PAIR_LINES)
@settings(deadline=None)
def test_every_line_but_the_header_is_kept_or_refused(texts: list[str]) -> None:
    kept = sum(accepted_product_categories(lines(texts))["lines"].to_pylist())
    assert kept + refused_product_categories(lines(texts)).num_rows == len(texts) - (texts[:1] == [HEADER])


@given(PAIR_LINES)
@settings(deadline=None)
def test_every_product_has_one_primary_category(texts: list[str]) -> None:
    pairs = links(texts)
    for product in {pair[0] for pair in pairs}:
        ids = [category for p, category, _, _ in pairs if p == product]
        assert [category for p, category, is_primary, _ in pairs if p == product and is_primary] == [min(ids)]


@given(st.lists(st.sampled_from(["1|A", "2|B, C", "|", "x", "3|A|B", "\uefff"]), max_size=10))
@settings(deadline=None)
def test_every_line_is_a_category_or_refused(texts: list[str]) -> None:
    assert len(names(texts)) + refused_categories(lines(texts)).num_rows == len(texts)


def test_the_layout_of_memory_does_not_show() -> None:
    pairs = lines([HEADER, "7|5", "x|1", "7|5", "7|4"])
    categories = lines(["1|A", "x", "2|B, C"])

    def read(rows: pa.Table, others: pa.Table) -> list[list[dict[str, Any]]]:
        tables = (
            accepted_product_categories(rows),
            refused_product_categories(rows),
            without_header(rows),
            accepted_categories(others),
            refused_categories(others),
        )
        return [table.to_pylist() for table in tables]

    for name, layout in layouts(pairs).items():
        assert read(layout, layouts(categories)[name]) == read(pairs, categories), name


def test_nothing_gives_typed_nothing() -> None:
    nothing = accepted_product_categories(lines([]))
    assert nothing.schema.types == [pa.int32(), pa.int32(), pa.bool_(), pa.int32()]
    assert accepted_categories(lines([])).schema.types == [pa.int32(), pa.string()]
    assert refused_categories(lines([])).num_rows == 0
