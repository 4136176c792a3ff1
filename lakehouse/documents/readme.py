"""The text of README.md with the lineage as it is: `python -m lakehouse.documents.readme` prints it."""

import re
from pathlib import Path

from lakehouse import catalog
from lakehouse.documents.lineage import lineage_mermaid

README = Path(__file__).resolve().parents[2] / "README.md"
DIAGRAM = re.compile(r"(?<=\n## Lineage\n)(.*?```mermaid\n).*?(?=\n```\n)", re.DOTALL)


def readme() -> str:
    """Draw the lineage again where the README has it; the rest is written by hand."""
    drawn = lineage_mermaid(catalog.tables())
    return DIAGRAM.sub(lambda found: found[1] + drawn, README.read_text(encoding="utf-8"), count=1)


if __name__ == "__main__":
    print(readme(), end="")
