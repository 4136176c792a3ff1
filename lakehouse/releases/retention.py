"""Which releases are kept, and the removal of the files that no kept one needs."""

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from lakehouse import catalog
from lakehouse.errors import NotFound
from lakehouse.releases import release
from lakehouse.releases.pins import Change, read_pins, set_pin
from lakehouse.releases.release import Release
from lakehouse.settings import Settings
from lakehouse.storage.data_files import remove, unneeded_files
from lakehouse.storage.tables import Storage
from lakehouse.table import Table

GRACE = timedelta(days=1)  # a younger file may belong to a run under way
EXPIRED = "expired"


@dataclass(frozen=True)
class Rule:
    """How many releases are kept: the last one of each of so many days, and of so many months, that have any."""

    daily: int
    monthly: int

    @classmethod
    def of(cls, settings: Settings) -> "Rule":
        return cls(settings.keep_daily, settings.keep_monthly)


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum removed, or would: releases that expired, and the files of each table with their bytes."""

    expired: list[int]
    files: dict[str, dict[str, int]]


def kept_releases(releases: Sequence[Release], pinned: AbstractSet[int], rule: Rule) -> dict[int, list[str]]:
    """Say which of the releases, oldest first, are kept, and as what.

    The newest, the pinned, the last of a day or a month (in UTC) that the rule counts; each one that made a group of
    a kept one (`group`): the documents of that group are made from it; and, as it costs nothing, each one whose every
    table version a kept one names too (`shared`): a rollback names the versions of another.
    """
    chosen = {"newest": {r.release_id for r in releases[-1:]}, "pinned": pinned}
    chosen["daily"] = _last_of(releases, lambda r: f"{r.published_at:%Y-%m-%d}", rule.daily)
    chosen["monthly"] = _last_of(releases, lambda r: f"{r.published_at:%Y-%m}", rule.monthly)
    found = {r.release_id: [name for name, ids in chosen.items() if r.release_id in ids] for r in releases}
    for one in reversed(releases):
        for maker in found.keys() & set(one.groups.values()) - {one.release_id}:
            if found[one.release_id] and "group" not in found[maker]:
                found[maker].append("group")
    named = {pair for r in releases if found[r.release_id] for pair in r.tables.items()}
    for one in releases:
        if not found[one.release_id] and one.tables.items() <= named:
            found[one.release_id] = ["shared"]
    return {release_id: reasons for release_id, reasons in found.items() if reasons}


def _last_of(releases: Sequence[Release], period: Callable[[Release], str], periods: int) -> set[int]:
    last = {period(r): r.release_id for r in releases}
    return {last[name] for name in sorted(last, reverse=True)[:periods]}


def retention_reasons(storage: Storage, rule: Rule) -> list[tuple[Release, list[str]]]:
    """Say of every release, oldest first, as what it is kept.

    `expired`: it was not, and cannot be read any more; nothing: the next vacuum will not keep it.
    """
    stand, published = read_pins(storage), release.history(storage)
    left = [r for r in published if r.release_id not in stand.expired]
    reasons = kept_releases(left, stand.pinned, rule) | {n: [EXPIRED] for n in stand.expired}
    return [(r, reasons.get(r.release_id, [])) for r in published]


def pin(storage: Storage, release_id: int, change: Change) -> None:
    """Keep a release until it is unpinned; errors: NotFound, NotKept."""
    release.at(storage, release_id)
    set_pin(storage, [release_id], "pinned", change)


def unpin(storage: Storage, release_id: int, change: Change) -> None:
    """Leave a release to the rule again; errors: NotFound when it is not pinned."""
    pinned = read_pins(storage).pinned
    if release_id not in pinned:
        raise NotFound("pinned release", str(release_id), [str(n) for n in sorted(pinned)])
    set_pin(storage, [release_id], "unpinned", change)


def vacuum(storage: Storage, rule: Rule, change: Change, dry_run: bool = False) -> Vacuumed:
    """Remove the files that no kept release needs, those of dead runs too; files younger than `GRACE` stay.

    A release that is not kept is marked expired before the first file goes. The Delta logs stay whole: delta-rs
    shortens them by age alone, and could not promise that every kept version still opens. Errors: StorageFailed.
    """
    found = retention_reasons(storage, rule)
    leaving = [r.release_id for r, reasons in found if not reasons]
    staying = [r for r, reasons in found if reasons not in ([], [EXPIRED])]
    before = change.at - GRACE
    going = [(t, unneeded_files(storage, t, _versions(storage, t, staying), before)) for t in catalog.tables()]
    if not dry_run:
        if leaving:
            set_pin(storage, leaving, EXPIRED, change)
        for table, files in going:
            remove(storage, table, files)
    return Vacuumed(leaving, {t.qualified_name: files for t, files in going if files})


def _versions(storage: Storage, table: Table, staying: Sequence[Release]) -> Collection[int]:
    """Give the versions of a table that must be readable: those of kept releases; of a log, the newest."""
    if table.is_log:
        return [v for v in [storage.version(table)] if v is not None]
    return {r.tables[table.qualified_name] for r in staying if table.qualified_name in r.tables}
