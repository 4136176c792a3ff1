"""Modules that wait for their first use."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lakehouse.deferred import absent, deferred, unused


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = "loaded = []\nvalue = 7\ndef double(number):\n    return 2 * number\ndouble.name = 'twice'\n"
    (tmp_path / "slow_to_load.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_load", raising=False)
    return "slow_to_load"


def test_a_deferred_module_is_loaded_by_its_first_use(module: str) -> None:
    deferred(module)
    slow_to_load = import_module(module)
    assert "value" not in vars(slow_to_load)
    assert slow_to_load.value == 7
    assert vars(sys.modules[module])["value"] == 7
    with pytest.raises(AttributeError):
        _ = slow_to_load.nothing


def test_an_unused_module_is_loaded_by_the_first_use_of_a_function_of_it(module: str) -> None:
    unused(module)
    code: dict[str, Any] = {}
    exec("import slow_to_load\nfrom slow_to_load import double, missing", code)
    assert "value" not in vars(sys.modules[module])
    assert code["double"](4) == 8
    assert vars(sys.modules[module])["value"] == 7
    assert code["double"].name == "twice"
    with pytest.raises(AttributeError):
        code["missing"]()


def test_k_means_does_without_what_is_unused() -> None:
    code = (
        "import sys; from lakehouse.deferred import unused; unused('scipy.stats'); import sklearn.cluster as c; "
        "c.KMeans(2, n_init=2, random_state=1).fit([[0.0], [0.1], [9.0]]); "
        "print('scipy.stats._stats_py' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_what_is_loaded_already_stays(module: str) -> None:
    deferred("json")
    assert vars(sys.modules["json"])["dumps"]


def test_an_absent_module_is_as_if_it_were_not_installed(module: str) -> None:
    absent(module)
    with pytest.raises(ImportError):
        import_module(module)
    absent("json")
    assert vars(sys.modules["json"])["dumps"], "what is loaded stays"


def test_the_command_line_does_not_load_what_it_defers() -> None:
    code = (
        "import sys; from lakehouse.deferred import deferred; deferred('duckdb'); import flows.commands.cli; "
        "print('_duckdb' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
