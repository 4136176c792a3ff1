"""What is tried is the same each time: nothing that happens to be imported, and no chance, changes it."""

from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Example = tuple[int, str]


def examples() -> list[Example]:
    """Let a property choose, and note what."""
    chosen: list[Example] = []

    @settings(max_examples=200, derandomize=True, database=None)
    @given(st.integers(), st.text())
    def note(number: int, text: str) -> None:
        chosen.append((number, text))

    note()
    return chosen


def test_a_property_tries_the_same_whatever_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = examples()
    lines = [f"NAME_{number}, NUMBER_{number} = 'name {number}', {number + 1_000}" for number in range(200)]
    (tmp_path / "just_imported.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    import_module("just_imported")
    assert examples() == first
    assert len(set(first)) > 100
