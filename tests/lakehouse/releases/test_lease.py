"""The lease: one writer, waited for, taken over when it is dead, of no use to who lost it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.errors import ForeignWrite, LakehouseError, LeaseLost, LeaseTaken, StorageFailed
from lakehouse.ops import releases
from lakehouse.releases import lease as leases
from lakehouse.releases.lease import Lease, take, writer
from lakehouse.storage import durable
from lakehouse.storage.tables import Storage
from tests.waiting import HANG_SECONDS, wait_until

pytestmark = pytest.mark.timed

PROJECT = Path(__file__).resolve().parents[3]
HOLDING = """
import sys, time
from lakehouse.releases.lease import take
from lakehouse.storage.tables import Storage
lease = take(Storage(sys.argv[1]), "elsewhere", "test", float(sys.argv[2]), 0, tell=print)
print(lease.epoch, flush=True)
{then}
"""
SLEEP = "time.sleep(10**6)"
PUBLISH = """
from tests.lakehouse.releases.test_lease import ROW
sys.stdin.readline()
lease.publish(ROW)
"""
KILLED = """
import os, signal, lakehouse.storage.durable as durable
def kill(step, moment):
    if (step, moment) == ("heartbeat", {moment!r}):
        os.kill(os.getpid(), signal.SIGKILL)
durable.watch(kill)
time.sleep(10**6)
"""
ROW: dict[str, object] = {
    "release_id": 1,
    "run_id": "elsewhere",
    "run_key": "",
    "created_at": datetime(2024, 3, 1, tzinfo=UTC),
    "published_at": datetime(2024, 3, 1, tzinfo=UTC),
    "tables": {},
    "groups": {},
    "inputs_hash": "",
    "digests": {},
    "parameters": {},
    "code_version": "",
    "engine": "sail",
    "verified": False,
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "tables"))


def taken(storage: Storage, run_id: str, seconds: float = 600, wait: float = 0, told: list[str] | None = None) -> Lease:
    return take(storage, run_id, "test", seconds, wait, (told if told is not None else []).append)


def published(storage: Storage) -> int:
    """Count the releases in the log."""
    version = storage.version(releases.TABLE)
    assert version is not None
    return storage.count(releases.TABLE, version)


@pytest.fixture
def other(storage: Storage) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lease, for a second without a heartbeat."""
    yield from _process(storage, SLEEP)


