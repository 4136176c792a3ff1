"""The digest: equal for equal rows, whatever their layout; different for any other rows."""

import warnings
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.digest import digest
from tests.layouts import layouts

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "number": pa.int32(),
        "share": pa.float64(),
        "name": pa.string(),
        "day": pa.date32(),
        "is_new": pa.bool_(),
        "items": pa.list_(pa.int32()),
        "notes": pa.list_(pa.string()),
    }
)
Row = dict[str, Any]
ROWS: list[Row] = [
    dict(zip(SCHEMA.names, values, strict=True))
    for values in (
        (1, 1, 0.5, "a", date(2013, 2, 1), True, [1, 2], ["x", "y"]),
        (2, -7, -0.25, "", date(1969, 12, 31), False, [], []),
        (-(2**63), None, None, None, None, None, None, None),
        (2**63 - 1, 0, 0.0, "Ñandú", date(2100, 1, 1), True, [0], [""]),
        (2**63 - 1, 0, 0.0, "Ñandú", date(2100, 1, 1), True, [0, 0], ["", ""]),
    )
]
OTHERS: dict[str, list[Any]] = {
    "id": [0, 3, -1],
    "number": [0, 2, 1000, None],
    "share": [0.0, 0.500001, -0.5, 1e9, None],
    "name": ["", "b", "A", "a ", None],
    "day": [date(1970, 1, 1), date(2013, 2, 2), None],
    "is_new": [False, None],
    "items": [[], [2, 1], [1], [1, 2, 2], [12], [1, None], [None, 1], None],
    "notes": [[], ["xy"], ["y", "x"], ["x", "y", ""], ["x", None], None],
}
VALUES = {
    "id": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2),
    "number": st.none() | st.integers(-2, 2),
    "share": st.none() | st.sampled_from([0.0, 0.5, 1.0, -1.0]),
    "name": st.none() | st.sampled_from(["", "a", "b", "ab"]),
    "day": st.none() | st.sampled_from([date(1970, 1, 1), date(1970, 1, 2)]),
    "is_new": st.none() | st.booleans(),
    "items": st.none() | st.lists(st.integers(0, 2), max_size=3),
    "notes": st.none() | st.lists(st.sampled_from(["", "a", "b"]), max_size=3),
}
TABLES = st.lists(st.fixed_dictionaries(VALUES), max_size=8)


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def digested(rows: pa.Table, **digits: int) -> str:
    return digest(rows.to_batches(), digits)


def of_lists(*lists: list[int] | None) -> str:
    return digested(pa.table({"items": pa.array(lists, pa.list_(pa.int32()))}))


def of_floats(*floats: float | None, digits: int = 6) -> str:
    return digested(pa.table({"share": pa.array(floats, pa.float64())}), share=digits)


def test_the_digest_of_known_rows_is_known() -> None:
    """A change here changes what releases are compared by: no engine, machine or version may cause it."""
    assert digested(table(ROWS)) == "5-05b16c276945eac4a05208c30c99f5aa"
    assert digested(table([])) == "0-" + "0" * 32


