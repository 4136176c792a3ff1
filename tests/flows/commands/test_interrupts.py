"""What Ctrl-C does: it raises KeyboardInterrupt once, and a command that does not end at it is cut off."""

import os
import subprocess
import sys

import pytest

from tests.waiting import HANG_SECONDS

TAKEN = """
import functools, hashlib, os, signal, threading, time
from flows.commands import interrupts
interrupts.SECONDS_TO_END = {seconds}
was_interrupted = interrupts.take_interrupts()
interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
"""
CUT_OFF = "Interrupted, and cut off: it did not end in order within 0.5 s. What readers see is whole.\n"
UNENDING = {
    "in an ending that waits for ever": """
try:
    interrupt()
except KeyboardInterrupt:
    threading.Event().wait()
""",
    "where every error is taken for another": """
try:
    interrupt()
except:
    pass
threading.Event().wait()
""",
    "where no signals are looked for": """
def interrupt_work():
    while time.process_time() < 1:  # only the hashing below takes so much
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt_work, daemon=True).start()
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
""",
    "with a lock that another waits for": """
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire).start()
interrupt()
""",
    "as the process ends": """
import atexit
atexit.register(threading.Event().wait)
interrupt()
""",
}


def ended(script: str, before: str = "", seconds: float = HANG_SECONDS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + TAKEN.format(seconds=seconds) + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


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
    for _ in range(100):
        interrupt()
    print("in order", was_interrupted())
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order True\n", "")


@pytest.mark.parametrize("where", UNENDING)
def test_what_does_not_end_in_order_is_cut_off(where: str) -> None:
    done = ended(UNENDING[where], seconds=0.5)
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1]) == (130, CUT_OFF)


def test_it_is_cut_off_also_where_nobody_reads_what_it_says() -> None:
    script = """
os.set_blocking(2, False)
try:
    while True:
        os.write(2, bytes(4096))
except BlockingIOError:
    os.set_blocking(2, True)
try:
    interrupt()
except KeyboardInterrupt:
    threading.Event().wait()
"""
    full, unread = os.pipe()
    job = subprocess.Popen([sys.executable, "-c", TAKEN.format(seconds=0.5) + script], stderr=unread)
    assert job.wait(HANG_SECONDS) == 130
    os.close(full)
    os.close(unread)


def test_who_ignores_interrupts_goes_on_doing_so() -> None:
    done = ended("interrupt()\nprint('on')", before="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_what_tests_start_hears_interrupts_also_where_the_suite_ignores_them() -> None:
    script = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import tests.conftest
child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
sys.exit(subprocess.call([sys.executable, "-c", child]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
