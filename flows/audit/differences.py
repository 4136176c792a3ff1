"""What changed between two releases: tables by their keys, days, months and totals by their figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyarrow.dataset import Dataset

from lakehouse import catalog
from lakehouse.errors import StorageFailed
from lakehouse.releases.release import Release, Snapshot
from lakehouse.silver import sales_days
from lakehouse.storage.tables import READ_REMEDY
from lakehouse.table import Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIGURES = ("receipts", "units", "customers", "products", "stores")
PERIODS = ("sold_on", "month")
TOTALS = "gold.sales_totals"
PAIRED = "(select *, true as here from before) b full join (select *, true as here from after) a"


@dataclass(frozen=True)
class TableChange:
    """How a table's rows differ, told by its keys; `periods` are the days, or else the months, they are of."""

    table: str
    rows_before: int
    rows_after: int
    only_before: int
    only_after: int
    changed: int
    periods: list[str]


@dataclass(frozen=True)
class PeriodChange:
    """What was sold on a day (YYYY-MM-DD) or in a month (YYYY-MM), before and after; 0 where there was nothing."""

    period: str
    receipts_before: int
    receipts_after: int
    units_before: int
    units_after: int


@dataclass(frozen=True)
class FigureChange:
    """A figure of the sales totals."""

    figure: str
    before: int
    after: int
    by: int


@dataclass(frozen=True)
class ParameterChange:
    """A parameter, or the version of the code, that the releases were made with."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Differences:
    """All that differs between two releases, by their numbers; what is the same is left out."""

    before: int
    after: int
    made_with: list[ParameterChange]
    tables: list[TableChange]
    totals: list[FigureChange]
    months: list[PeriodChange]
    days: list[PeriodChange]


def differences(before: Snapshot, after: Snapshot) -> Differences:
    """Compare two releases; tables of equal version or digest are not read, one that a release lacks is empty there.

    Errors: StorageFailed.
    """
    names = [t for t in catalog.released_tables() if _may_differ(t, before.release, after.release)]
    import duckdb  # a module that keeps it is told of as a leak when the interpreter ends

    with duckdb.connect() as database:
        try:
            found = [_table_change(database, table, before, after) for table in names]
        except (duckdb.Error, OSError) as error:  # of files that are gone or damaged
            reason = " ".join(str(error).split())[:300]
            raise StorageFailed("read", before.storage.root, reason, READ_REMEDY) from error
        changed = [c for c in found if c.only_before or c.only_after or c.changed]
        touched = {c.table for c in changed}
        sold = sales_days.TABLE.qualified_name in touched
        if sold:
            _offer(database, sales_days.TABLE, before, after)
        return Differences(
            before.release.release_id,
            after.release.release_id,
            _changed_parameters(before.release, after.release),
            changed,
            _totals(before, after) if TOTALS in touched else [],
            _period_changes(database, "month") if sold else [],
            _period_changes(database, "sold_on") if sold else [],
        )


def _may_differ(table: Table, before: Release, after: Release) -> bool:
    name = table.qualified_name
    same_version = before.tables.get(name) == after.tables.get(name)
    same_digest = name in before.digests and before.digests[name] == after.digests.get(name)
    return not (same_version or same_digest)


def _offer(database: "DuckDBPyConnection", table: Table, before: Snapshot, after: Snapshot) -> set[str]:
    """Make a table's two versions known as `before` and `after`; give the columns they share."""
    opened = {"before": _dataset(before, table), "after": _dataset(after, table)}
    for name, rows in opened.items():
        database.register(name, rows)
    return set(opened["before"].schema.names) & set(opened["after"].schema.names)


def _dataset(snapshot: Snapshot, table: Table) -> Dataset:
    return snapshot.storage.dataset(table, snapshot.release.tables.get(table.qualified_name, 0))  # 0 is empty


def _table_change(database: "DuckDBPyConnection", table: Table, before: Snapshot, after: Snapshot) -> TableChange:
    shared = _offer(database, table, before, after)
    same_key = " and ".join(f'b."{key}" = a."{key}"' for key in table.keys) if shared >= set(table.keys) else "false"
    others = sorted(shared - {*table.keys, "run_id"})  # equal rows of two runs are equal
    differ = " or ".join(["b.here is null", "a.here is null", *(f'b."{c}" is distinct from a."{c}"' for c in others)])
    period = next((name for name in PERIODS if name in shared), None)
    listed = ", ".join(
        f"list(distinct {side}.{period}::varchar) filter ({differ})" if period else "null" for side in "ba"
    )
    counts = "count(b.here), count(a.here), count(*) filter (a.here is null), count(*) filter (b.here is null)"
    row = database.execute(
        f"select {counts}, count(*) filter ({differ}), {listed} from {PAIRED} on {same_key}"
    ).fetchall()[0]
    rows_before, rows_after, only_before, only_after, different, *listed_periods = row
    periods = {p for listed in listed_periods for p in listed or [] if p is not None}
    changed = different - only_before - only_after
    name = table.qualified_name
    return TableChange(name, rows_before, rows_after, only_before, only_after, changed, sorted(periods))


def _period_changes(database: "DuckDBPyConnection", period: str) -> list[PeriodChange]:
    sums = f"select {period}::varchar as period, sum(receipts)::bigint as receipts, sum(units)::bigint as units"
    rows = database.execute(
        f"with b as ({sums} from before group by all), a as ({sums} from after group by all) "
        "select period, coalesce(b.receipts, 0), coalesce(a.receipts, 0), coalesce(b.units, 0), coalesce(a.units, 0) "
        "from b full join a using (period) "
        "where b.receipts is distinct from a.receipts or b.units is distinct from a.units order by period"
    ).fetchall()
    return [PeriodChange(*row) for row in rows]


def _totals(before: Snapshot, after: Snapshot) -> list[FigureChange]:
    was, now = _only_row(before), _only_row(after)
    pairs = {figure: (was.get(figure, 0), now.get(figure, 0)) for figure in FIGURES}
    return [FigureChange(figure, a, b, b - a) for figure, (a, b) in pairs.items() if a != b]


def _only_row(snapshot: Snapshot) -> dict[str, int]:
    rows: list[dict[str, int]] = _dataset(snapshot, catalog.entry(TOTALS).table).to_table().to_pylist()
    return rows[0] if rows else {}


def _changed_parameters(before: Release, after: Release) -> list[ParameterChange]:
    was = before.parameters | {"code_version": before.code_version}
    now = after.parameters | {"code_version": after.code_version}
    return [ParameterChange(n, was.get(n), now.get(n)) for n in sorted({*was, *now}) if was.get(n) != now.get(n)]
