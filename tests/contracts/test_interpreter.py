"""No module reaches into the interpreter: what no manual of Python describes is used nowhere but where it is named."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ROOMS = ("lakehouse", "quality", "flows", "deployments", "infra")
FILES = [file.relative_to(PROJECT) for room in ROOMS for file in sorted((PROJECT / room).rglob("*.py"))]
PLACEHOLDERS = "quality/suites/imports.py"  # says what they cost when they are gone
INSIDE = ("_thread", "ctypes", "dis", "atexit._", "threading._", "signal._", "sys._")
OF_FRAMES = ("f_back", "f_code", "f_lasti", "f_locals", "co_code", "co_filename", "co_name", "co_names", "__code__")


def reaching(code: str) -> set[str]:
    """Give what a module uses of the interpreter that is no public part of it."""
    nodes = list(ast.walk(ast.parse(code)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) and n.module for alias in n.names
    }
    asked = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    frames = {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr in OF_FRAMES}
    inside = {name for name in imported | asked if name.startswith(INSIDE[3:]) or name.partition(".")[0] in INSIDE[:3]}
    return inside | frames | ({"sys.modules"} & (imported | asked))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_module_leaves_the_interpreter_alone(file: Path) -> None:
    assert reaching((PROJECT / file).read_text()) == ({"sys.modules"} if str(file) == PLACEHOLDERS else set())


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import _thread\n_thread.start_new_thread(f, ())", {"_thread", "_thread.start_new_thread"}),
        ("import threading\nthreading._shutdown()", {"threading._shutdown"}),
        ("from atexit import _run_exitfuncs", {"atexit._run_exitfuncs"}),
        ("def f(frame): return frame.f_code.co_name", {"f_code", "co_name"}),
        ("import sys\nsys.modules['json'] = None", {"sys.modules"}),
        ("import atexit, sys, threading\natexit.register(sys.exit)\nthreading.Thread()", set()),
    ],
)
def test_what_reaches_into_it_is_seen(code: str, found: set[str]) -> None:
    assert reaching(code) == found
