"""Wait until something has happened, however slow the machine is."""

import time
from collections.abc import Callable

HANG_SECONDS = (
    1_500  # nothing takes so long: who waited so long waits for what never comes; pytest's own limit is longer
)


def wait_until(happened: Callable[[], object], pause: float = 0.05) -> None:
    """Return as soon as something has happened."""
    end = time.monotonic() + HANG_SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(pause)
