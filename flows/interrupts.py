"""What Ctrl-C does to a command: it ends it in order, once; and when that does not come to an end, as a kill would."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SECONDS_TO_END, UNHEARD_SECONDS, MOMENT = 10.0, 1.0, 0.05
IMPORT_LOCKS = "<frozen importlib._bootstrap>"
CUT_OFF = "Interrupted, and cut off: it did not end in order within {seconds:g} s. What readers see is whole.\n"


def take_interrupts() -> Callable[[], bool]:
    """Have SIGINT raise KeyboardInterrupt in the main thread, once; give a function that says whether one came.

    It is raised where it leaves no lock behind, and again where it went unheard, as in a finalizer, or in an import
    that goes on without what it did not find: a thread that has no lock to wait for sees to it. It ends the process,
    with exit code 130, when it is still there after `SECONDS_TO_END`. Who ignores SIGINT goes on doing so.
    """
    is_asked = is_raised = False
    main, ignored = threading.main_thread().ident, sys.unraisablehook
    assert main is not None, "it runs"

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal is_asked, is_raised
        if not is_asked:
            is_asked = True
            _thread.start_new_thread(see_to_it, ())  # one of `threading` takes locks, which the main thread may hold
        if not is_raised and not _takes_a_lock(frame):
            is_raised = True
            raise KeyboardInterrupt

    def see_to_it() -> None:
        nonlocal is_raised
        now = heard = time.monotonic()
        end = now + SECONDS_TO_END
        while now < end:
            time.sleep(MOMENT)
            now = time.monotonic()
            if is_raised and _is_handled_by(main):
                heard = now
            elif not is_raised or now - heard > UNHEARD_SECONDS:
                is_raised, heard = False, now
                signal.pthread_kill(main, signal.SIGINT)
        with suppress(OSError):
            os.write(2, CUT_OFF.format(seconds=SECONDS_TO_END).encode())
        os._exit(130)

    def raise_again(unheard: "UnraisableHookArgs") -> None:
        nonlocal is_raised
        if issubclass(unheard.exc_type, KeyboardInterrupt):
            is_raised = False
        else:
            ignored(unheard)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it for what runs in the background
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = raise_again
    return lambda: is_asked


def _takes_a_lock(frame: FrameType | None) -> bool:
    """Say whether a lock, one of imports too, or another context is just being entered or left, and may stay so."""
    if frame is None:
        return False
    return frame.f_code.co_name in ("__enter__", "__exit__") or frame.f_code.co_filename == IMPORT_LOCKS


def _is_handled_by(thread: int) -> bool:
    """Say whether a thread is on its way out: whether what it handles is, or came of, a KeyboardInterrupt."""
    found: Any = sys._current_exceptions().get(thread)
    error = found[1] if isinstance(found, tuple) else found  # as Python up to 3.11 tells it, and as it does from 3.12
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
