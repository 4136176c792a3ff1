"""Locks of files: the kernel drops them when their holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, seconds: float = 0) -> int | None:
    """Take a lock for this process alone; None when it stays somebody else's. Closing the number releases it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(number)
                return None
            time.sleep(0.01)


def is_taken(path: Path) -> bool:
    """Say whether another process holds a lock."""
    try:
        number = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(number)


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it alone."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
