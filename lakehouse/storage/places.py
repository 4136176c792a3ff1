"""Where tables are: folders and addresses that somebody names."""

import re
from pathlib import Path

from lakehouse.errors import WrongUse
from lakehouse.storage.objects import is_address
from lakehouse.table import Layer

UNNAMEABLE = re.compile(r"[#?\[\]\\^|%\x00-\x1f\x7f]")  # delta-rs takes a path for part of an address
IN_HOME = "tables"
WHERE = "the tables are in LAKEHOUSE_ROOT, by default in `tables` of LAKEHOUSE_HOME."


def require_nameable(root: str) -> None:
    """See that delta-rs opens tables under a root; errors: WrongUse."""
    if UNNAMEABLE.search(root):
        expected = r"a path without # ? % [ ] | \ ^ and control characters: no Delta table opens there"
        raise WrongUse("The folder of the tables", root, expected)


def whole_place(root: str) -> str:
    """Give an address without a last slash, or a path that stays right when the process goes elsewhere."""
    return root.rstrip("/") if is_address(root) else str(Path(root).absolute())


def problem_of(root: str) -> str:
    """Say why no lakehouse can be in a folder, nothing where one may be; errors: WrongUse, OSError."""
    if is_address(root):
        return ""
    require_nameable(root)
    folder = Path(root)
    if not folder.is_dir():
        return f"{'That is no folder' if folder.exists() else 'There is no such folder'}: {WHERE}"
    if not (folder / Layer.OPS).is_dir() and (folder / IN_HOME / Layer.OPS).is_dir():
        return f"It is a home: its tables are in {folder / IN_HOME}."
    return ""
