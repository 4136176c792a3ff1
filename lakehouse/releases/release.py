"""Releases: begin on the last one, commit a new one, resolve, roll back."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from lakehouse import catalog
from lakehouse.errors import ForeignWrite, NotFound, NothingPublished, NotKept
from lakehouse.ops import releases
from lakehouse.releases.lease import Lease
from lakehouse.releases.pins import read_pins
from lakehouse.storage.tables import Storage
from lakehouse.table import Table
from lakehouse.version import code_version


@dataclass(frozen=True)
class Release:
    """A published row: which version of every table readers see, and where it comes from."""

    release_id: int
    parent: int | None
    run_id: str
    run_key: str
    created_at: datetime
    published_at: datetime
    tables: dict[str, int]
    groups: dict[str, int]
    inputs_hash: str
    digests: dict[str, str]
    parameters: dict[str, str]
    code_version: str
    engine: str
    verified: bool

    @property
    def is_of_this_code(self) -> bool:
        """Say whether this code made it; what other code made may differ for equal sources."""
        return self.code_version == code_version()

    @property
    def known_tables(self) -> list[Table]:
        """Give its tables, in the catalogue's order, but for those this code has no more."""
        return [table for table in catalog.released_tables() if table.qualified_name in self.tables]


@dataclass(frozen=True)
class Base:
    """What a run stands on: the last release, if any, the lease it holds, and the versions to read."""

    release: Release | None
    lease: Lease
    versions: dict[str, int]


@dataclass(frozen=True)
class Snapshot:
    """A release opened for reading: the only way to its tables."""

    storage: Storage
    release: Release

    def dataset(self, name: str) -> pads.Dataset:
        """Open a table by its qualified name; errors: NotFound, StorageFailed."""
        return self.storage.dataset(*self._named(name))

    def rows(self, name: str, columns: list[str] | None = None, filters: pc.Expression | None = None) -> pa.Table:
        """Read a table by its qualified name; errors: NotFound, StorageFailed."""
        return self.storage.rows(*self._named(name), columns, filters)

    def _named(self, name: str) -> tuple[Table, int]:
        if name not in self.release.tables:
            raise NotFound("table in the release", name, sorted(self.release.tables))
        return catalog.entry(name).table, self.release.tables[name]


def by_group(opened: Snapshot) -> dict[str, Snapshot]:
    """Open, for every group of a release, the one that made it: of a group that failed, an earlier one.

    The tables of the group are the same in both; others that its documents tell of may have changed since.
    """
    if set(opened.release.groups.values()) == {opened.release.release_id}:
        return dict.fromkeys(opened.release.groups, opened)
    expired = read_pins(opened.storage).expired
    left = {one.release_id: one for one in history(opened.storage) if one.release_id not in expired}
    made = {group: left.get(number, opened.release) for group, number in opened.release.groups.items()}
    return {group: Snapshot(opened.storage, maker) for group, maker in made.items()}


def history(storage: Storage) -> list[Release]:
    """Give every release, oldest first."""
    version = storage.version(releases.TABLE)
    return [] if version is None else _read(storage, version)


def newest(storage: Storage) -> Release | None:
    """Give the newest release, reading no other; None where there is none."""
    version = storage.version(releases.TABLE)
    if version is None:
        return None
    last = pc.max(storage.rows(releases.TABLE, version, ["release_id"])["release_id"]).as_py()
    return None if last is None else _read(storage, version, pc.field("release_id") == last)[0]


def latest(storage: Storage) -> Release:
    """Give the newest release; errors: NothingPublished."""
    published = newest(storage)
    if published is None:
        raise NothingPublished(storage.root)
    return published


def _read(storage: Storage, version: int, wanted: pc.Expression | None = None) -> list[Release]:
    rows = storage.rows(releases.TABLE, version, filters=wanted).sort_by("release_id")
    found = rows.to_pylist(maps_as_pydicts="strict")
    return [Release(**row | {"groups": dict(sorted(row["groups"].items()))}) for row in found]


def at(storage: Storage, release_id: int) -> Release:
    """Give a release by its number; errors: NotFound, NotKept."""
    published = history(storage)
    for release in published:
        if release.release_id == release_id:
            require_kept(storage, release_id)
            return release
    raise NotFound("release", str(release_id), [str(r.release_id) for r in published])


def require_kept(storage: Storage, release_id: int) -> None:
    """See that a release can still be read; errors: NotKept naming those that can."""
    expired = read_pins(storage).expired
    if release_id in expired:
        raise NotKept(release_id, [r.release_id for r in history(storage) if r.release_id not in expired])


def begin(storage: Storage, run_id: str, lease: Lease) -> Base:
    """Make every table what the last release says it is, whatever a run that died left behind.

    A table that no release names is emptied: version 0 of every table is empty. One that a release names and that is
    gone is not made anew in its place: it may be put back. Errors: StorageFailed.
    """
    last = newest(storage)
    named = last.tables if last else {}
    versions = {}
    for table in catalog.released_tables():
        wanted = named.get(table.qualified_name, 0)
        is_right = storage.is_newest(table, wanted) or (wanted == 0 and storage.create(table, run_id) == 0)
        versions[table.qualified_name] = wanted if is_right else storage.restore(table, wanted, run_id)
    return Base(last, lease, versions)


def commit(storage: Storage, release: Release, base: Base) -> None:
    """Publish: one row, on top of the lease's last commit, when every version since the base is this run's own.

    What does not open is not published.
    Errors: ForeignWrite, LeaseLost, StorageFailed.
    """
    for name, version in release.tables.items():
        writers = storage.writers(catalog.entry(name).table, base.versions[name], version)
        for written, run_id in sorted(writers.items()):
            if run_id != release.run_id:
                raise ForeignWrite(name, written, run_id or "nobody we know")
        storage.dataset(catalog.entry(name).table, version)
    base.lease.publish(asdict(release))


def roll_back(storage: Storage, release_id: int, lease: Lease, now: datetime) -> Release:
    """Publish an older release as the newest."""
    wanted, last = at(storage, release_id), latest(storage)
    again = replace(wanted, release_id=last.release_id + 1, parent=last.release_id, published_at=now)
    lease.publish(asdict(again))
    return again
