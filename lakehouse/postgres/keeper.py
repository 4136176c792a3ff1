"""Keep the embedded PostgreSQL of a home running as long as somebody uses it.

`connection.py` runs this file as a process of its own. Everything known about who lives is a lock (`flock`) the kernel
drops when its holder dies, however it dies:

- `users.lock`: shared, by each process that uses the server, until the process ends;
- `start.lock`: by the process that starts a keeper;
- `keeper.lock`: by the keeper, with its process id inside;
- `server.lock`: inherited by initdb and by every process of the server, so that it tells whether one is left.
"""

import os
import select
import signal
import sys
import time
from pathlib import Path

from lakehouse.postgres.process_locks import is_taken, take
from lakehouse.postgres.programs import Failed, forget_copy
from lakehouse.postgres.server import adopt_or_start, stop

LOOK_SECONDS = 0.5
UNUSED_SECONDS = 2.0


def main(home: Path) -> None:
    """Leave the caller's family, then say `ready` or why not on standard output, and keep the server."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(home)
    folder = Path()  # a home that is moved, with another in its place, stays the one that was meant
    asked_to_stop = _signals()
    keeper = take(folder / "keeper.lock", seconds=1)
    if keeper is None:
        _say("ready")
        return
    os.truncate(keeper, 0)
    os.write(keeper, str(os.getpid()).encode())
    try:
        server = adopt_or_start(folder)
    except (Failed, OSError) as error:
        forget_copy(folder)
        remedy = error.remedy if isinstance(error, Failed) else "Look at the permissions of the folder."
        _say(f"{getattr(error, 'reason', error)}\n{remedy}")
        return
    _say("ready")
    users = _wait_until_unused(folder, asked_to_stop)
    stop(folder, server)
    forget_copy(folder)
    if users is not None:
        os.close(users)


def _signals() -> int:
    """Turn SIGTERM and SIGINT into bytes of a pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _say(text: str) -> None:
    """Write the one message the starting process waits for, and close the pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def _wait_until_unused(folder: Path, asked_to_stop: int) -> int | None:
    """Return when the server is gone, a signal asks, or nobody used it for a while: then with the users' lock."""
    lock, seen, used_at = folder / "users.lock", 0.0, time.monotonic()
    while is_taken(folder / "server.lock"):
        users = take(lock)
        last = os.stat(lock).st_mtime
        if users is None or last != seen:
            seen, used_at = last, time.monotonic()
        elif time.monotonic() - used_at >= UNUSED_SECONDS:
            return users
        if users is not None:
            os.close(users)
        if select.select([asked_to_stop], [], [], LOOK_SECONDS)[0]:
            return None
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
