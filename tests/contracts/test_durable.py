"""Whatever commits, renames or removes says so: the crash matrix cuts runs off before and after each of these."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = sorted(p for room in ("lakehouse", "quality", "flows") for p in (PROJECT / room).rglob("*.py"))
COMMITS = {"write_deltalake", "DeltaTable.create", "delta.restore", "os.replace", "os.rename", "os.renames", "os.link"}
COMMITS |= {"shutil.move"}
METHODS = {
    "save",
    "saveAsTable",
    "insertInto",
    "rename",
    "symlink_to",
    "hardlink_to",
    "delete_file",
    "delete_dir",
    "move",
}
OF_DELTA = {
    "vacuum",
    "compact",
    "z_order",
    "merge",
    "cleanup_metadata",
    "create_checkpoint",
    "repair",
    "update",
    "delete",
}
NAMELESS = {  # where a kill may leave what the next call makes anew, and no release, export or extract is concerned
    ("lakehouse/engine/session.py", "link.symlink_to"): "a plain name of the folder of tables, in a temporary folder",
    ("lakehouse/exports/folders.py", "link.symlink_to"): "the link beside the exports that `swap` renames",
    (
        "lakehouse/postgres/connection.py",
        "(Path(place) / 'data').symlink_to",
    ): "a shorter name of a socket, in a temporary folder",
    (
        "lakehouse/postgres/server.py",
        "new.rename",
    ): "the data folder of an embedded PostgreSQL, made whole first",
    ("quality/suites/documents.py", "into.rename"): "the pages of the suites, written anew by every run that checks",
    ("quality/suites/documents.py", "staged.rename"): "the same",
    ("flows/orchestration/server.py", "draft.replace"): "the record of the local Prefect server",
}


def commits(tree: ast.AST, is_durable: bool = False) -> Iterator[tuple[int, str, bool]]:
    """Give the line and the name of every call that outlives a run, and whether it is named as a durable step."""
    if isinstance(tree, ast.With):
        is_durable |= any("durable(" in ast.unparse(item.context_expr) for item in tree.items)
    if isinstance(tree, ast.Call) and _is_lasting(tree):
        yield tree.lineno, ast.unparse(tree.func), is_durable
    for below in ast.iter_child_nodes(tree):
        yield from commits(below, is_durable)


def _is_lasting(call: ast.Call) -> bool:
    name, method = ast.unparse(call.func), getattr(call.func, "attr", "")
    renames_a_path = method == "replace" and len(call.args) == 1 and not call.keywords
    of_delta = method in OF_DELTA and name.startswith(("delta.", "self._open("))
    return name in COMMITS or method in METHODS or of_delta or renames_a_path


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_whatever_outlives_a_run_is_a_durable_step_with_a_name(module: Path) -> None:
    where = str(module.relative_to(PROJECT))
    bare = [(line, name) for line, name, is_durable in commits(ast.parse(module.read_text())) if not is_durable]
    assert [(line, name) for line, name in bare if (where, name) not in NAMELESS] == []


@pytest.mark.parametrize(("where", "name"), NAMELESS, ids=str)
def test_what_needs_no_name_is_there(where: str, name: str) -> None:
    assert name in {found for _, found, _ in commits(ast.parse((PROJECT / where).read_text()))}


def test_only_the_storage_knows_delta() -> None:
    knowing = {
        str(module.relative_to(PROJECT))
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom) and "deltalake" in ast.unparse(node)
    }
    assert {str(Path(module).parent) for module in knowing} == {"lakehouse/storage"}


@pytest.mark.parametrize(
    "call",
    [
        "os.replace(a, b)",
        "part.replace(path)",
        "staged.rename(into)",
        "shutil.move(a, b)",
        "write_deltalake(uri, rows)",
        "delta.restore(3)",
        "delta.vacuum()",
        "frame.write.format('delta').save(uri)",
        "storage.files(table).delete_file(file)",
    ],
)
def test_a_call_without_a_name_is_found(call: str) -> None:
    bare = ast.parse(f"def step():\n    {call}\n")
    named = ast.parse(f"def step():\n    with told(), durable('step'):\n        {call}\n")
    assert [is_durable for *_, is_durable in commits(bare)] == [False]
    assert [is_durable for *_, is_durable in commits(named)] == [True]


@pytest.mark.parametrize("call", ["text.replace('a', 'b')", "replace(row, status='')", "at.replace(hour=0)"])
def test_what_changes_nothing_outside_is_not_meant(call: str) -> None:
    assert list(commits(ast.parse(call))) == []
