"""What Ctrl-C does: it is heard where it leaves nothing half done, and ends a command that does not end."""

import os
import subprocess
import sys

import pytest

TAKEN = """
import functools, hashlib, os, signal, threading, time, weakref
from flows.commands import interrupts
interrupts.SECONDS_TO_END, interrupts.UNHEARD_SECONDS, interrupts.MOMENT = {seconds}, 0.4, 0.05
was_interrupted = interrupts.take_interrupts()
interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
"""
CUT_OFF = "Interrupted, and cut off: it did not end in order within 0.5 s. What readers see is whole.\n"
HEARD_LATER = {
    "in a finalizer": """
class Closed:
    def __del__(self):
        print("closed", flush=True)
        interrupt()
one = Closed()
del one
""",
    "as an object is forgotten": """
class Closed:
    pass
def forgotten(_):
    print("closed", flush=True)
    interrupt()
one = Closed()
known = weakref.ref(one, forgotten)
del one
""",
    "where every error is taken for another": """
try:
    interrupt()
except:
    print("closed", flush=True)
""",
    "as a lock of imports is taken": """
exec(compile("interrupt(); print('closed', flush=True)", "<frozen importlib._bootstrap>", "exec"))
""",
    "as a lock of the library is taken": """
class Lock:
    def acquire(self):
        interrupt()
        print("closed", flush=True)
Lock().acquire()
""",
    "as a context is entered": """
class Context:
    def __enter__(self):
        interrupt()
    def __exit__(self, *_):
        print("closed", flush=True)
with Context():
    time.sleep(60)
""",
}


def ended(script: str, before: str = "", seconds: float = 30) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + TAKEN.format(seconds=seconds) + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("moment", HEARD_LATER)
def test_an_interrupt_at_a_bad_moment_is_heard_at_the_next(moment: str) -> None:
    done = ended(f"""
try:
{"".join(f"    {line}" for line in HEARD_LATER[moment].splitlines(keepends=True))}
    time.sleep(60)
except KeyboardInterrupt:
    print("heard")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\nheard\n", "")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "RuntimeError"])
def test_more_interrupts_do_not_break_the_ending(error: str) -> None:
    done = ended(f"""
assert not was_interrupted()
try:
    try:
        interrupt()
    except KeyboardInterrupt:
        raise {error} from None
except {error}:
    for _ in range(10):
        interrupt()
        time.sleep(0.1)
    print("in order", was_interrupted())
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order True\n", "")


def test_what_does_not_end_in_order_is_cut_off() -> None:
    done = ended("try:\n    interrupt()\nexcept KeyboardInterrupt:\n    threading.Event().wait()\n", seconds=0.5)
    assert (done.returncode, done.stderr) == (130, CUT_OFF)


def test_what_looks_for_no_signals_is_cut_off() -> None:
    script = """
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""
    done = ended(script, seconds=0.5)
    assert (done.returncode, done.stderr) == (130, CUT_OFF)


def test_it_is_cut_off_also_where_nobody_reads_what_it_says() -> None:
    script = "os.set_blocking(2, False)\ntry:\n    while True: os.write(2, bytes(4096))\nexcept BlockingIOError:\n"
    script += (
        "    os.set_blocking(2, True)\ntry:\n    interrupt()\nexcept KeyboardInterrupt:\n    threading.Event().wait()"
    )
    full, unread = os.pipe()
    command = [sys.executable, "-c", TAKEN.format(seconds=0.5) + script]
    job = subprocess.Popen(command, stderr=unread)
    assert job.wait(60) == 130
    os.close(full)
    os.close(unread)


def test_who_ignores_interrupts_goes_on_doing_so() -> None:
    done = ended("interrupt()\nprint('on')", before="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")
