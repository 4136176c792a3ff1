"""What Ctrl-C does to a command: it ends it in order; and when that does not come to an end, as a kill would."""

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130  # as a shell says it of a command that SIGINT ended
SECONDS_TO_END, UNHEARD_SECONDS, MOMENT = 10.0, 1.0, 0.1
CUT_OFF = "Interrupted, and cut off: it did not end in order within {seconds:g} s. What readers see is whole.\n"
IMPORT_LOCKS = "<frozen importlib._bootstrap>"
AT_LOCKS = {"__enter__", "__exit__", "acquire", "release"}
AT_LOCKS |= {"_acquireLock", "_releaseLock", "_acquire_restore", "_release_save"}  # as the library names them


def take_interrupts() -> Callable[[], bool]:
    """Have SIGINT raise KeyboardInterrupt in the main thread; give a function that says whether it did.

    It is raised where it leaves no lock behind, and again where it went unheard, as in a finalizer, or in an import
    that goes on without what it did not find; not while the command is on its way out. A thread that has no lock to
    wait for sees to it, and ends the process, with exit code `INTERRUPTED`, when it is still there
    after `SECONDS_TO_END`. Who ignores SIGINT goes on doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background
        return lambda: False
    is_raised, quiet_until = False, 0.0
    unraisable = sys.unraisablehook
    come, coming = os.pipe()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal is_raised, quiet_until
        now = time.monotonic()
        if is_raised and sys.exc_info()[1] is not None:
            quiet_until = now + UNHEARD_SECONDS
        elif now >= quiet_until and not _is_at_a_lock(frame):
            is_raised, quiet_until = True, now + UNHEARD_SECONDS
            raise KeyboardInterrupt

    def note_unheard(ignored: "UnraisableHookArgs") -> None:
        nonlocal quiet_until
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            quiet_until = 0.0
        else:
            unraisable(ignored)

    os.set_blocking(coming, False)
    signal.set_wakeup_fd(coming, warn_on_full_buffer=False)  # told also while the main thread looks for no signals
    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = note_unheard
    _thread.start_new_thread(_see_to_it, (come,))
    return lambda: is_raised


def _see_to_it(come: int) -> None:
    """Wait for an interrupt, go on reminding the main thread of it, and end the process when that takes too long."""
    main = threading.main_thread().ident
    assert main is not None, "it runs"
    while signal.SIGINT not in os.read(come, 1):
        pass
    end = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < end:
        time.sleep(MOMENT)
        signal.pthread_kill(main, signal.SIGINT)
    with suppress(OSError, ValueError):
        if select.select((), (2,), (), 0)[1]:  # nobody may be reading
            os.write(2, CUT_OFF.format(seconds=SECONDS_TO_END).encode())
    os._exit(INTERRUPTED)


def _is_at_a_lock(frame: FrameType | None) -> bool:
    """Say whether a lock, one of imports too, or another context is just being taken or left, and may stay so."""
    if frame is None:
        return False
    return frame.f_code.co_name in AT_LOCKS or frame.f_code.co_filename == IMPORT_LOCKS
