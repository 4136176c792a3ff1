"""`lakehouse doctor`: what a run needs, and what of it is missing, all in one answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands import doctor
from lakehouse.errors import ServiceDown
from lakehouse.settings import Settings, load_settings
from lakehouse.sources.sample import write_sample
from tests.flows.command import lakehouse


def found(home: Path, code: int, **env: str) -> dict[str, Any]:
    done = lakehouse(home, "doctor", "--json", env=env)
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return {one["what"]: one for one in json.loads(done.stdout)}


def test_where_nothing_is_missing_it_says_what_it_found(tmp_path: Path) -> None:
    write_sample(tmp_path / "source", receipts=400, days=2, stores=2)
    seen = found(tmp_path / "home", 0, DATA_PATH=str(tmp_path / "source"))
    assert list(seen) == ["python", "home", "tables", "landing", "postgres", "engine", "prefect"]
    assert seen["engine"]["found"] == "sail counts to 3"
    assert seen["tables"]["found"] == f"{tmp_path}/home/tables, no release yet"
    assert seen["landing"]["found"] == f"{tmp_path}/source, 2 transactions files"


def test_everything_that_is_missing_is_told_at_once_in_a_sentence_each(tmp_path: Path) -> None:
    server = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1", "POSTGRES_PASSWORD": "the-password"}
    seen = found(tmp_path / "a#home", 1, DATA_PATH=str(tmp_path / "nowhere"), **server)
    assert {what for what, one in seen.items() if not one["is_well"]} == {"tables", "landing", "postgres"}
    assert "no Delta table opens there" in seen["tables"]["found"]
    assert f"{tmp_path}/nowhere/transactions: there is no such folder" in seen["landing"]["found"]
    assert "PostgreSQL at 127.0.0.1:1/lakehouse failed: Connection refused" in seen["postgres"]["found"]
    assert "the-password" not in json.dumps(seen)
    assert list(tmp_path.iterdir()) == [], "it only looks"


def test_a_home_that_is_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path / "nowhere")
    assert not found(tmp_path / "home", 1)["home"]["is_well"]


def test_an_engine_that_is_tried_writes_nothing_into_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Settings] = []

    def start(settings: Settings) -> Any:
        asked.append(settings)
        raise ServiceDown("The engine", "here", "it is only asked", "Nothing.")

    monkeypatch.setattr(doctor.session, "start", start)
    with pytest.raises(ServiceDown):
        doctor._engine(load_settings(lakehouse_home=tmp_path / "home"))
    assert not asked[0].logs.is_relative_to(tmp_path)


def test_files_no_run_would_take_are_named(tmp_path: Path) -> None:
    write_sample(tmp_path / "source", receipts=400, days=2, stores=2)
    (tmp_path / "source" / "transactions" / "empty.csv").write_bytes(b"")
    seen = found(tmp_path / "home", 1, DATA_PATH=str(tmp_path / "source"))
    assert "transactions/empty.csv" in seen["landing"]["found"]


def test_prefects_address_is_told_without_the_password_in_it(tmp_path: Path) -> None:
    seen = found(tmp_path / "home", 0, PREFECT_API_URL="http://ana:the-password@127.0.0.1:1/api")
    assert "the-password" not in json.dumps(seen)
