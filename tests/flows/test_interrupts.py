"""What Ctrl-C does: it is heard once, where it leaves nothing half done, and ends a command that does not end."""

import subprocess
import sys

import pytest

TAKEN = """
import functools, signal, threading, time, weakref
import flows.interrupts
flows.interrupts.SECONDS_TO_END, flows.interrupts.UNHEARD_SECONDS = {seconds}, 0.2
flows.interrupts.take_interrupts()
interrupt = functools.partial(signal.raise_signal, signal.SIGINT)
"""
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
    "while a lock is taken": """
class Lock:
    def __enter__(self):
        interrupt()
        print("closed", flush=True)
    def __exit__(self, *_):
        print("given back", flush=True)
with Lock():
    time.sleep(60)
""",
}


def ended(script: str, before: str = "", seconds: float = 30) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + TAKEN.format(seconds=seconds) + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("moment", HEARD_LATER)
def test_an_interrupt_at_a_bad_moment_is_heard_at_the_next(moment: str) -> None:
    heard = f"""
try:
{"".join(f"    {line}" for line in HEARD_LATER[moment].splitlines(keepends=True))}
    time.sleep(60)
except KeyboardInterrupt:
    print("heard")
"""
    done = ended(heard)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.split("\n")[:-1]
    assert said == ["closed", *(["given back"] if moment == "while a lock is taken" else []), "heard"]


def test_a_second_interrupt_does_not_break_the_ending() -> None:
    done = ended("""
try:
    interrupt()
except KeyboardInterrupt:
    interrupt()
    time.sleep(0.5)
    print("in order")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order\n", "")


def test_what_does_not_end_in_order_is_cut_off() -> None:
    script = """
try:
    interrupt()
except KeyboardInterrupt:
    threading.Event().wait()
"""
    done = ended(script, seconds=0.5)
    assert done.returncode == 130
    assert done.stderr == "Interrupted, and cut off: it did not end in order within 0.5 s. What readers see is whole.\n"


def test_who_ignores_interrupts_goes_on_doing_so() -> None:
    done = ended("interrupt()\nprint('on')", before="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")
