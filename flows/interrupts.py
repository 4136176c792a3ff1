"""What Ctrl-C does to a command: it ends it in order, once; and when that does not come to an end, as a kill would."""

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

SECONDS_TO_END, MOMENT = 10.0, 0.05
IMPORT_LOCKS = "<frozen importlib._bootstrap>"
CUT_OFF = "Interrupted, and cut off: it did not end in order within {seconds:g} s. What readers see is whole.\n"


def take_interrupts() -> None:
    """Have SIGINT raise KeyboardInterrupt in the main thread, once, and where it is heard and leaves no lock behind.

    A thread that has no lock to wait for sees to it: it asks again where the first moment was a bad one, and ends the
    process, with exit code 130, when it is still there after `SECONDS_TO_END`. Who ignores SIGINT goes on doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background
        return
    is_asked = is_raised = False
    main = threading.main_thread().ident
    assert main is not None, "it runs"

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal is_asked, is_raised
        if not is_asked:
            is_asked = True
            _thread.start_new_thread(see_to_it, ())  # one of `threading` takes locks, which the main thread may hold
        if not is_raised and not _is_bad_moment(frame):
            is_raised = True
            raise KeyboardInterrupt

    def see_to_it() -> None:
        end = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < end:
            time.sleep(MOMENT)
            if not is_raised:
                signal.pthread_kill(main, signal.SIGINT)
        with suppress(OSError):
            os.write(2, CUT_OFF.format(seconds=SECONDS_TO_END).encode())
        os._exit(130)

    signal.signal(signal.SIGINT, interrupt)


def _is_bad_moment(frame: FrameType | None) -> bool:
    """Say whether an error would be ignored, as in a finalizer, or leave a lock or a context half taken."""
    if frame is None:
        return False
    code = frame.f_code
    if code.co_name in ("__enter__", "__exit__") or code.co_filename == IMPORT_LOCKS:
        return True
    return any(outer.f_code.co_name == "__del__" for outer in _outwards(frame))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
