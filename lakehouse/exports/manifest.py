"""The manifest: what a folder of exports holds, and whether it still does."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, StringConstraints, TypeAdapter, ValidationError

from lakehouse.exports.documents import Document, Part

MANIFEST = "manifest.json"
RelativePath = Annotated[str, StringConstraints(pattern=r"^([a-z0-9_]+/)*[a-z0-9_]+(\.schema)?\.json$")]
_PATHS = TypeAdapter(list[RelativePath])


class File(Part):
    """A file's hash and size."""

    sha256: str
    bytes: int


class Manifest(Document):
    """The release a folder was made from, the release each group is as of, and every other file in it."""

    release_id: int
    created_at: AwareDatetime
    verified: bool
    groups: dict[str, int]
    files: dict[RelativePath, File]


def file_of(content: bytes) -> File:
    """Give a content's hash and size."""
    return File(sha256=sha256(content).hexdigest(), bytes=len(content))


def manifest_in(folder: Path) -> Manifest | None:
    """Read a folder's manifest; None where there is none, or one that is not ours."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None


def contents(folder: Path, manifest: Manifest) -> dict[str, bytes | None]:
    """Read every file of a manifest; None where it is missing or is not what the manifest says."""
    return {path: _content(folder / path, file) for path, file in manifest.files.items()}


def differing(folder: Path, manifest: Manifest) -> list[str]:
    """Name the files that are missing or are not what the manifest says."""
    return [path for path, content in contents(folder, manifest).items() if content is None]


def listed_names(names: Path) -> set[str]:
    """Read a list of paths; none where there is no such file, or one that is not ours."""
    try:
        return set(_PATHS.validate_json(names.read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return set()


def _content(path: Path, expected: File) -> bytes | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return content if file_of(content) == expected else None
