"""An engine and a process of the checks that serve several runs."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import flows.run.resources
from flows.commands.run import run_directly
from flows.run.resources import kept_open
from lakehouse.engine.session import Engine, running_engine
from lakehouse.ops import quality_results
from lakehouse.parameters import new_parameters
from lakehouse.releases import release
from lakehouse.settings import Settings, load_settings
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from quality.suites.worker import Worker
from tests.conftest import run_lakehouse
from tests.flows.command import digests

ASKED = {"min_rows_threshold": 1, "max_quarantine_pct": 50}


def test_runs_share_an_engine_and_a_process_and_are_as_if_each_had_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, workers = list[str](), list[int]()

    def begun(settings: Settings) -> AbstractContextManager[Engine]:
        engines.append(settings.engine)
        return running_engine(settings)

    def started() -> Worker:
        worker = Worker()
        workers.append(worker.pid)
        return worker

    monkeypatch.setattr(flows.run.resources, "running_engine", begun)
    monkeypatch.setattr(flows.run.resources, "take_worker", started)
    write_sample(tmp_path / "source", receipts=400, days=40)
    *_, last = sorted((tmp_path / "source" / "transactions").iterdir())
    held_back = last.rename(tmp_path / "held-back")
    settings, parameters = load_settings(lakehouse_home=tmp_path / "home"), new_parameters(**ASKED)
    with kept_open(settings) as resources:
        run_directly(settings, parameters, tmp_path / "source", False, resources)
        held_back.rename(last)
        run_directly(settings, parameters, tmp_path / "source", False, resources)
    assert (len(engines), len(workers)) == (1, 1)
    storage = Storage(settings.root)
    results = storage.rows(quality_results.TABLE, storage.version(quality_results.TABLE) or 0).to_pylist()
    second = release.latest(storage).run_id
    suites = {row["table"] for row in results if (row["run_id"], row["gate"]) == (second, "suite")}
    pages = list((settings.documents / "validations").rglob("*.html"))
    assert len(pages) == len(suites)
    run_lakehouse(tmp_path / "fresh", tmp_path / "source", **ASKED)
    assert digests(tmp_path / "home") == digests(tmp_path / "fresh")
