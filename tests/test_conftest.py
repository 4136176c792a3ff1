"""What the tests are given: interrupts that are heard, and in continuous integration no silent gaps."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIPS, _held_to_run

PROJECT = Path(__file__).parents[1]
BEGUN_IGNORING = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import tests.conftest
handler = "import signal; print(signal.getsignal(signal.SIGINT).__name__)"
print(subprocess.check_output([sys.executable, "-c", handler], text=True), end="")
"""


def test_what_is_begun_here_hears_interrupts_also_where_the_tests_were_begun_to_ignore_them() -> None:
    said = subprocess.check_output([sys.executable, "-c", BEGUN_IGNORING], cwd=PROJECT, text=True)
    assert said == "default_int_handler\n"


@pytest.mark.parametrize(
    ("ci", "reason", "outcome"),
    [
        ("true", "no Java is installed", "failed"),
        ("true", ALLOWED_SKIPS[0], "skipped"),
        ("", "no Java is installed", "skipped"),
    ],
)
def test_a_skip_is_a_failure_in_continuous_integration_unless_its_reason_is_allowed(
    ci: str, reason: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    skipped = pytest.TestReport(
        "a test", ("a file", 1, "a test"), {}, "skipped", ("a file", 1, f"Skipped: {reason}"), "call"
    )
    assert _held_to_run(skipped).outcome == outcome
