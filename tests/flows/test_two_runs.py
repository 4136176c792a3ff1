"""Two runs on one lakehouse: at once, one after the other, one that sleeps meanwhile."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.sample import write_sample
from tests.flows.command import answer, begun, digests, lakehouse, newest, run

RUN = ("run", "--no-prefect", "--no-checks", "--source")
STOP = """
import os, signal
import lakehouse.durable as durable
def stop(step, moment):
    if (step, moment) == ({step!r}, "before"):
        durable.watched_by(durable.nobody)
        open({mark!r}, "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
durable.watched_by(stop)
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, receipts=400, days=40, stores=2)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> dict[str, str]:
    home = tmp_path_factory.mktemp("undisturbed")
    run(home, sample)
    return digests(home)


def until(happened: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return out, said


def test_of_two_runs_at_once_one_publishes_and_the_other_finds_nothing_new(
    sample: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    outs = [ended(process)[0] for process in [begun(tmp_path, *RUN, sample) for _ in range(2)]]
    assert sorted("Nothing new since release 1" in out for out in outs) == [False, True]
    assert [r["release_id"] for r in answer(tmp_path, "releases")] == [1]
    assert digests(tmp_path) == undisturbed
    assert all(account["difference"] == 0 for account in answer(tmp_path, "ledger"))


@pytest.mark.parametrize("step", ["write silver.customers", "publish"])
def test_a_run_that_slept_while_another_published_publishes_nothing(
    step: str, sample: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    mark = tmp_path / "asleep"
    env = {"LEASE_SECONDS": "1"}
    sleeper = begun(tmp_path / "home", *RUN, sample, env=env, before=STOP.format(step=step, mark=str(mark)))
    until(mark.exists)
    done = lakehouse(tmp_path / "home", *RUN, sample, env=env)
    assert done.returncode == 0, done.stderr
    assert "is writing: waiting up to 300 s for it." in done.stderr
    os.kill(sleeper.pid, signal.SIGCONT)
    _, said = sleeper.communicate(timeout=300)
    assert sleeper.returncode == 1
    assert "This run lost the lease" in said
    seen = newest(tmp_path / "home")
    assert seen is not None
    assert seen.release_id == 1
    assert digests(tmp_path / "home") == undisturbed


def test_a_run_that_does_not_get_the_lease_says_who_has_it(sample: Path, tmp_path: Path) -> None:
    mark = tmp_path / "asleep"
    sleeper = begun(tmp_path / "home", *RUN, sample, before=STOP.format(step="publish", mark=str(mark)))
    until(mark.exists)
    done = lakehouse(tmp_path / "home", *RUN, sample, env={"LEASE_WAIT_SECONDS": "1"})
    os.kill(sleeper.pid, signal.SIGKILL)
    sleeper.communicate()
    assert done.returncode == 1
    assert "did not end within 1 s. Run again when it has ended, or set LEASE_WAIT_SECONDS higher." in done.stderr
    assert "Traceback" not in done.stderr
