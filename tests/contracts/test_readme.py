"""What the README names is there."""

import re
from pathlib import Path

import pytest

from lakehouse.documents.readme import readme
from tests.contracts.freshness import stale

ROOT = Path(__file__).parents[2]
README_FILE = ROOT / "README.md"
README = README_FILE.read_text()
NAMED = sorted(
    set(re.findall(r"`((?:lakehouse|quality|flows|deployments|infra|tests|docs)/[\w./]+)(?:::(\w+))?`", README))
)


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_files_and_tests_that_the_readme_names_are_there(path: str, test: str) -> None:
    assert (ROOT / path).exists() or path == "lakehouse/gold/summary/store_sales.py"  # the one it shows how to add
    assert not test or f"\ndef {test}(" in (ROOT / path).read_text()


def test_the_lineage_of_the_readme_is_up_to_date() -> None:
    assert not stale(README_FILE, readme())


def test_the_readme_names_tests() -> None:
    assert len([test for _, test in NAMED if test]) > 40
