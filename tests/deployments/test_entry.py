"""How the command's process begins and ends: what is begun ahead, and with which code it leaves, all done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.entry import looks_new
from tests.flows.command import lakehouse

LONG_AGO = (0, 0)
TURNED_INTO = """
import signal
import flows.commands.cli
def ended():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        {turned}
flows.commands.cli.main = ended
"""
LEAVING = """
import atexit, os, signal, threading
import flows.commands.cli
def last(name):
    signal.raise_signal(signal.SIGINT)
    print(name)
def begun():
    threading.main_thread().join()
    os.kill(os.getpid(), signal.SIGINT)
    print("begun")
def ended():
    for name in "abc":
        atexit.register(last, name)
    threading.Thread(target=begun).start()
    {ended}
flows.commands.cli.main = ended
"""
IGNORING = """
import signal
import flows.commands.cli
signal.signal(signal.SIGINT, signal.SIG_IGN)
def ended():
    signal.raise_signal(signal.SIGINT)
    print(signal.getsignal(signal.SIGINT).name)
flows.commands.cli.main = ended
"""


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        ("raise", "Interrupted.\n"),
        ("raise SystemExit(1)", "Interrupted.\n"),
        ("raise RuntimeError('INTERRUPT Error:\\n at once') from None", "Interrupted: INTERRUPT Error: at once\n"),
        ("raise ValueError", "Interrupted: ValueError\n"),
    ],
)
def test_an_interrupt_is_told_whatever_it_was_turned_into(turned: str, said: str, tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before=TURNED_INTO.format(turned=turned))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def test_who_has_done_all_at_an_interrupt_has_done_it(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before=TURNED_INTO.format(turned="print('all')"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "all\n", "")


@pytest.mark.parametrize(("ended", "code"), [("pass", 0), ("raise SystemExit(3)", 3)])
def test_what_is_begun_and_what_is_done_last_is_done_whatever_interrupts_come(
    ended: str, code: int, tmp_path: Path
) -> None:
    done = lakehouse(tmp_path, before=LEAVING.format(ended=ended))
    assert (done.returncode, done.stdout, done.stderr) == (code, "begun\nc\nb\na\n", "")


def test_an_error_without_an_interrupt_is_not_taken_for_one(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before=LEAVING.format(ended="1 / 0"))
    assert (done.returncode, done.stdout) == (1, "begun\nc\nb\na\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_who_begins_with_interrupts_ignored_goes_on_ignoring_them(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before=IGNORING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIG_IGN\n", "")


def test_what_few_commands_need_is_not_imported_for_all() -> None:
    few = ("_duckdb", "great_expectations", "prefect", "pysail", "sklearn")
    code = f"import sys, flows.commands.cli; print([name for name in {few} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


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
