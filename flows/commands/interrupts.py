"""What Ctrl-C does to a command: it ends it in order; and when that does not come to an end, as a kill would."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

INTERRUPTED = 130  # as a shell says it of a command that SIGINT ended
SECONDS_TO_END = 10.0
CUT_OFF = "Interrupted, and cut off: it did not end in order within {seconds:g} s. What readers see is whole.\n"


def take_interrupts() -> Callable[[], bool]:
    """Have the first SIGINT raise KeyboardInterrupt in the main thread; give a function that says whether it did.

    More of them change nothing: they would break off the ending. A process that is still there `SECONDS_TO_END` after
    the first one, wherever that was raised or lost, is ended with exit code `INTERRUPTED`. Who ignores SIGINT goes on
    doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background
        return lambda: False
    is_raised = False

    def interrupt(*_: object) -> None:
        nonlocal is_raised
        if not is_raised:
            is_raised = True
            raise KeyboardInterrupt

    come, coming = os.pipe()
    os.set_blocking(coming, False)
    threading.Thread(target=_limit_the_ending, args=(come,), name="interrupt", daemon=True).start()
    signal.set_wakeup_fd(coming, warn_on_full_buffer=False)  # told also while the main thread looks for no signals
    signal.signal(signal.SIGINT, interrupt)
    return lambda: is_raised


def _limit_the_ending(come: int) -> None:
    """Wait for the first interrupt, and end the process when it is still there `SECONDS_TO_END` later."""
    while signal.SIGINT not in (said := os.read(come, 1)):
        if not said:  # somebody closed the other end
            return
    time.sleep(SECONDS_TO_END)
    with suppress(OSError, ValueError):
        if select.select((), (2,), (), 0)[1]:  # nobody may be reading
            os.write(2, CUT_OFF.format(seconds=SECONDS_TO_END).encode())
    os._exit(INTERRUPTED)
