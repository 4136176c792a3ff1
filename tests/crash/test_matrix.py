"""A part of the crash matrix, and whether it has every durable step; `make test-long` runs it whole."""

import ast
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.matrix import SEEDS, cases, cut_off, points
from tests.crash.scenes import Scene, scenes

PROJECT = Path(__file__).parents[2]
SEED = 4
ELSEWHERE = {
    "heartbeat": "tests/lakehouse/releases/test_lease.py: when one comes depends on the clock",
    "point to the exports": "tests/stack/test_object_store.py: it needs an object store",
}
Played = dict[str, Scene]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with ExitStack() as stack:
        yield {scene.name: scene for scene in scenes(tmp_path_factory.mktemp("scenes"), SEED, stack)}


def names() -> dict[str, str]:
    """Give every name that the code gives a durable step, as a pattern, and where."""
    found = {}
    for module in sorted((PROJECT / "lakehouse").rglob("*.py")):
        tree = ast.parse(module.read_text())
        known = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign) and _is_name(n.targets[0])}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).rpartition(".")[2]
            given = call.args if name in ("durable", "_commit", "_noted") else []
            given = given + [word.value for word in call.keywords if word.arg == "step"]
            for value in given:
                found |= dict.fromkeys(_patterns(value, known), f"{module.relative_to(PROJECT)}:{call.lineno}")
    return found


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _patterns(value: ast.expr, known: dict[str, ast.expr]) -> list[str]:
    match value:
        case ast.Constant(str(text)):
            return [re.escape(text)]
        case ast.JoinedStr(parts):
            return ["".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts)]
        case ast.BoolOp(values=values):
            return [pattern for one in values for pattern in _patterns(one, known)]
        case ast.Name(name) if name in known:
            return _patterns(known[name], {})
        case _:
            return []


def test_every_durable_step_that_the_code_names_is_in_the_matrix(played: Played) -> None:
    cut = {step for _, step, _ in points(list(played.values()), [SEED])}
    named = names()
    assert {"take the lease", "publish", "create .+", "restore .+", "write .+", "swap .+"} <= {
        pattern.replace("\\ ", " ") for pattern in named
    }
    missing = {p: where for p, where in named.items() if not any(re.fullmatch(p, step) for step in cut)}
    assert {pattern.replace("\\ ", " ") for pattern in missing} == ELSEWHERE.keys()
    unnamed = [step for step in cut if not any(re.fullmatch(pattern, step) for pattern in named)]
    assert unnamed == []


def test_every_step_of_a_day_is_in_the_matrix(played: Played) -> None:
    day = played["a day"]
    assert len(day.steps) >= 25
    cut = {(step, moment) for scene, step, moment in points([day], [SEED])}
    assert {(step, moment) for step in day.steps for moment in ("before", "after", "interrupted")} <= cut
    until = day.steps[: day.steps.index("publish") + 1]
    by_seed = [
        {step for _, step, moment in points([replace(day, seed=seed)], [1, 2, 3]) if moment == "stopped"}
        for seed in (1, 2, 3)
    ]
    assert set.union(*by_seed) == set(until)


@pytest.mark.parametrize(
    ("name", "step", "moment"),
    [
        ("a day", "take the lease", "after"),
        ("a day", "write ops.ledger", "before"),
        ("a day", "publish", "after"),
        ("a day", "swap exports", "before"),
        ("the first run", "extract categories", "before"),
        ("after a killed run", "restore ops.sources", "after"),
        ("a line waived", "write ops.corrections", "after"),
        ("a rollback", "publish", "after"),
        ("a pin", "append to ops.retention", "after"),
        ("a vacuum", "remove a file of ops.sources", "after"),
        ("a sync", "put manifest.json", "before"),
        ("a day", "write gold.itemsets", "interrupted"),
        ("a day", "publish", "interrupted"),
        ("a day", "give back the lease", "interrupted"),
        ("a vacuum", "remove a file of ops.sources", "interrupted"),
        ("the first run", "create ops.releases", "stopped"),
        ("after a killed run", "restore ops.sources", "stopped"),
        ("a day", "write gold.sales_totals", "stopped"),
        ("a day", "publish", "stopped"),
    ],
)
def test_what_is_cut_off_there_leaves_no_trace(
    name: str, step: str, moment: str, played: Played, tmp_path: Path
) -> None:
    assert step in played[name].steps
    assert cut_off(played[name], step, moment, tmp_path / "home") == ""


@pytest.mark.long
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_cut_off_anywhere_leaves_no_trace(seed: int) -> None:
    assert [case for case in cases(seed, SEEDS) if case.problem] == []


def test_a_trace_is_found(played: Played, tmp_path: Path) -> None:
    scene = played["a pin"]
    other = replace(scene, after=replace(scene.after, digests={}))
    assert cut_off(other, "take the lease", "after", tmp_path / "1") == "in the end there are other digests"
    assert "it was not cut off" in cut_off(scene, "no such step", "before", tmp_path / "2")
    late = replace(scene, releases=1)
    assert "readers saw release 2" in cut_off(replace(late, before=1), "take the lease", "after", tmp_path / "3")
