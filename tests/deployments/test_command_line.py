"""Whether a run will have work is guessed from the times of files, before anything is imported for it."""

import os
import shutil
from pathlib import Path

import pytest

from deployments.command_line import looks_new

LONG_AGO = (0, 0)


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a landing whose files were all there at the last exports."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    for name in ("transactions/a.csv", "products/Categories.csv", "elsewhere/b.csv", "home/made"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def guess(landing: Path) -> bool:
    return looks_new(["lakehouse", "run", "--source", str(landing)])


def export(landing: Path) -> None:
    """Make exports that are younger than every file there is."""
    youngest = max(path.stat().st_ctime_ns for path in landing.rglob("*"))
    link = landing / "home" / "exports"
    while not link.is_symlink() or link.lstat().st_ctime_ns <= youngest:
        link.unlink(missing_ok=True)
        link.symlink_to("made")


def test_before_the_first_exports_everything_is_new(landing: Path) -> None:
    assert guess(landing)


def test_what_was_there_at_the_last_exports_is_not_new(landing: Path) -> None:
    export(landing)
    assert not guess(landing)


def test_a_file_moved_in_is_new_however_old_it_is(landing: Path) -> None:
    os.utime(landing / "elsewhere" / "b.csv", LONG_AGO)
    export(landing)
    (landing / "elsewhere" / "b.csv").rename(landing / "transactions" / "b.csv")
    assert guess(landing)


def test_a_changed_file_is_new(landing: Path) -> None:
    export(landing)
    (landing / "products" / "Categories.csv").write_text("1|one")
    assert guess(landing)


def test_what_a_database_holds_may_be_new(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(landing)
    monkeypatch.setenv("TRANSACTIONS_SOURCE", "postgres")
    assert guess(landing)


def test_a_landing_without_reference_files_is_looked_at_alike(landing: Path) -> None:
    shutil.rmtree(landing / "products")
    export(landing)
    assert not guess(landing)
    (landing / "transactions" / "b.csv").touch()
    assert guess(landing)


def test_a_landing_that_is_missing_is_told_by_the_command_not_here(landing: Path) -> None:
    export(landing)
    assert not guess(landing / "nowhere")


def test_wrong_settings_are_told_by_the_command_not_here(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "flink")
    assert not guess(landing)
