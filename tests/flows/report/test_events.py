"""Run events: whole lines, in the day's file, without secrets."""

import io
import json
import multiprocessing
import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from rich.console import Console

from flows.report.events import Events
from flows.run.console import error_console
from lakehouse.errors import BadInput, StorageFailed
from lakehouse.settings import load_settings

NOON = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)


def events(logs: Path, console: Console | None = None, at: datetime = NOON) -> Events:
    return Events(logs, "medallion-etl", "r1", console, clock=lambda: at)


def lines(logs: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in sorted(logs.rglob("*.jsonl")) for line in file.read_text().splitlines()]


def test_an_event_is_one_line_of_json_in_the_file_of_its_day(tmp_path: Path) -> None:
    events(tmp_path).emit("release_published", release_id=3, seconds=1.5)
    file = tmp_path / "prefect_runs" / "prefect_runs_2026-03-01.jsonl"
    assert file.read_text() == (
        '{"timestamp": "2026-03-01T12:30:00.250+00:00", "event": "release_published", "flow_name": "medallion-etl",'
        ' "run_id": "r1", "seconds": 1.5, "release_id": 3}\n'
    )


def test_the_day_is_the_day_in_utc(tmp_path: Path) -> None:
    late = datetime(2026, 3, 1, 22, 0, tzinfo=timezone(timedelta(hours=-3)))
    events(tmp_path, at=late).emit("note")
    assert [file.name for file in tmp_path.rglob("*.jsonl")] == ["prefect_runs_2026-03-02.jsonl"]
    assert lines(tmp_path)[0]["timestamp"] == "2026-03-02T01:00:00.000+00:00"


def test_a_flow_and_its_tasks_are_started_and_finished_with_seconds_and_what_they_learned(tmp_path: Path) -> None:
    run = events(tmp_path)
    with run.flow(source_path="landing"), run.task("bronze", group="summary") as learned:
        learned["rows"] = 12
    told = [(line["event"], line.get("task_name"), "seconds" in line) for line in lines(tmp_path)]
    assert told == [
        ("flow_started", None, False),
        ("task_started", "bronze", False),
        ("task_finished", "bronze", True),
        ("flow_finished", None, True),
    ]
    assert lines(tmp_path)[2]["rows"] == 12
    assert {line["run_id"] for line in lines(tmp_path)} == {"r1"}


@pytest.mark.parametrize("error", [BadInput("a.csv", "is empty", "Deliver it again."), KeyboardInterrupt()])
def test_a_failure_is_told_with_its_reason_and_reaches_the_caller(tmp_path: Path, error: BaseException) -> None:
    run = events(tmp_path)
    with pytest.raises(type(error)), run.flow(), run.task("silver"):
        raise error
    told = lines(tmp_path)
    assert [line["event"] for line in told] == ["flow_started", "task_started", "task_failed", "flow_failed"]
    assert told[-1]["error"] == type(error).__name__
    assert told[-1]["message"] == str(error)


def test_secrets_are_never_written(tmp_path: Path) -> None:
    shown = io.StringIO()
    settings = load_settings(postgres_password="hunter2", lakehouse_home=tmp_path)
    events(tmp_path, Console(file=shown)).emit(
        "secrets",
        value=SecretStr("hunter2"),
        nested={"inner": [SecretStr("hunter2"), {"password": "hunter2"}]},
        settings=settings,
        api_token="hunter2",
        message="cannot reach postgresql://me:hunter2@host:5432/db",
        error=ValueError("http://me:hunter2@host/api is down"),
    )
    written = "".join(file.read_text() for file in tmp_path.rglob("*.jsonl"))
    assert "hunter2" not in written + shown.getvalue()
    assert lines(tmp_path)[0]["value"] == "********"
    assert lines(tmp_path)[0]["message"] == "cannot reach postgresql://me:********@host:5432/db"


def test_facts_of_any_type_are_json(tmp_path: Path) -> None:
    facts = {
        "path": Path("a/b"),
        "day": date(2026, 3, 1),
        "at": NOON,
        "share": float("nan"),
        "ids": {3, 1},
        "none": None,
        "rows": np.int64(3),
    }
    events(tmp_path).emit("typed", **facts, lines="first\nsecond", broken=os.fsdecode(b"caf\xe9.csv"))
    told = lines(tmp_path)[0]
    assert told["path"] == "a/b"
    assert told["day"] == "2026-03-01"
    assert told["at"] == "2026-03-01T12:30:00.250000+00:00"
    assert told["share"] == "nan"
    assert told["ids"] == [1, 3]
    assert told["none"] is None
    assert told["rows"] == 3
    assert told["lines"] == "first\nsecond"
    assert told["broken"] == os.fsdecode(b"caf\xe9.csv")


def test_facts_do_not_change_what_an_event_says_of_itself(tmp_path: Path) -> None:
    events(tmp_path).emit("note", event="other", run_id="other", timestamp="other")
    assert lines(tmp_path)[0]["event"] == "note"
    assert lines(tmp_path)[0]["run_id"] == "r1"


def _emit_many(logs: Path, writer: int) -> None:
    for number in range(100):
        Events(logs, "medallion-etl", f"r{writer}", clock=lambda: NOON).emit("note", number=number, long="x" * 5_000)


def test_lines_of_processes_that_write_together_stay_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_emit_many, args=(tmp_path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    told = sorted((str(line["run_id"]), int(str(line["number"]))) for line in lines(tmp_path))
    assert told == [(f"r{writer}", number) for writer in range(4) for number in range(100)]


def test_a_logs_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(StorageFailed, match="LOGS_PATH") as told, events(tmp_path / "logs").flow():
        pytest.fail("the flow must not start")
    assert "\n" not in str(told.value)


def test_a_log_that_breaks_meanwhile_does_not_hide_why_a_flow_failed(tmp_path: Path) -> None:
    run = events(tmp_path / "logs")
    with pytest.raises(BadInput), run.flow():
        (tmp_path / "logs").rename(tmp_path / "gone")
        (tmp_path / "logs").write_text("a file")
        raise BadInput("a.csv", "is empty", "Deliver it again.")


def test_the_console_is_coloured_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = io.StringIO()
    events(tmp_path, Console(file=shown, force_terminal=True, color_system="standard")).emit(
        "task_failed", task_name="bronze"
    )
    assert "\x1b[1;31mtask_failed\x1b[0m" in shown.getvalue()


def test_the_console_has_no_colours_with_no_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = io.StringIO()
    events(tmp_path, Console(file=shown, force_terminal=True)).emit("task_failed", task_name="bronze")
    assert "[31m" not in shown.getvalue()
    assert "[1;31m" not in shown.getvalue()


def test_off_a_terminal_a_line_is_plain_and_hostile_facts_are_only_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    events(tmp_path, error_console()).emit("note", line="[red]x[/red]\x1b[31m\nflow_finished", rows=3, seconds=0.25)
    shown = capsys.readouterr()
    assert shown.err == "12:30:00 note medallion-etl 0.25 s line=[red]x[/red] [31m flow_finished rows=3\n"
    assert shown.out == ""