@given(TABLES, st.randoms(use_true_random=False), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_neither_order_nor_batches_nor_chunks_show(rows: list[Row], random: Any, size: int) -> None:
    expected = digested(table(rows))
    shuffled = random.sample(rows, len(rows))
    assert digested(table(shuffled)) == expected
    assert digest(table(shuffled).to_batches(max_chunksize=size), {}) == expected
    assert digest((table([row]).to_batches()[0] for row in shuffled), {}) == expected
    for name, layout in layouts(table(shuffled)).items():
        assert digested(layout) == expected, name


def test_slices_have_the_digest_of_their_copies() -> None:
    whole = table(ROWS * 3).combine_chunks()
    for start in range(len(ROWS) * 3):
        for length in range(len(ROWS) * 3 - start):
            rows = whole.slice(start, length)
            assert digested(rows) == digested(table(rows.to_pylist())), (start, length)


@pytest.mark.parametrize("column", SCHEMA.names)
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_every_change_of_a_single_cell_shows(column: str, number: int) -> None:
    found = {digested(table(ROWS)): "as it is"}
    values = [v for v in OTHERS[column] if v != ROWS[number][column] or type(v) is not type(ROWS[number][column])]
    for value in values:
        changed = digested(table([row | {column: value} if n == number else row for n, row in enumerate(ROWS)]))
        assert changed not in found, f"{value!r} looks {found[changed]!r}"
        found[changed] = value


@given(TABLES, TABLES)
@settings(deadline=None, max_examples=100)
def test_two_tables_have_one_digest_just_when_they_hold_the_same_rows(these: list[Row], those: list[Row]) -> None:
    counted, others = (Counter(repr(row) for row in table(rows).to_pylist()) for rows in (these, those))
    assert (digested(table(these)) == digested(table(those))) == (counted == others)


def test_a_row_twice_is_not_the_row_once() -> None:
    counted = [digested(table(ROWS[:1] * times)) for times in (1, 2, 3, 4)]
    assert len(set(counted)) == 4


def test_two_pairs_of_equal_rows_do_not_cancel_out() -> None:
    a, b = ROWS[0], ROWS[1]
    assert digested(table([a, a])) != digested(table([b, b]))
    assert digested(table([a, a, b])) != digested(table([a, b, b]))


def test_values_that_change_columns_show() -> None:
    rows = pa.table({"a": [1, 2], "b": [3, 4]})
    assert digested(rows) != digested(pa.table({"a": [3, 4], "b": [1, 2]}))
    assert digested(rows) != digested(pa.table({"b": [1, 2], "a": [3, 4]}))
    assert digested(pa.table({"a": [5], "b": [5]})) != digested(pa.table({"a": [6], "b": [6]}))


def test_values_that_change_rows_show() -> None:
    assert digested(pa.table({"a": [1, 2], "b": [3, 4]})) != digested(pa.table({"a": [1, 2], "b": [4, 3]}))


def test_the_names_of_columns_show() -> None:
    assert digested(pa.table({"a": [1]})) != digested(pa.table({"b": [1]}))


def test_null_is_neither_zero_nor_empty_nor_false() -> None:
    for kind, nothing in ((pa.int64(), 0), (pa.float64(), 0.0), (pa.string(), ""), (pa.bool_(), False)):
        null, zero = (digested(pa.table({"a": pa.array([value], kind)})) for value in (None, nothing))
        assert null != zero, kind
    assert len({of_lists(None), of_lists([]), of_lists([None]), of_lists([0])}) == 4  # type: ignore[list-item]


def test_the_places_of_nulls_show() -> None:
    assert digested(pa.table({"a": [1, None], "b": [None, 1]})) != digested(pa.table({"a": [1, None], "b": [1, None]}))


def test_the_ends_of_lists_show() -> None:
    assert of_lists([1], [2, 3]) != of_lists([1, 2], [3])
    assert of_lists([1, 2, 3], []) != of_lists([1, 2], [3])
    assert of_lists([], []) != of_lists([])


def test_the_order_within_a_list_shows() -> None:
    assert of_lists([1, 2]) != of_lists([2, 1])
    assert of_lists([1, 1, 2]) != of_lists([1, 2, 2])


def test_lists_of_text_are_told_apart() -> None:
    def of(*words: str) -> str:
        return digested(pa.table({"notes": pa.array([list(words)], pa.list_(pa.string()))}))

    assert len({of("ab", "c"), of("a", "bc"), of("abc"), of("abc", ""), of("", "abc"), of()}) == 6


def test_noise_below_the_digits_does_not_show() -> None:
    assert of_floats(0.1 + 0.2) == of_floats(0.3)
    assert of_floats(1 / 3, digits=4) == of_floats(0.3333, digits=4)
    assert of_floats(12345.6789, digits=4) == of_floats(12345.67890000001, digits=4)
    assert of_floats(-0.0) == of_floats(0.0) == of_floats(-1e-9)


def test_a_step_of_the_last_digit_shows() -> None:
    assert of_floats(0.300001) != of_floats(0.3)
    assert of_floats(0.3001, digits=4) != of_floats(0.3, digits=4)
    assert of_floats(-0.000001) != of_floats(0.0)


@given(st.integers(-(10**9), 10**9), st.floats(-0.4, 0.4))
@settings(deadline=None)
def test_a_float_is_the_nearest_multiple_of_its_last_digit(whole: int, part: float) -> None:
    assert of_floats((whole + part) / 10**4, digits=4) == of_floats(whole / 10**4, digits=4)


def test_floats_no_whole_number_holds_are_told_apart_without_a_warning() -> None:
    values = [float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e13, 9.3e12, 0.0, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len({of_floats(value) for value in values}) == len(values)


@pytest.mark.parametrize("column", ["name", "items", "notes"])
def test_large_types_are_no_other_values(column: str) -> None:
    kinds = {"name": pa.large_string(), "items": pa.large_list(pa.int32()), "notes": pa.large_list(pa.large_string())}
    rows = table(ROWS)
    other = rows.set_column(rows.schema.get_field_index(column), column, rows[column].cast(kinds[column]))
    assert digested(other) == digested(rows)


def test_dictionaries_are_no_other_values() -> None:
    rows = table(ROWS * 2)
    other = rows.set_column(3, "name", rows["name"].dictionary_encode())
    assert digested(other) == digested(rows)


def test_a_delta_table_gives_the_digest_of_its_rows(tmp_path: Path) -> None:
    """Read as it is for a release, partitioned and in several files."""
    rows = table([row | {"name": row["name"] or "none"} for row in ROWS * 2])
    write_deltalake(str(tmp_path), rows.slice(0, 4), partition_by=["name"])
    write_deltalake(str(tmp_path), rows.slice(4), mode="append")
    read = DeltaTable(str(tmp_path)).to_pyarrow_dataset()
    assert digest(read.to_batches(columns=SCHEMA.names), {}) == digested(rows)


def test_what_has_no_digest_is_named() -> None:
    with pytest.raises(TypeError, match="no digest of timestamp"):
        digested(pa.table({"a": pa.array([0], pa.timestamp("us"))}))