@pytest.fixture
def publisher(storage: Storage) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lease, and publishes when it is told to."""
    yield from _process(storage, PUBLISH)


def _process(storage: Storage, then: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDING.format(then=then), storage.root, "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_who_comes_second_waits_is_told_for_whom_and_gives_up(storage: Storage) -> None:
    told: list[str] = []
    expected = r"^test first on .* is writing to .*, and did not end within 0\.5 s\."
    with taken(storage, "first"), pytest.raises(LeaseTaken, match=expected):
        taken(storage, "second", wait=0.5, told=told)
    assert len(told) == 1
    assert told[0].startswith("test first on ")


def test_who_waits_gets_the_lease_when_it_is_given_back(storage: Storage) -> None:
    first = taken(storage, "first")
    threading.Timer(0.5, first.give_back).start()
    with taken(storage, "second", wait=HANG_SECONDS) as second:
        assert second.epoch == first.epoch + 1
        second.hold()


class Clock:
    """A clock that moves while somebody sleeps: each time as far as is said, once `meanwhile` has happened."""

    def __init__(self, seconds: float | None = None, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now, self.seconds, self.meanwhile = 0.0, seconds, meanwhile

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.meanwhile()
        self.now += self.seconds or seconds


def test_a_holder_that_beats_keeps_it_however_long_it_works(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken(storage, "first", seconds=0.6) as first:

        def beat() -> None:
            seen = storage.version(releases.TABLE)
            wait_until(lambda: storage.version(releases.TABLE) != seen)

        monkeypatch.setattr(leases, "time", Clock(0.5, beat))
        with pytest.raises(LeaseTaken):
            taken(storage, "second", wait=2)
        monkeypatch.undo()
        first.hold()


def test_a_process_that_was_killed_is_taken_over_at_once(storage: Storage, other: subprocess.Popen[str]) -> None:
    with pytest.raises(LeaseTaken):
        taken(storage, "too early")
    assert not writer(storage).endswith("the next run takes over")
    other.kill()
    other.wait()
    assert writer(storage).endswith("which was killed: the next run takes over")
    with taken(storage, "next") as lease:
        assert lease.epoch == 2
        assert writer(storage).startswith("test next on ")
    assert writer(storage) == ""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_was_killed_at_a_heartbeat_is_taken_over(moment: str, storage: Storage) -> None:
    for process in _process(storage, KILLED.format(moment=moment)):
        assert process.wait(HANG_SECONDS) == -signal.SIGKILL
    with taken(storage, "next") as lease:
        lease.publish(ROW)
    assert published(storage) == 1


@pytest.mark.parametrize(
    "failed",
    [
        StorageFailed("restore", "a table", "Failed to commit transaction", "Check that it has room."),
        ForeignWrite("a table", 2, "test next"),
    ],
    ids=["the storage refused it", "another's version was met"],
)
def test_a_write_that_failed_for_a_lost_lease_is_told_as_that(
    failed: LakehouseError, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(failed), match="a table"), taken(storage, "first"):
        raise failed
    monkeypatch.setattr(leases, "_is_gone", lambda _: True)
    lost = pytest.raises(LeaseLost, match="test next took it over")
    with lost as told, taken(storage, "late"), taken(storage, "next"):
        raise failed
    assert told.value.__cause__ is failed


def test_a_process_of_elsewhere_is_taken_over_when_its_lease_has_run_out(
    storage: Storage, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "this_process", lambda: "")
    other.kill()
    other.wait()
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    with taken(storage, "next", wait=60):
        assert 1 < clock.now < 1 + 2 * leases.POLL_SECONDS


def test_a_process_that_was_stopped_and_goes_on_cannot_publish(
    storage: Storage, publisher: subprocess.Popen[str]
) -> None:
    os.kill(publisher.pid, signal.SIGSTOP)
    with taken(storage, "next", wait=HANG_SECONDS):
        os.kill(publisher.pid, signal.SIGCONT)
        _, said = publisher.communicate("publish\n")
        assert "LeaseLost" in said
        assert "test next took it over" in said
    assert published(storage) == 0


def test_a_process_that_was_stopped_while_nobody_came_goes_on(
    storage: Storage, publisher: subprocess.Popen[str]
) -> None:
    os.kill(publisher.pid, signal.SIGSTOP)
    time.sleep(1.5)  # its lease runs for a second
    os.kill(publisher.pid, signal.SIGCONT)
    _, said = publisher.communicate("publish\n")
    assert publisher.returncode == 0, said
    assert published(storage) == 1


def test_of_many_that_come_at_once_one_has_it_at_a_time(storage: Storage) -> None:
    storage.create(releases.TABLE, "first")
    inside, most, epochs = [0], [0], []

    def work(number: int) -> None:
        with taken(storage, f"run {number}", wait=HANG_SECONDS) as lease:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            epochs.append(lease.epoch)
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert sorted(epochs) == [1, 2, 3, 4, 5, 6]


def test_an_answer_that_got_lost_is_no_lease_lost(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken(storage, "first") as lease:
        append = Storage.append

        def silent(*given: object, **named: object) -> int:
            append(*given, **named)  # type: ignore[arg-type]
            raise StorageFailed("append to", "the log", "the connection broke", "Try again.")

        monkeypatch.setattr(Storage, "append", silent)
        lease._commit("heartbeat", lease.holder)
        monkeypatch.undo()
        lease.hold()


def test_a_heartbeat_that_arrives_late_does_not_pass_for_a_publication(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken(storage, "first") as lease:
        append, late = Storage.append, []

        def delayed(*given: object, **named: object) -> int:
            late.append((given, named))
            raise StorageFailed("append to", "the log", "the connection broke", "Try again.")

        monkeypatch.setattr(Storage, "append", delayed)
        with pytest.raises(StorageFailed):
            lease._commit("heartbeat", lease.holder)
        monkeypatch.undo()
        ((given, named),) = late
        append(*given, **named)  # type: ignore[arg-type]
        lease.publish(ROW)
        assert published(storage) == 1
        lease.hold()


def test_every_commit_of_a_lease_carries_its_epoch(storage: Storage) -> None:
    with taken(storage, "first"):
        pass
    with taken(storage, "second") as second:
        second.publish(ROW)
        version = storage.version(releases.TABLE)
        assert version is not None
        assert [storage.note(releases.TABLE, v, "epoch") for v in range(1, version + 1)] == ["1", "1", "2", "2"]


def test_a_storage_that_cannot_be_written_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a file where the tables should be")
    with pytest.raises(StorageFailed):
        taken(Storage(str(tmp_path / "tables")), "first")


def test_a_lease_taken_of_which_the_answer_got_lost_is_not_waited_for(storage: Storage) -> None:
    def lose(step: str, moment: str) -> None:
        if (step, moment) == ("take the lease", "after"):
            durable.watch(durable.nobody)
            raise OSError("the answer got lost")

    durable.watch(lose)
    told: list[str] = []
    with taken(storage, "r1", told=told) as lease:
        lease.publish(ROW)
    assert (told, published(storage)) == ([], 1)
