import re
from pathlib import Path

import pytest

from lakehouse.documents.env_example import env_example
from lakehouse.errors import WrongUse
from lakehouse.settings import Settings, load_settings
from tests.contracts.freshness import stale

PROJECT = Path(__file__).resolve().parents[2]
FIELDS = Settings.model_fields


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_example_is_up_to_date() -> None:
    assert not stale(PROJECT / ".env.example", env_example())


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in FIELDS.items() if not (field.description or "").endswith(".")] == []


def test_the_example_as_it_is_changes_nothing() -> None:
    assert [line for line in env_example().splitlines() if line and not line.startswith("#")] == []


def test_the_example_with_every_line_in_use_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    for name, value in re.findall(r"^# ([A-Z_]+)=(.*)$", env_example(), re.MULTILINE):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(PROJECT)
    given = load_settings()
    assert given.model_copy(update={"lakehouse_home": given.lakehouse_home.absolute()}) == defaults


def test_a_wrong_variable_is_named_with_what_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "duck")
    with pytest.raises(WrongUse, match="ENGINE is 'duck': it must be 'sail' or 'spark'"):
        load_settings()


def test_no_other_module_reads_a_setting() -> None:
    reading = re.compile(rf"(getenv\(|environ\.get\(|environ\[)[\"']({'|'.join(map(str.upper, FIELDS))}|AWS_\w+)[\"']")
    files = [
        file for room in ("lakehouse", "quality", "flows", "deployments") for file in (PROJECT / room).rglob("*.py")
    ]
    assert [file.name for file in files if reading.search(file.read_text(encoding="utf-8"))] == []


def test_a_place_may_begin_with_the_users_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.setenv("LAKEHOUSE_HOME", "~/sales")
    monkeypatch.setenv("DATA_PATH", "~")
    given = load_settings(output_path="~ana/out")
    assert (given.lakehouse_home, given.data_path) == (Path("/home/ana/sales"), "/home/ana")
    assert given.output_path == "~ana/out"
