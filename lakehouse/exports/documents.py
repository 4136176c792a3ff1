"""What all documents share: the snapshot they are made from, their types, the choice of the largest rows."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict

from lakehouse.kernels.product_sets import matrix_of, row_numbers


class Release(Protocol):
    """What documents say of the release they are made from."""

    @property
    def release_id(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def verified(self) -> bool: ...
    @property
    def groups(self) -> Mapping[str, int]: ...
    @property
    def parameters(self) -> Mapping[str, str]: ...


class Snapshot(Protocol):
    """A release opened for reading."""

    @property
    def release(self) -> Release: ...
    def rows(self, name: str, columns: list[str] | None = None, filters: pc.Expression | None = None) -> pa.Table: ...


class Part(BaseModel):
    """A typed piece of a document: nothing undeclared, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Part):
    """A whole file."""


Maker = Callable[[Snapshot], Document]
Figure = Annotated[float, AfterValidator(lambda value: round(value, 6) + 0.0)]  # + 0.0: no -0.0
Share = Annotated[float, AfterValidator(lambda value: round(value, 9) + 0.0)]  # as many digits as the tables of rules


def largest(rows: pa.Table, value: str, key: str, most: int) -> list[dict[str, Any]]:
    """Give the `most` rows of largest value; ties by ascending key."""
    order = [(value, "descending"), (key, "ascending")]
    rows = rows.combine_chunks()
    chosen: list[dict[str, Any]] = rows.take(pc.select_k_unstable(rows, most, sort_keys=order)).to_pylist()
    return chosen


def leading(rows: pa.Table, values: Sequence[str], ties: Sequence[str], most: int) -> list[dict[str, Any]]:
    """Give the `most` rows of largest values, in order; ties by ascending columns, which may be lists of products.

    Millions of rows may tie: only those that are given become Python's.
    """
    if rows.num_rows > most:
        last = pc.select_k_unstable(rows, most, sort_keys=[(values[0], "descending")])
        rows = rows.filter(pc.field(values[0]) >= pc.min(rows[values[0]].take(last)))
    keys = [-rows[name].to_numpy() for name in values] + [_rank(rows[name]) for name in ties]
    chosen: list[dict[str, Any]] = rows.take(pa.array(np.lexsort(keys[::-1])[:most])).to_pylist()
    return chosen


def _rank(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    is_list = pa.types.is_list(column.type)
    return row_numbers(matrix_of(column).rows) if is_list else np.asarray(column.to_numpy())


def category_names(snapshot: Snapshot) -> dict[int, str]:
    """Give the name of every category that has one."""
    rows = snapshot.rows("silver.categories", ["category_id", "category_name"])
    return dict(zip(rows["category_id"].to_pylist(), rows["category_name"].to_pylist(), strict=True))
