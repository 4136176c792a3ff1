"""The laws of the house that the import contracts of pyproject.toml cannot say."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CODE = [
    file.relative_to(PROJECT)
    for house in ("lakehouse", "quality", "flows", "deployments", "infra")
    for file in sorted((PROJECT / house).rglob("*.py"))
]
FLOW_FILES = [file for file in CODE if file.parts[0] == "flows" and len(file.parts) == 2 and file.stem != "__init__"]
VOCABULARY = {"__init__", "table", "catalog", "parameters", "settings", "errors", "version"}

PARTICIPLE = re.compile(
    "broken|brought|built|caught|chosen|cut|done|drawn|found|given|gone|grown|held|hidden|kept|known|left|lost|made|"
    "met|paid|sent|shown|sold|spoken|stopped|struck|taken|thought|told|understood|worn|written|(?!embed|feed|need|seed)"
    r"\w{2,}ed"
)
AFTER_ONE = ("along", "among", "as", "before", "by", "from", "in", "now", "or", "out", "over", "to", "up", "with")
DATA = {
    ("lakehouse/exports/documents.py", "verified"),
    ("lakehouse/exports/documents.py", "created_at"),
}  # of a Protocol

READ_ELSEWHERE = {  # who reads the environment beside settings.py, and why
    "flows/orchestration/client.py": "Prefect takes its settings from variables when it is imported: set there",
    "flows/orchestration/server.py": "the local server inherits the environment, without what others told Prefect",
    "infra/stack/minio.py": "the compiler inherits the environment",
    "infra/stack/plan.py": "the services get a named part of the environment",
    "lakehouse/engine/session.py": "Sail takes its settings from variables when it is imported: set there",
    "lakehouse/engine/spark_server.py": "Java is found as every program finds it: JAVA_HOME, then PATH",
    "quality/suites/suites.py": "Great Expectations takes its settings from a variable: it is set there",
    "quality/suites/worker.py": "the process of the checks inherits the environment, and the engine's token",
}


def tree(file: Path) -> ast.Module:
    return ast.parse((PROJECT / file).read_text())


def is_participle(name: str) -> bool:
    """Say whether a function is named by a past participle: alone, or with what belongs to it (`carried_out`)."""
    first, *rest = name.split("_")
    return PARTICIPLE.fullmatch(first) is not None and (not rest or rest[0] in AFTER_ONE)


def test_only_the_vocabulary_lies_loose_in_lakehouse() -> None:
    assert {file.stem for file in CODE if file.parts[0] == "lakehouse" and len(file.parts) == 2} == VOCABULARY


@pytest.mark.parametrize("file", FLOW_FILES, ids=str)
def test_a_file_at_the_top_of_flows_is_a_flow(file: Path) -> None:
    module = tree(file)
    decorators = [ast.unparse(d) for f in module.body if isinstance(f, ast.FunctionDef) for d in f.decorator_list]
    assert any(re.match(r"flow\(name=", decorator) for decorator in decorators)


@pytest.mark.parametrize("file", FLOW_FILES, ids=str)
def test_a_flow_knows_no_command(file: Path) -> None:
    nodes = list(ast.walk(tree(file)))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    assert [module for module in modules if module.startswith("flows.commands")] == []


@pytest.mark.parametrize("file", CODE, ids=str)
def test_no_function_is_named_by_a_past_participle(file: Path) -> None:
    names = [node.name for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    meant = names if file.parts[0] in ("flows", "deployments") else [name for name in names if not name.startswith("_")]
    assert [n for n in meant if is_participle(n.lstrip("_")) and (str(file), n) not in DATA] == []


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("told", True),
        ("carried_out", True),
        ("kept_as", True),
        ("ordered", True),
        ("adopted_or_started", True),
        ("kept_releases", False),
        ("seed", False),
        ("publish", False),
        ("read_pins", False),
    ],
)
def test_what_a_past_participle_is(name: str, is_one: bool) -> None:
    assert is_participle(name) == is_one


@pytest.mark.parametrize("file", CODE, ids=str)
def test_only_settings_read_the_environment(file: Path) -> None:
    reads = re.search(r"\bos\.(environ|getenv)\b", (PROJECT / file).read_text()) is not None
    assert reads == (str(file) in READ_ELSEWHERE or str(file) == "lakehouse/settings.py")


@pytest.mark.parametrize("file", CODE, ids=str)
def test_only_the_engine_starts_a_session(file: Path) -> None:
    """The process of the checks joins the session's server, by its address."""
    begun = re.search(r"\bSparkSession\.builder\b|\bpysail\b", (PROJECT / file).read_text()) is not None
    assert not begun or str(file) in (
        "lakehouse/engine/session.py",
        "lakehouse/engine/spark_server.py",
        "quality/suites/worker.py",
    )
