"""Generated documents against what generates them."""

from difflib import unified_diff
from pathlib import Path


def stale(document: Path, generated: str) -> str:
    """Say what differs and what to do; empty when nothing does."""
    written = document.read_text(encoding="utf-8") if document.exists() else ""
    lines = unified_diff(written.splitlines(), generated.splitlines(), document.name, "generated", lineterm="", n=1)
    found = "\n".join(lines)
    return f"{document.name} is stale, `make docs` writes it again:\n{found}" if found else ""
