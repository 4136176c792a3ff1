"""Write the documents of a release, validated, make them the published ones in one rename, copy them to a front end."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from time import perf_counter
from typing import Any, get_type_hints

from jsonschema_rs import Draft202012Validator
from pydantic_core import to_json

from lakehouse.errors import BadInput, WrongUse
from lakehouse.exports import analytics, clustering, recommendations, summary
from lakehouse.exports.documents import Document, Maker, Release, Snapshot
from lakehouse.exports.folders import (
    current_folder,
    folder_errors,
    hold_exports,
    part_of,
    put,
    remove_others,
    swap,
    versions,
    write_version,
)
from lakehouse.exports.manifest import MANIFEST, Manifest, contents, differing, file_of, listed_names, manifest_in

GROUPS: Mapping[str, Mapping[str, Maker]] = {
    "summary": summary.DOCUMENTS,
    "analytics": analytics.DOCUMENTS,
    "clustering": clustering.DOCUMENTS,
    "recommendations": recommendations.DOCUMENTS,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
UNFINISHED = ".unfinished-sync.json"  # every file a sync knows of, while it works
Schema = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncCounts:
    """What a sync did, in files; the manifest does not count."""

    copied: int
    unchanged: int
    removed: int


def holds(into: Path, release_id: int, created_at: datetime) -> bool:
    """Say whether the published documents are those of a release, every one of them; errors: BadInput."""
    folder = current_folder(into.absolute())
    manifest = manifest_in(folder) if folder else None
    if folder is None or manifest is None or (manifest.release_id, manifest.created_at) != (release_id, created_at):
        return False
    return not differing(folder, manifest)


def publish(release: Release, groups: Mapping[str, Snapshot], into: Path) -> Manifest:
    """Publish a release's documents as `into`, a link to a folder beside it that never changes.

    `groups` has the snapshot that the documents of each group are made from. A reader that resolves the link once reads
    one release; the folder it reads outlives the next publication. Nothing is written when everything is there already.
    Errors: BadInput for an `into` that is not ours to replace, StorageFailed.
    """
    started, into = perf_counter(), into.absolute()
    makers = [(path, maker, groups[group]) for group in groups for path, maker in GROUPS.get(group, {}).items()]
    manifest, files = _described(release, {path: _content(path, maker(opened)) for path, maker, opened in makers})
    with folder_errors("publish exports as", into):
        current_folder(into)  # what is not ours to replace is refused before anything is made beside it
    with folder_errors("publish exports as", into), hold_exports(into):
        current = current_folder(into)
        earlier = manifest_in(current) if current else None
        if current and earlier == manifest and not differing(current, manifest):
            remove_others(into, [folder for folder in versions(into) if manifest_in(folder)])
            return manifest
        folder = write_version(into, files, manifest.release_id)
        swap(into, folder)
        remove_others(into, [folder, *([current] if current else [])])
    log.info("published %d files of release %d in %.2f s", len(files), manifest.release_id, perf_counter() - started)
    return manifest


def sync_folder(exports: Path, frontend: Path) -> SyncCounts:
    """Make a front end's folder hold what the manifest of the exports lists, the manifest last.

    Files that earlier manifests listed and this one does not are removed, also after a sync that was killed;
    files that no manifest listed are left alone. Whoever calls it sees that no other does at that time. Errors:
    WrongUse, BadInput for exports without a manifest or that are not what it says, StorageFailed.
    """
    with folder_errors("copy exports to", frontend):
        folder, target = exports.resolve(), frontend.resolve()
        if target.is_relative_to(folder):
            raise WrongUse("FRONTEND_PATH", str(frontend), "another folder than the exports")
        manifest, found = _published(folder, exports)
        known = _known(target)
        gone = sorted(known - manifest.files.keys())
        changed = differing(target, manifest)
        counts = SyncCounts(len(changed), len(found) - len(changed), sum((target / path).exists() for path in gone))
        if changed or gone or manifest_in(target) != manifest:
            put(target / UNFINISHED, json.dumps(sorted(known | manifest.files.keys())).encode())
            for path in changed:
                put(target / path, found[path])
            put(target / MANIFEST, _content(MANIFEST, manifest))
            for path in gone:
                _remove(target, path)
            for path in known | manifest.files.keys():
                part_of(target / path).unlink(missing_ok=True)
        (target / UNFINISHED).unlink(missing_ok=True)
    log.info("synced: %d files copied, %d unchanged, %d removed", counts.copied, counts.unchanged, counts.removed)
    return counts


@cache
def schemas() -> dict[str, Schema]:
    """Give the JSON Schema of every document, and of the manifest, by its name."""
    documents = {path: maker for group in GROUPS.values() for path, maker in group.items()}
    models = {_name(path): get_type_hints(maker)["return"] for path, maker in documents.items()}
    return {name: _schema(model) for name, model in (models | {_name(MANIFEST): Manifest}).items()}


def _schema(model: type[Document]) -> Schema:
    return {"$schema": DIALECT, **model.model_json_schema(mode="serialization")}


def _name(path: str) -> str:
    return PurePosixPath(path).stem


def _described(release: Release, documents: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """Add schemas and the manifest, which comes last, to documents."""
    shapes = {f"schemas/{_name(path)}.schema.json": _json(schemas()[_name(path)]) for path in (*documents, MANIFEST)}
    files = dict(sorted((shapes | documents).items()))
    manifest = Manifest(
        release_id=release.release_id,
        created_at=release.created_at,
        verified=release.verified,
        groups={group: release.groups[group] for group, paths in GROUPS.items() if documents.keys() & paths.keys()},
        files={path: file_of(content) for path, content in files.items()},
    )
    return manifest, {**files, MANIFEST: _content(MANIFEST, manifest)}


def _content(path: str, document: Document) -> bytes:
    """Write a document as it is published, once it has passed its schema."""
    written_out = document.model_dump(mode="json")
    _check(path, written_out)
    return _json(written_out)


def _json(value: dict[str, Any]) -> bytes:
    return to_json(value, indent=2) + b"\n"


def _check(path: str, document: dict[str, Any]) -> None:
    """Hold a document to its schema; errors: BadInput."""
    for problem in _validator(_name(path)).iter_errors(document):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.instance_path)
        found = f"${where} breaks its schema, {problem.message[:200]}"
        raise BadInput(path, found, "Correct its model.")


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas()[name])


def _published(folder: Path, exports: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Read exports whole; errors: BadInput."""
    manifest = manifest_in(folder)
    if manifest is None:
        raise BadInput(str(exports), "it has no manifest of exports", "Publish them first: `lakehouse export`.")
    found = {path: content for path, content in contents(folder, manifest).items() if content is not None}
    if damaged := sorted(manifest.files.keys() - found.keys()):
        found_out = f"{', '.join(damaged)}: missing, or not what the manifest says"
        raise BadInput(str(exports), found_out, "Publish them again: `lakehouse export`.")
    return manifest, found


def _known(target: Path) -> set[str]:
    """Name the files earlier syncs put into a front end; errors: BadInput when its manifest is someone else's."""
    earlier = manifest_in(target)
    if earlier is None and (target / MANIFEST).exists():
        raise BadInput(str(target / MANIFEST), "it is not a manifest of exports", "Choose another FRONTEND_PATH.")
    return listed_names(target / UNFINISHED) | (earlier.files.keys() if earlier else set())


def _remove(target: Path, path: str) -> None:
    """Remove a file, and the folders that are empty without it."""
    (target / path).unlink(missing_ok=True)
    for folder in PurePosixPath(path).parents[:-1]:
        if (target / folder).is_dir() and not any((target / folder).iterdir()):
            (target / folder).rmdir()
