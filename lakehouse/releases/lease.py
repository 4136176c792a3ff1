"""One writer at a time: the lease on a lakehouse is kept in the log of releases.

Taking it, each heartbeat and giving it back are commits to `ops.releases` that add no row; a release is a commit
there too. Each is made on top of the holder's last one or not at all, so a holder whose lease was taken over cannot
publish: the log has moved on. Nobody compares clocks: a lease has expired when whoever waits has seen no commit for
as long as it runs.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from lakehouse.errors import ForeignWrite, LeaseLost, LeaseTaken, StorageFailed
from lakehouse.ops import releases
from lakehouse.storage.tables import Storage

NOTE = "lease"
BEATS = 3  # heartbeats while a lease runs
POLL_SECONDS = 0.2
HEARTBEAT = "heartbeat"


@dataclass(frozen=True)
class Holder:
    """Who has the lease, and for how many seconds without a heartbeat; `process` tells a dead one on this machine.

    `commit` numbers the holder's commits, so that one is not taken for another.
    """

    epoch: int
    run_id: str
    flow: str
    host: str
    process: str
    seconds: float
    is_held: bool = True
    commit: int = 0


class Lease:
    """A lease that was taken: it beats until it is given back, and knows when it is lost."""

    def __init__(self, storage: Storage, holder: Holder, version: int) -> None:
        self.storage, self.holder = storage, holder
        self._version, self._commits, self._lost = version, holder.commit, ""
        self._beaten = time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def epoch(self) -> int:
        return self.holder.epoch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Give it back; who lost it, and so met another's commits, is told that and not to look at the storage."""
        self.give_back()
        if isinstance(error, StorageFailed | ForeignWrite) and self._lost:
            raise LeaseLost(self.storage.root, self._lost) from error

    def hold(self) -> None:
        """Make sure the lease is still held; errors: LeaseLost. Who slept past its end asks the log."""
        with self._lock:
            if self._lost:
                raise LeaseLost(self.storage.root, self._lost)
            if time.monotonic() - self._beaten > self.holder.seconds:
                self._commit(HEARTBEAT, self.holder)

    def publish(self, row: dict[str, object]) -> None:
        """Add a release to the log, on top of the lease's last commit; errors: LeaseLost, StorageFailed."""
        with self._lock:
            self._commit("publish", self.holder, [row])

    def give_back(self) -> None:
        """Let others have it; one that is lost, or whose storage is gone, is not ours to give."""
        self._over.set()
        self._thread.join()
        with self._lock, suppress(LeaseLost, StorageFailed):
            self._commit("give back the lease", replace(self.holder, is_held=False))

    def _beat(self) -> None:
        while not self._over.wait(self.holder.seconds / BEATS) and not self._lost:
            with self._lock, suppress(LeaseLost, StorageFailed):  # a missed one is made up for by the next
                self._commit(HEARTBEAT, self.holder)

    def _commit(self, step: str, holder: Holder, rows: list[dict[str, object]] | None = None) -> None:
        if self._lost:
            raise LeaseLost(self.storage.root, self._lost)
        self._commits += 1
        noted = replace(holder, commit=self._commits)
        while not self._is_done(step, noted, rows):
            self._version += 1  # an earlier one of ours, of which it was said that it failed
        self._version += 1
        self._beaten = time.monotonic()

    def _is_done(self, step: str, noted: Holder, rows: list[dict[str, object]] | None) -> bool:
        """Commit on top of the last version known; False when another commit of ours is there already."""
        try:
            _noted(self.storage, step, noted, self._version, rows)
        except StorageFailed as error:
            newest = self.storage.version(releases.TABLE)
            if newest == self._version:
                raise
            there = _holder(self.storage, self._version + 1)
            if there is None or (there.epoch, there.run_id) != (noted.epoch, noted.run_id):
                found = _holder(self.storage, newest)
                self._lost = f"{found.flow} {found.run_id} took it over" if found else "the log of releases moved on"
                raise LeaseLost(self.storage.root, self._lost) from error
            return there == noted  # then it was done, and only the answer got lost
        return True


def take(
    storage: Storage, run_id: str, flow: str, seconds: float, wait_seconds: float, tell: Callable[[str], None]
) -> Lease:
    """Take the lease, for `seconds` without a heartbeat; wait for another holder, and tell who that is.

    One whose process is gone, or that did not beat for as long as its lease runs, is taken over.
    Errors: LeaseTaken, StorageFailed.
    """
    version = storage.create(releases.TABLE, run_id)
    begun = seen = time.monotonic()
    told = False
    while True:
        found = _holder(storage, version)
        now = time.monotonic()
        if found is None or not found.is_held or _is_gone(found.process) or now - seen > found.seconds:
            epoch = found.epoch + 1 if found else 1
            holder = Holder(epoch, run_id, flow, socket.gethostname(), this_process(), seconds)
            leased = replace(storage, epoch=epoch)
            try:
                return Lease(leased, holder, _noted(leased, "take the lease", holder, version))
            except StorageFailed:
                newest = storage.version(releases.TABLE)
                if newest == version:  # nobody was faster: it is the storage
                    raise
                if newest is not None and _holder(storage, newest) == holder:  # done, and only the answer got lost
                    return Lease(leased, holder, newest)
        elif now - begun >= wait_seconds:
            raise LeaseTaken(storage.root, f"{found.flow} {found.run_id}", found.host, wait_seconds)
        elif not told:
            tell(f"{found.flow} {found.run_id} on {found.host} is writing: waiting up to {wait_seconds:g} s for it.")
            told = True
        time.sleep(POLL_SECONDS)
        newest = storage.version(releases.TABLE)
        if newest != version:
            version, seen = newest or 0, time.monotonic()


def writer(storage: Storage) -> str:
    """Say which run has the lease, also one that was killed with it; empty when nobody has."""
    found = _holder(storage, storage.version(releases.TABLE))
    if found is None or not found.is_held:
        return ""
    ended = ", which was killed: the next run takes over" if _is_gone(found.process) else ""
    return f"{found.flow} {found.run_id} on {found.host}{ended}"


def _noted(storage: Storage, step: str, holder: Holder, after: int, rows: list[dict[str, object]] | None = None) -> int:
    """Commit to the log of releases who holds the lease, on top of a version; give the version made."""
    note = {NOTE: json.dumps(asdict(holder))}
    return storage.append(releases.TABLE, rows or [], holder.run_id, after=after, note=note, step=step)


def _holder(storage: Storage, version: int | None) -> Holder | None:
    """Read who held the lease after a version of the log; None where nobody ever did."""
    noted = storage.note(releases.TABLE, version, NOTE) if version is not None else None
    return Holder(**json.loads(noted)) if noted else None


def this_process() -> str:
    """Name this process among all there ever were on this machine; empty where the system does not tell."""
    return _process(os.getpid())


def _process(pid: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot} {space} {pid} {fields[18]}"


def _is_gone(process: str) -> bool:
    """Say whether a process of this machine is no more; of another machine's nobody can tell."""
    here = this_process().split(" ")[:2]
    named = process.split(" ")
    return bool(process) and named[:2] == here and _process(int(named[2])) != process
