"""The steps of the main job, and of a single group, in their order: the same with Prefect and without."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from flows.run.attempt import REFERENCE_TABLES, RULED, RunTransaction, open_transaction
from flows.run.changes import Changes, find_changes, no_changes
from flows.run.request import RunRequest, Step, front_end
from flows.run.resources import DEFAULT_RESOURCES, Resources, quality_worker
from lakehouse import catalog
from lakehouse.errors import OtherCode
from lakehouse.exports.folders import hold_exports
from lakehouse.exports.manifest import Manifest
from lakehouse.exports.objects import is_mirrored, mirror
from lakehouse.exports.publish import SyncCounts, holds, publish, sync_folder
from lakehouse.ops import ledger, sources
from lakehouse.releases import release
from lakehouse.releases.release import Base, Release, Snapshot
from lakehouse.settings import Settings
from lakehouse.table import Layer
from lakehouse.version import require_loaded_code
from quality.ledger.ledger import with_current_names


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


def run_medallion(
    request: RunRequest,
    step: Step,
    look: Callable[[RunRequest], Changes] = find_changes,
    resources: Resources = DEFAULT_RESOURCES,
) -> Outcome:
    """Land what waits, keep the rules, account for every line, build, check, publish; `look` says what there is to do.

    Errors: Blocked (nothing is published), and what the steps raise. A group that fails is told in the outcome.
    """
    found = step("admit", lambda: look(request), retries=2)
    if found.is_nothing and found.last is not None and _is_exported(request, found.last):
        _sync(request, step)
        return Outcome(found.last, found.run_key, found.admission.rows, is_new=False)
    with quality_worker(request, resources) as checks, step("lease", request.take_lease) as lease:
        request = replace(request, storage=lease.storage)
        base = step("begin", lambda: release.begin(request.storage, request.run_id, lease))
        if base.release != found.last:  # somebody published since
            found = step("admit", lambda: look(request), retries=2)
        if found.is_nothing and found.last is not None:
            return _leave_unchanged(request, step, found.last, found)
        if found.is_published and base.release is not None:
            return _publish_records(request, step, base, base.release, found)
        with open_transaction(request, base, checks, resources) as work:
            return _build(request, step, work, found)


def _build(request: RunRequest, step: Step, work: RunTransaction, found: Changes) -> Outcome:
    if work.is_new_code or found.is_to_land:
        step("bronze", lambda: work.land(found))
        step("rules", lambda: work.keep_rules(found))
    else:
        work.touch_nothing(found)
    step("ledger", lambda: work.account(found))
    silver = [t for t in catalog.tables(Layer.SILVER) if t not in (*RULED, *REFERENCE_TABLES.values())]
    work.begin_building([*silver, *catalog.tables(Layer.GOLD)])
    step("silver", lambda: work.wait(t for t in silver if t.group is None))
    return _publish(request, step, work, found, catalog.groups())


def run_group(group: str, request: RunRequest, step: Step) -> Outcome:
    """Build one group on the last release's silver, check it, publish it.

    Errors: NothingPublished, OtherCode, Blocked, and what the steps raise.
    """
    release.latest(request.storage)
    with step("lease", request.take_lease) as lease:
        request = replace(request, storage=lease.storage)
        found = step("admit", lambda: no_changes(request))
        base = step("begin", lambda: release.begin(request.storage, request.run_id, lease))
        if base.release is not None and not base.release.is_of_this_code:
            raise OtherCode(base.release.release_id)
        with quality_worker(request) as checks, open_transaction(request, base, checks) as work:
            work.touch_nothing(found)
            step("ledger", lambda: work.account(found))
            work.begin_building(catalog.tables(group=group))
            return _publish(request, step, work, found, [group])


def _leave_unchanged(request: RunRequest, step: Step, last: Release, found: Changes) -> Outcome:
    if not _is_exported(request, last):  # the run that published it was killed before its exports
        step("exports", lambda: _export(request, last))
    _sync(request, step)
    return Outcome(last, found.run_key, found.admission.rows, is_new=False)


def _publish_records(request: RunRequest, step: Step, base: Base, last: Release, found: Changes) -> Outcome:
    """Publish what became of deliveries that change no other table: the same bytes again, or none that can be read."""

    def publish() -> Release:
        base.lease.hold()
        accounted = request.storage.rows(ledger.TABLE, base.versions[ledger.TABLE.qualified_name])
        named = with_current_names(accounted, found.current)
        changed = [(sources.TABLE, found.admission.rows), *([] if named == accounted else [(ledger.TABLE, named)])]
        noted = replace(
            last,
            release_id=last.release_id + 1,
            parent=last.release_id,
            run_id=request.run_id,
            created_at=request.started_at,
            published_at=datetime.now(UTC),
            tables=base.versions
            | {
                table.qualified_name: request.storage.write(table, rows.to_reader(), request.run_id)
                for table, rows in changed
            },
        )
        require_loaded_code()
        release.commit(request.storage, noted, base)
        return noted

    published = step("publish", publish)
    step("exports", lambda: _export(request, published))
    _sync(request, step)
    return Outcome(published, found.run_key, found.admission.rows)


def _publish(request: RunRequest, step: Step, work: RunTransaction, found: Changes, groups: Iterable[str]) -> Outcome:
    for group in groups:
        work.tolerate(group, partial(step, f"gold {group}", partial(work.wait, catalog.tables(group=group))))
    step("gates", work.judge)
    published = step("publish", lambda: work.publish(found))
    step("exports", lambda: _export(request, published))
    step("documents", work.document)
    _sync(request, step)
    return Outcome(published, found.run_key, found.admission.rows, failures=work.failures)


def export(settings: Settings, opened: Snapshot) -> Manifest:
    """Write the exports of a release to their folder, and put them under their address where there is one.

    Documents of groups that an earlier release made are those of that release, what they say of silver included.
    """
    manifest = publish(opened.release, release.by_group(opened), settings.exports)
    if settings.exports_address:
        with hold_exports(settings.exports.absolute()):  # two would remove each other's objects
            mirror(settings.exports.resolve(), settings.exports_address)
    return manifest


def _export(request: RunRequest, published: Release) -> Manifest:
    return export(request.settings, Snapshot(request.storage, published))


def _is_exported(request: RunRequest, last: Release) -> bool:
    exports, address = request.settings.exports, request.settings.exports_address
    if not holds(exports, last.release_id, last.created_at):
        return False
    return not address or is_mirrored(exports.resolve(), address)


def _sync(request: RunRequest, step: Step) -> None:
    """Sync when that is asked, also without news: the front end may have missed it the last time."""
    if request.sync_to_frontend:
        step("sync", lambda: sync(request.settings), retries=2)


def sync(settings: Settings, exports: Path | None = None, frontend: Path | None = None) -> SyncCounts:
    """Copy exports, those of the home if none are named, to a front end, the one of the settings; one at a time.

    Errors: WrongUse without a front end, and those of `sync_folder`.
    """
    target = frontend or front_end(settings)
    with hold_exports(settings.exports.absolute()):
        return sync_folder(exports or settings.exports, target)
