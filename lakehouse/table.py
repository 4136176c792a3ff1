"""A table as a value: what it holds, how it lands, what must be true of it. Validated when made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import pyarrow as pa


class Layer(StrEnum):
    """The four layers; the value is the folder under the root."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    OPS = "ops"


class Severity(StrEnum):
    """What a broken check does: a critical one blocks the release, a warning is told."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Type:
    """A column's type, in Spark's SQL and in Arrow."""

    sql: str
    arrow: pa.DataType


BOOLEAN = Type("BOOLEAN", pa.bool_())
INT = Type("INT", pa.int32())
BIGINT = Type("BIGINT", pa.int64())
DOUBLE = Type("DOUBLE", pa.float64())
STRING = Type("STRING", pa.string())
DATE = Type("DATE", pa.date32())
TIMESTAMP = Type("TIMESTAMP", pa.timestamp("us", "UTC"))
INTS = Type("ARRAY<INT>", pa.list_(pa.int32()))
TEXT_LIST = Type("ARRAY<STRING>", pa.list_(pa.string()))
COUNTS = Type("MAP<STRING, BIGINT>", pa.map_(pa.string(), pa.int64()))
TEXTS = Type("MAP<STRING, STRING>", pa.map_(pa.string(), pa.string()))


@dataclass(frozen=True)
class Column:
    """One column; `digits` is how many decimals a DOUBLE is written with."""

    name: str
    type: Type
    doc: str
    nullable: bool = False
    digits: int = 6


@dataclass(frozen=True)
class Replace:
    """The whole table is written anew."""


@dataclass(frozen=True)
class ReplaceMonths:
    """The touched months are written anew; the table has a column `month` and is partitioned by it."""


@dataclass(frozen=True)
class ReplaceSources:
    """The rows of the touched sources are written anew; the table has a column `source_id`."""


@dataclass(frozen=True)
class Append:
    """Rows are only added: a log."""


Write = Replace | ReplaceMonths | ReplaceSources | Append


@dataclass(frozen=True)
class Expression:
    """A condition in SQL that every row fulfils."""

    sql: str
    why: str
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True)
class Between:
    """Every value of a column lies in a closed interval; None leaves a side open."""

    column: str
    low: float | None
    high: float | None
    why: str
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True)
class OneOf:
    """Every value of a column is one of a closed set."""

    column: str
    values: tuple[str | int, ...]
    why: str
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True)
class RowCount:
    """The table has at least `low` and at most `high` rows; None leaves a side open."""

    low: int | None
    high: int | None
    why: str
    severity: Severity = Severity.CRITICAL


Check = Expression | Between | OneOf | RowCount


@dataclass(frozen=True)
class Table:
    """Everything that is known of a table before a row is in it.

    `doc` begins with the grain ("One row per ..."). `inputs` maps the parameters of the module's `build` to
    tables. `group` is what it is built, published and fails with: a silver table has one only when no other group is
    made of it, and when it can be made of its inputs alone, without earlier rows of its own. `grows_with` names what
    makes it large ("receipts", "customers"): on Spark, such a frame is committed by Spark. `partition` is a column
    whose values are folders.
    """

    layer: Layer
    name: str
    doc: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    write: Write = field(default_factory=Replace)
    group: str | None = None
    inputs: Mapping[str, "Table"] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    partition: str | None = None
    grows_with: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", MappingProxyType(dict(self.inputs)))
        for problem in _problems(self):
            raise ValueError(f"{self.qualified_name}: {problem}")

    @property
    def qualified_name(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def is_log(self) -> bool:
        """Say whether it outlives a failed run instead of being part of releases."""
        return isinstance(self.write, Append)

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type.arrow, c.nullable) for c in self.columns])

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


def _problems(table: Table) -> list[str]:
    names = [c.name for c in table.columns]
    nullable = {c.name for c in table.columns if c.nullable}
    needs = {ReplaceMonths: "month", ReplaceSources: "source_id"}.get(type(table.write))
    named = {"partition": (table.partition,), "key": table.keys, "write": (needs,)}
    named |= {"check": tuple(c.column for c in table.checks if isinstance(c, Between | OneOf))}
    found = [f"{kind} {n!r} is no column" for kind, used in named.items() for n in used if n and n not in names]
    found += [f"key {k!r} is nullable" for k in table.keys if k in nullable]
    if len(set(names)) < len(names):
        found.append("a column is declared twice")
    if not table.doc.startswith("One row"):
        found.append('doc must begin with the grain, "One row per ..."')
    if table.layer is Layer.GOLD and table.group is None:
        found.append("a gold table has a group")
    if table.layer not in (Layer.GOLD, Layer.SILVER) and table.group is not None:
        found.append("only gold and silver tables have a group")
    if isinstance(table.write, ReplaceMonths) and table.partition != "month":
        found.append("ReplaceMonths needs partition='month'")
    if not isinstance(table.write, Append) and not table.keys:
        found.append("keys are missing")
    return found
