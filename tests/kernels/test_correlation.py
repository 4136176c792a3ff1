"""Correlations from exact sums."""

from itertools import combinations_with_replacement

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.correlation import VARIABLES, correlations

Customers = list[tuple[int, ...]]

SMALL = st.integers(0, 30)
CUSTOMERS = st.lists(st.tuples(*[SMALL] * 5), min_size=1, max_size=25)


def sums(customers: Customers) -> pa.Table:
    values = {name: [row[k] for row in customers] for k, name in enumerate(VARIABLES)}
    row: dict[str, object] = {"customers": len(customers)}
    row |= {name: str(sum(column)) if customers else None for name, column in values.items()}
    for a, b in combinations_with_replacement(VARIABLES, 2):
        total = sum(x * y for x, y in zip(values[a], values[b], strict=True))
        row[f"{a}*{b}"] = str(total) if customers else None
    return pa.Table.from_pylist([row])


def found(customers: Customers) -> dict[tuple[str, str], float | None]:
    return {(row["variable"], row["other"]): row["correlation"] for row in correlations(sums(customers)).to_pylist()}


def test_every_ordered_pair_is_a_row() -> None:
    made = correlations(sums([(1, 2, 3, 4, 5), (2, 1, 4, 3, 9)]))
    assert made.schema.types == [pa.string(), pa.string(), pa.float64()]
    pairs = list(zip(made["variable"].to_pylist(), made["other"].to_pylist(), strict=True))
    assert pairs == [(a, b) for a in VARIABLES for b in VARIABLES]


@given(CUSTOMERS)
@settings(deadline=None, max_examples=80)
def test_correlations_are_those_of_numpy(customers: Customers) -> None:
    made = found(customers)
    columns = np.array(customers, np.float64).T
    for i, a in enumerate(VARIABLES):
        for j, b in enumerate(VARIABLES):
            if np.ptp(columns[i]) == 0 or np.ptp(columns[j]) == 0:
                assert made[a, b] is None
            else:
                assert made[a, b] == pytest.approx(np.corrcoef(columns[i], columns[j])[0, 1], abs=1e-12)
                assert made[a, b] == made[b, a]


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=5), st.integers(1, 9))
@settings(deadline=None)
def test_a_correlation_is_never_beyond_one(numbers: list[int], factor: int) -> None:
    customers = [(n, n * factor, -n, -n * factor, n // 3) for n in numbers]
    assert all(value is None or -1 <= value <= 1 for value in found(customers).values())


def test_what_varies_goes_with_itself_exactly() -> None:
    made = found([(n * n, 3 * n + 1, -n, n % 7, 10**6 * n) for n in range(1, 40)])
    assert [made[name, name] for name in VARIABLES] == [1.0] * 5
    assert made["total_products", "unique_stores"] == 1.0
    assert made["total_products", "diversity"] == -1.0


def test_sums_beyond_what_a_float_counts_are_exact() -> None:
    """A small difference on top of huge equal values is all there is: floats would lose it."""
    huge = 10**15
    made = found([(huge, huge + 1, 1, 0, 0), (huge + 1, huge, 1, 0, 1), (huge + 2, huge + 3, 1, 0, 2)])
    small = found([(0, 1, 1, 0, 0), (1, 0, 1, 0, 1), (2, 3, 1, 0, 2)])
    assert made == small
    assert made["frequency", "unique_stores"] == 1.0


def test_a_variable_that_does_not_vary_has_no_correlation() -> None:
    made = found([(1, 7, 1, 1, 1), (2, 7, 5, 3, 1)])
    assert made["frequency", "total_products"] is None
    assert made["total_products", "total_products"] is None
    assert made["frequency", "diversity"] == 1.0


def test_one_customer_shows_no_correlation() -> None:
    assert set(found([(1, 2, 3, 4, 5)]).values()) == {None}


def test_no_customers_give_no_rows() -> None:
    made = correlations(sums([]))
    assert made.num_rows == 0
    assert made.schema.types == [pa.string(), pa.string(), pa.float64()]
    assert correlations(sums([]).slice(0, 0)).num_rows == 0
