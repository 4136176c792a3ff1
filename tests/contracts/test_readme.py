"""What the README names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NAMED = sorted(
    set(re.findall(r"`((?:lakehouse|quality|flows|deployments|infra|tests|docs)/[\w./]+)(?:::(\w+))?`", README))
)


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_files_and_tests_that_the_readme_names_are_there(path: str, test: str) -> None:
    assert (ROOT / path).exists() or path == "lakehouse/gold/summary/store_sales.py"  # the one it shows how to add
    assert not test or f"\ndef {test}(" in (ROOT / path).read_text()


def test_the_readme_names_tests() -> None:
    assert len([test for _, test in NAMED if test]) > 40
