"""Run events: one JSON object per line in the logs folder, and a coloured line on the console."""

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from numbers import Integral, Real
from pathlib import Path

from pydantic import BaseModel, SecretBytes, SecretStr
from rich.console import Console
from rich.text import Text

from lakehouse.errors import StorageFailed

MASK = "********"
Facts = dict[str, object]

_SECRET_NAME = re.compile(r"password|secret|token|credential|auth_string|access_key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_STYLES = {"started": "cyan", "finished": "green", "failed": "bold red"}
_HIDDEN_ON_CONSOLE = ("parameters", "timestamp", "event", "flow_name", "task_name", "run_id", "seconds")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Events:
    """Write the events of one run of one flow; `console` None keeps them off the screen."""

    logs: Path
    flow_name: str
    run_id: str
    console: Console | None = None
    clock: Callable[[], datetime] = _now

    def emit(self, event: str, /, **facts: object) -> None:
        """Append one event; a fact that is or is named like a secret is masked. Errors: StorageFailed."""
        at = self.clock().astimezone(UTC)
        own: Facts = {"timestamp": at.isoformat(timespec="milliseconds"), "event": event, "flow_name": self.flow_name}
        own |= {"task_name": facts["task_name"]} if "task_name" in facts else {}
        own |= {"run_id": self.run_id} | ({"seconds": facts["seconds"]} if "seconds" in facts else {})
        said = _plain(own | {name: value for name, value in facts.items() if name not in own})
        _append(self.logs / "prefect_runs" / f"prefect_runs_{at:%Y-%m-%d}.jsonl", said)
        if self.console:
            self.console.print(_line(at, said), soft_wrap=True)

    @contextmanager
    def flow(self, **facts: object) -> Iterator[Facts]:
        """Emit flow_started, and flow_finished or flow_failed with the seconds between."""
        with self._span("flow", facts) as learned:
            yield learned

    @contextmanager
    def task(self, name: str, **facts: object) -> Iterator[Facts]:
        """Emit task_started, and task_finished or task_failed; facts put into the yielded dict are told at the end."""
        with self._span("task", {"task_name": name} | facts) as learned:
            yield learned

    @contextmanager
    def _span(self, kind: str, facts: Facts) -> Iterator[Facts]:
        learned: Facts = {}
        self.emit(f"{kind}_started", **facts)
        start = time.perf_counter()
        try:
            yield learned
        except BaseException as error:
            # What went wrong must reach the caller, even when the log cannot be written any more.
            with suppress(StorageFailed):
                said = {"error": type(error).__name__, "message": str(error)}
                self.emit(f"{kind}_failed", **facts | learned | said | {"seconds": _since(start)})
            raise
        self.emit(f"{kind}_finished", **facts | learned | {"seconds": _since(start)})


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


def _append(path: Path, event: Facts) -> None:
    line = f"{json.dumps(event, ensure_ascii=False)}\n".encode(errors="backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = os.write(log, line)  # one write: lines of processes that write together stay whole
        finally:
            os.close(log)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from None
    if written < len(line):
        raise _unwritable(path, f"only {written} of {len(line)} bytes went in")


def _unwritable(path: Path, reason: str) -> StorageFailed:
    return StorageFailed(
        "write the run log", str(path), reason, "Set LOGS_PATH, or LAKEHOUSE_HOME, to a folder that can be written."
    )


def _line(at: datetime, event: Facts) -> Text:
    name = str(event["event"])
    subject = event.get("task_name", event["flow_name"])
    line = Text.assemble(
        (f"{at:%H:%M:%S} ", "dim"), (name, _STYLES.get(name.rpartition("_")[2], "yellow")), f" {subject}"
    )
    if "seconds" in event:
        line.append(f" {event['seconds']} s", "dim")
    for fact, value in event.items():
        if fact not in _HIDDEN_ON_CONSOLE:
            line.append(f" {fact}=", "dim").append(_visible(value))
    return line


def _visible(value: object) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else " " for c in shown)


def _plain(facts: Mapping[str, object]) -> Facts:
    return {name: MASK if _SECRET_NAME.search(name) else _value(value) for name, value in facts.items()}


def _value(value: object) -> object:
    match value:
        case None | bool():
            return value
        case Integral():
            return int(value)
        case Real():
            return float(value) if math.isfinite(value) else str(value)
        case str():
            return _URL_PASSWORD.sub(rf"\1:{MASK}@", value)
        case SecretStr() | SecretBytes():
            return MASK
        case date():
            return value.isoformat()
        case BaseModel():
            return _plain({name: getattr(value, name) for name in type(value).model_fields})
        case Mapping():
            return _plain({str(name): inner for name, inner in value.items()})
        case list() | tuple():
            return [_value(inner) for inner in value]
        case set() | frozenset():
            return sorted((_value(inner) for inner in value), key=str)
        case _:
            return _value(str(value))
