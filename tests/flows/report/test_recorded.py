"""What is told of a run when those who should take it do not."""

from pathlib import Path

import httpx
import pytest

from flows import data_loading
from flows.commands.run import _at_work
from flows.report.events import Events
from flows.report.recorded import plain_step, run_recorded
from flows.run.console import error_console
from flows.run.request import new_request
from lakehouse.errors import Blocked, ServiceDown, WrongUse
from lakehouse.parameters import new_parameters
from lakehouse.settings import load_settings


def test_a_report_nobody_takes_does_not_hide_why_a_run_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = new_request("medallion-etl", load_settings(lakehouse_home=tmp_path), new_parameters())
    events = Events(request.settings.logs, request.flow, request.run_id, error_console())

    def job(*_: object) -> None:
        raise Blocked(["it is not true"])

    def report(_: object) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    with pytest.raises(Blocked, match="it is not true"):
        run_recorded(request, events, plain_step(events), job, report)  # type: ignore[arg-type]  # it never returns
    assert "The report could not be written: All connection attempts failed" in capsys.readouterr().err


def test_a_server_that_goes_away_while_a_job_runs_is_told_in_a_sentence() -> None:
    with pytest.raises(ServiceDown) as told, _at_work("http://ana:the-password@127.0.0.1:4200/api"):
        raise httpx.ConnectError("All connection attempts failed")
    assert "it failed while the job ran: All connection attempts failed. Run again, or with --no-prefect." in str(told)
    assert "the-password" not in str(told.value)


def test_errors_of_the_job_stay_as_they_are() -> None:
    with pytest.raises(Blocked), _at_work("http://127.0.0.1:4200/api"):
        raise Blocked(["it is not true"])


@pytest.mark.parametrize(("truncate", "retries"), [(True, 2), (False, 0)])
def test_what_would_be_added_twice_is_not_tried_again(
    truncate: bool, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def steps(_: Events) -> object:
        def step(_name: str, _work: object, *, retries: int) -> dict[str, object]:
            asked.append(retries)
            return {}

        return step

    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(data_loading, "prefect_step", steps)
    data_loading.data_loading.fn(str(tmp_path), truncate=truncate)
    assert asked == [retries]


def test_objects_are_not_loaded_into_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    with pytest.raises(WrongUse, match="source_path is 's3://landing'"):
        data_loading.data_loading.fn("s3://landing")
