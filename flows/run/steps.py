"""The steps of the main job, and of a single group, in their order: the same with Prefect and without."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from flows.run.attempt import REFERENCE_TABLES, RULED, Attempt, attempt
from flows.run.changes import News, current_news, news
from flows.run.request import Order, Step, front_end
from flows.run.resources import MEANS, Means, checking
from lakehouse import catalog
from lakehouse.errors import OtherCode
from lakehouse.exports.folders import locked
from lakehouse.exports.manifest import Manifest
from lakehouse.exports.objects import is_mirrored, mirrored
from lakehouse.exports.publish import SyncCounts, holds, publish, synced
from lakehouse.ops import ledger, sources
from lakehouse.releases import release
from lakehouse.releases.release import Base, Release, Snapshot
from lakehouse.settings import Settings
from lakehouse.table import Layer
from quality.ledger.ledger import renamed


@dataclass(frozen=True)
class Outcome:
    """The release that readers see after a run, whether the run made it, and which groups failed with why.

    `sources` is what the run found of every file, also when that was nothing new.
    """

    release: Release
    run_key: str
    sources: pa.Table
    is_new: bool = True
    failures: Mapping[str, str] = field(default_factory=dict)


def medallion(order: Order, step: Step, look: Callable[[Order], News] = news, means: Means = MEANS) -> Outcome:
    """Land what waits, keep the rules, account for every line, build, check, publish; `look` says what there is to do.

    Errors: Blocked (nothing is published), and what the steps raise. A group that fails is told in the outcome.
    """
    found = step("admit", lambda: look(order), retries=2)
    if found.is_nothing and found.last is not None and _is_exported(order, found.last):
        _sync(order, step)
        return Outcome(found.last, found.run_key, found.admission.rows, is_new=False)
    with checking(order, means) as checks, step("lease", order.leased) as lease:
        order = replace(order, storage=lease.storage)
        base = step("begin", lambda: release.begin(order.storage, order.run_id, lease))
        if base.release != found.last:  # somebody published since
            found = step("admit", lambda: look(order), retries=2)
        if found.is_nothing and found.last is not None:
            return _unchanged(order, step, found.last, found)
        if found.is_published and base.release is not None:
            return _recorded(order, step, base, base.release, found)
        with attempt(order, base, checks, means) as work:
            return _built(order, step, work, found)


def _built(order: Order, step: Step, work: Attempt, found: News) -> Outcome:
    if work.is_new_code or found.is_to_land:
        step("bronze", lambda: work.land(found))
        step("rules", lambda: work.keep_rules(found))
    else:
        work.touch_nothing(found)
    step("ledger", lambda: work.account(found))
    silver = [t for t in catalog.tables(Layer.SILVER) if t not in (*RULED, *REFERENCE_TABLES.values())]
    work.begin_building([*silver, *catalog.tables(Layer.GOLD)])
    step("silver", lambda: work.wait(t for t in silver if t.group is None))
    return _published(order, step, work, found, catalog.groups())


def single_group(group: str, order: Order, step: Step) -> Outcome:
    """Build one group on the last release's silver, check it, publish it.

    Errors: NothingPublished, OtherCode, Blocked, and what the steps raise.
    """
    release.latest(order.storage)
    with step("lease", order.leased) as lease:
        order = replace(order, storage=lease.storage)
        found = step("admit", lambda: current_news(order))
        base = step("begin", lambda: release.begin(order.storage, order.run_id, lease))
        if base.release is not None and not base.release.is_of_this_code:
            raise OtherCode(base.release.release_id)
        with checking(order) as checks, attempt(order, base, checks) as work:
            work.touch_nothing(found)
            step("ledger", lambda: work.account(found))
            work.begin_building(catalog.tables(group=group))
            return _published(order, step, work, found, [group])


def _unchanged(order: Order, step: Step, last: Release, found: News) -> Outcome:
    if not _is_exported(order, last):  # the run that published it was killed before its exports
        step("exports", lambda: _export(order, last))
    _sync(order, step)
    return Outcome(last, found.run_key, found.admission.rows, is_new=False)


def _recorded(order: Order, step: Step, base: Base, last: Release, found: News) -> Outcome:
    """Publish what became of deliveries that change no other table: the same bytes again, or none that can be read."""

    def publish() -> Release:
        base.lease.hold()
        accounted = order.storage.rows(ledger.TABLE, base.versions[ledger.TABLE.qualified_name])
        named = renamed(accounted, found.current)
        changed = [(sources.TABLE, found.admission.rows), *([] if named == accounted else [(ledger.TABLE, named)])]
        noted = replace(
            last,
            release_id=last.release_id + 1,
            parent=last.release_id,
            run_id=order.run_id,
            created_at=order.started_at,
            published_at=datetime.now(UTC),
            tables=base.versions
            | {
                table.qualified_name: order.storage.write(table, rows.to_reader(), order.run_id)
                for table, rows in changed
            },
        )
        release.commit(order.storage, noted, base)
        return noted

    published = step("publish", publish)
    step("exports", lambda: _export(order, published))
    _sync(order, step)
    return Outcome(published, found.run_key, found.admission.rows)


def _published(order: Order, step: Step, work: Attempt, found: News, groups: Iterable[str]) -> Outcome:
    for group in groups:
        work.tolerate(group, partial(step, f"gold {group}", partial(work.wait, catalog.tables(group=group))))
    step("gates", work.judge)
    published = step("publish", lambda: work.publish(found))
    step("exports", lambda: _export(order, published))
    step("documents", work.document)
    _sync(order, step)
    return Outcome(published, found.run_key, found.admission.rows, failures=work.failures)


def export(settings: Settings, opened: Snapshot) -> Manifest:
    """Write the exports of a release to their folder, and put them under their address where there is one.

    Documents of groups that an earlier release made are those of that release, what they say of silver included.
    """
    manifest = publish(opened.release, release.by_group(opened), settings.exports)
    if settings.exports_address:
        with locked(settings.exports.absolute()):  # two would remove each other's objects
            mirrored(settings.exports.resolve(), settings.exports_address)
    return manifest


def _export(order: Order, published: Release) -> Manifest:
    return export(order.settings, Snapshot(order.storage, published))


def _is_exported(order: Order, last: Release) -> bool:
    exports, address = order.settings.exports, order.settings.exports_address
    if not holds(exports, last.release_id, last.created_at):
        return False
    return not address or is_mirrored(exports.resolve(), address)


def _sync(order: Order, step: Step) -> None:
    """Sync when that is asked, also without news: the front end may have missed it the last time."""
    if order.sync_to_frontend:
        step("sync", lambda: sync(order.settings), retries=2)


def sync(settings: Settings, exports: Path | None = None, frontend: Path | None = None) -> SyncCounts:
    """Copy exports, those of the home if none are named, to a front end, the one of the settings; one at a time.

    Errors: WrongUse without a front end, and those of `synced`.
    """
    target = frontend or front_end(settings)
    with locked(settings.exports.absolute()):
        return synced(exports or settings.exports, target)
