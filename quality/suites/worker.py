"""A process of its own that counts sources and runs suites while the engine works.

Great Expectations takes seconds to import. `Worker` is the parent's side: each request is answered through a future,
in the order of the requests. `main` is the child's: JSON lines in, JSON lines out. It ends when its input does, so
that nothing is left over when the parent is killed.
"""

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE, Popen, TimeoutExpired
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from lakehouse.errors import LakehouseError, ServiceDown
from quality.ledger.recount import Count, count_lines, recount
from quality.suites.imports import import_suites
from quality.verdict import Verdict

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
    from pyspark.sql import SparkSession

TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
UNBEARABLE = ("PYTHONOPTIMIZE", "PYTHONWARNINGS")  # Great Expectations reads its docstrings, and what it imports warns
PATIENCE_SECONDS = 5
LAST_WORDS = 2_000


class _Pending(NamedTuple):
    what: str
    future: Future[Any]
    read: Callable[[Any], Any]


class Worker:
    """The parent's side of the process; it runs from the construction to `close`."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
        command = [sys.executable, "-m", "quality.suites.worker"]
        env = {name: value for name, value in os.environ.items() if name not in UNBEARABLE}
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=self._log, env=env, start_new_session=True)
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._pending: dict[int, _Pending] = {}
        self._end: str | None = None
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="quality-worker", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def submit_recount(self, location: str, until: int = sys.maxsize) -> Future[Count]:
        """Count a file; what comes before `attach` does not wait for Great Expectations."""
        return self._submit(
            f"recount of {location}", lambda value: Count(*value), do="recount", location=location, until=until
        )

    def prepare(self) -> Future[None]:
        """Begin to import Great Expectations, beside recounts."""
        return self._submit("prepare", _nothing, do="prepare")

    def attach(self, address: str) -> Future[None]:
        """Connect to an engine (sc://...), once Great Expectations is imported; earlier checks are forgotten."""
        token = os.environ.get(TOKEN)  # the engine sets it when it starts, which may be after this process was made
        where = address.partition(";")[0]  # what follows may hold a token
        return self._submit(f"attach to {where}", _nothing, do="attach", address=address, token=token)

    def submit_check(
        self, table_name: str, uri: str, version: int, touched: str | None = None
    ) -> Future[list[Verdict]]:
        """Run the suite of a table, given by its qualified name, over a version, or its rows that fulfil `touched`."""
        what = f"suite of {table_name}"
        asked = {"table": table_name, "uri": uri, "version": version, "touched": touched}
        return self._submit(what, lambda value: [Verdict(*one) for one in value], do="check", **asked)

    def submit_documents(self, into: Path) -> Future[None]:
        """Write the results of the checks so far as a static site into a folder."""
        return self._submit(f"documents in {into}", _nothing, do="documents", into=str(into.absolute()))

    def close(self) -> None:
        """End the process at once; what is still pending fails."""
        self._closed = True
        with self._lock, suppress(OSError):  # it may have ended already
            self._requests.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except TimeoutExpired:
            self._process.kill()
        self._reader.join()
        self._answers.close()
        self._log.close()

    def _submit(self, what: str, read: Callable[[Any], Any], **request: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._end is not None or self._closed:
                future.set_exception(self._down(what))
                return future
            number = next(self._numbers)
            self._pending[number] = _Pending(what, future, read)
            with suppress(OSError):  # the process has ended: `_read` sees it too, and fails what is pending
                self._requests.write(json.dumps({"id": number, **request}).encode() + b"\n")
                self._requests.flush()
        return future

    def _read(self) -> None:
        for line in self._answers:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle of an answer
            answer = json.loads(line)
            with self._lock:
                what, future, read = self._pending.pop(answer["id"])
            if "error" in answer:
                future.set_exception(LakehouseError(f"{what}: {answer['error']}"))
            else:
                future.set_result(read(answer["value"]))
        code = self._process.wait()
        with self._lock:
            self._end = f"it ended with exit code {code}" + _last_words(self._log)
            left, self._pending = list(self._pending.values()), {}
        for pending in left:
            pending.future.set_exception(self._down(pending.what))

    def _down(self, what: str) -> ServiceDown:
        reason = f"{what}: " + ("it was closed" if self._closed else self._end or "it ended")
        return ServiceDown("The quality worker", f"process {self.pid}", reason, "Start the run again.")


def start_ahead() -> None:
    """Start a worker that prepares itself while this process still imports; `take_worker` gives it."""
    ahead = Worker()
    ahead.prepare()
    _ahead.append(ahead)


def take_worker() -> Worker:
    """Give the worker that was started ahead, or a new one."""
    return _ahead.pop() if _ahead else Worker()


_ahead: list[Worker] = []


class _Child:
    """What the process keeps between requests."""

    def __init__(self) -> None:
        self.imports = threading.Thread(target=import_suites, daemon=True)
        self.session: SparkSession | None = None
        self.results: dict[str, ExpectationSuiteValidationResult] = {}

    def answer(self, request: dict[str, Any]) -> object:
        match request:
            case {"do": "recount", "location": location, "until": until}:
                return _recount(location, until)
            case {"do": "prepare"}:
                self.prepare()
            case {"do": "attach", "address": address, "token": token}:
                self.attach(address, token)
            case {"do": "check", "table": table, "uri": uri, "version": version, "touched": touched}:
                return self.check(table, uri, version, touched)
            case {"do": "documents", "into": into}:
                self.document(Path(into))
            case _:
                raise ValueError(f"unknown request {request}")
        return None

    def prepare(self) -> None:
        if self.imports.ident is None:
            self.imports.start()

    def attach(self, address: str, token: str | None) -> None:
        if token:
            os.environ[TOKEN] = token
        self.prepare()
        self.imports.join()
        from pyspark.sql import SparkSession

        self.session = SparkSession.builder.remote(address).create()
        self.session.conf.set("spark.sql.session.timeZone", "UTC")
        self.results.clear()

    def check(self, name: str, uri: str, version: int, touched: str | None) -> list[Verdict]:
        if self.session is None:
            raise ValueError("no engine is attached")
        from lakehouse import catalog
        from quality.suites.suites import suite_of, validate, verdicts_of

        started = perf_counter()
        suite = suite_of(catalog.entry(name).table)
        frame = self.session.read.format("delta").option("versionAsOf", version).load(uri)
        result = validate(frame.where(touched) if touched else frame, suite)
        self.results[name] = result
        return verdicts_of(result, suite, version, perf_counter() - started)

    def document(self, into: Path) -> None:
        from quality.suites.documents import write_documents

        write_documents(list(self.results.values()), into)


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    child = _Child()
    while True:
        request = requests.get()
        try:
            answer = {"id": request["id"], "value": child.answer(request)}
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this request's answer
            message = " ".join(str(error).split())[:1_000]
            answer = {"id": request["id"], "error": message or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def _recount(location: str, until: int) -> Count:
    """Count a file, or an object; only that needs more than the standard library."""
    if "://" not in location:
        return recount(location, until)
    from lakehouse.settings import load_settings
    from lakehouse.storage.objects import open_location

    load_settings()  # says where objects are, and who asks
    with open_location(location) as file:
        return count_lines(file, until)


def _receive(requests: SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os._exit(0)  # also out of a check that waits for an engine that is gone


def _nothing(_: object) -> None:
    return None


def _last_words(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - LAST_WORDS))
    said = log.read().decode("utf-8", "replace").strip()
    return f", its last words: {said}" if said else ""


if __name__ == "__main__":
    main()
