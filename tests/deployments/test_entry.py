"""How the command's process ends: whole, and with the code that tells an interrupt."""

from pathlib import Path

import pytest

from tests.flows.command import lakehouse

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
import atexit, signal
import flows.commands.cli
def last(name):
    signal.raise_signal(signal.SIGINT)
    print(name, flush=True)
for name in "abc":
    atexit.register(last, name)
flows.commands.cli.main = lambda: None
"""


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        ("raise", ""),
        ("raise SystemExit(1)", ""),
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


def test_interrupts_break_nothing_off_that_is_done_last(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before=LEAVING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "c\nb\na\n", "")


def test_an_error_without_an_interrupt_is_not_taken_for_one(tmp_path: Path) -> None:
    done = lakehouse(tmp_path, before="import flows.commands.cli\nflows.commands.cli.main = lambda: 1 / 0")
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
