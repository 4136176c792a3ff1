"""Pearson's correlation from exact sums of whole numbers."""

from math import sqrt

import pyarrow as pa

VARIABLES = ("frequency", "total_products", "diversity", "avg_quantity", "unique_stores")
SCALE = 10_000  # avg_quantity counts in ten-thousandths


def correlations(sums: pa.Table) -> pa.Table:
    """Correlate every pair of variables.

    `sums` is one row: `customers`, a sum per variable `v` and a sum of products per pair `v*w`, as decimal text.
    Gives variable, other, correlation (None where one does not vary).
    """
    row = {name: int(value or 0) for name, value in sums.to_pylist()[0].items()} if sums.num_rows else {}
    found = [(a, b, _pearson(row, a, b)) for a in VARIABLES for b in VARIABLES if row.get("customers")]
    names = ("variable", "other", "correlation")
    types = (pa.string(), pa.string(), pa.float64())
    return pa.table({n: pa.array([f[k] for f in found], t) for k, (n, t) in enumerate(zip(names, types, strict=True))})


def _pearson(sums: dict[str, int], a: str, b: str) -> float | None:
    spread = _covariance(sums, a, a) * _covariance(sums, b, b)
    return max(-1.0, min(1.0, _covariance(sums, a, b) / sqrt(spread))) if spread else None  # the root is rounded


def _covariance(sums: dict[str, int], a: str, b: str) -> int:
    product = sums[f"{a}*{b}"] if f"{a}*{b}" in sums else sums[f"{b}*{a}"]
    return sums["customers"] * product - sums[a] * sums[b]
