"""What the process of the checks imports: not what Great Expectations has for expectations that are not used here."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from quality.suites.imports import Placeholder


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "slow_to_load.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "slow_to_load", Placeholder("slow_to_load"))
    return "slow_to_load"


def test_a_placeholder_gives_what_the_module_has_and_makes_way_for_it(module: str) -> None:
    held = import_module(module)
    assert isinstance(held, Placeholder)
    assert (held.value, held.value) == (7, 7)
    assert vars(import_module(module))["value"] == 7
    with pytest.raises(AttributeError, match="nothing"):
        _ = held.nothing


def test_the_suites_are_imported_without_what_they_do_not_use_until_it_is_used() -> None:
    code = """
import sys
from quality.suites.imports import UNUSED, Placeholder, import_suites
import_suites()
print("great_expectations" in sys.modules, all(isinstance(sys.modules[name], Placeholder) for name in UNUSED))
from scipy import stats
print(float(stats.norm.cdf(0)), type(sys.modules["scipy.stats"]).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True\n0.5 module\n", "")
