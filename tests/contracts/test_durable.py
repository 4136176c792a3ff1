"""Whatever commits or renames says so: the crash matrix cuts runs off before and after each of these."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = sorted(p for room in ("lakehouse", "quality", "flows") for p in (PROJECT / room).rglob("*.py"))
COMMITS = {"write_deltalake", "DeltaTable.create", "restore", "save", "os.replace"}


def commits(tree: ast.AST, is_durable: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Give the line and the name of every call that commits, and whether it is named as a durable step."""
    if isinstance(tree, ast.With):
        is_durable |= any("durable(" in ast.unparse(item.context_expr) for item in tree.items)
    if isinstance(tree, ast.Call):
        name = ast.unparse(tree.func)
        if {name, name.rpartition(".")[2]} & COMMITS or name.endswith("delta.restore"):
            yield tree.lineno, name, is_durable
    for below in ast.iter_child_nodes(tree):
        yield from commits(below, is_durable)


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_every_commit_is_a_durable_step_with_a_name(module: Path) -> None:
    found = [c for c in commits(ast.parse(module.read_text())) if c[1] not in ("storage.restore", "self.restore")]
    assert [(line, name) for line, name, is_durable in found if not is_durable] == []


def test_a_commit_without_a_name_is_found() -> None:
    bare = ast.parse("def swap():\n    os.replace(a, b)\n")
    named = ast.parse("def swap():\n    with told(), durable('swap'):\n        os.replace(a, b)\n")
    assert [is_durable for *_, is_durable in commits(bare)] == [False]
    assert [is_durable for *_, is_durable in commits(named)] == [True]
