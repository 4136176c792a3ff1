"""The version of the code that computes tables."""

import hashlib
from pathlib import Path

from lakehouse.errors import CodeChanged


def code_version() -> str:
    """Give the version of the code that is loaded: equal code gives equal tables."""
    return _LOADED


def require_loaded_code() -> None:
    """See that the code on disk is still what was loaded: of other code, parts may be at work. Errors: CodeChanged."""
    try:
        now = _hash_of_package()
    except OSError:  # a file went while it was read
        now = "part of another"
    if now != _LOADED:
        raise CodeChanged(_LOADED, now)


def _hash_of_package() -> str:
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("[!.]*.py")):  # editors leave files with a dot, and links to nowhere
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


_LOADED = _hash_of_package()  # when the program starts: a checkout may be updated while a run waits
