"""docker-compose.yml as far as it goes without an engine: names in it exist, nothing is open or without a limit."""

import copy
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.environment import WANTED, write_environment
from infra.first_start.__main__ import main as first_start
from infra.first_start.administrators import DatabaseAdministrator, StoreAdministrator
from lakehouse.settings import Settings
from tests.stack.reasons import NO_COMPOSE

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
CONTENT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
DOCKERFILE = (PROJECT / "infra" / "images" / "Dockerfile").read_text(encoding="utf-8")
REFERENCE = re.compile(r"\$\{([A-Z_]+)(:-|:\?|)([^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|CONNECTION_URL")
OURS = ("sales-lakehouse:local", "sales-lakehouse-spark:local")
OF_SPARK = {
    "_SPARK_AUTH_SECRET",
    "SPARK_CONNECT_AUTHENTICATE_TOKEN",
    "SPARK_WORKER_OPTS",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
}
OF_FOREIGN_IMAGES = {
    "postgres": {"POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"},
    "object-store": {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_BROWSER", "MINIO_UPDATE", "MC_CONFIG_DIR"},
}
TO_SPARK = {"SPARK_REMOTE", "SPARK_REMOTE_TOKEN"}  # how a run reaches Spark Connect

Text = Annotated[str, Field(min_length=1)]
Words = Annotated[list[Text], Field(min_length=1)]
Condition = Literal["service_healthy", "service_completed_successfully"]


class Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Build(Exact):
    context: Literal["."]
    dockerfile: Literal["infra/images/Dockerfile"]
    target: Literal["lakehouse", "spark"]


class Healthcheck(Exact):
    test: Words
    interval: Text
    timeout: Text
    retries: int
    start_period: Text


class Dependency(Exact):
    condition: Condition
    required: bool = True


class Limits(Exact):
    cpus: Text
    memory: Text
    pids: Annotated[int, Field(gt=0)]


class Resources(Exact):
    limits: Limits


class Deploy(Exact):
    resources: Resources


class Logging(Exact):
    driver: Literal["json-file"]
    options: dict[Text, Text]


class Service(Exact):
    """What a service may and must say: closed, limited, restarted."""

    image: Text
    build: Build | None = None
    profiles: Annotated[list[Literal["storage", "database", "prefect", "spark"]], Field(max_length=1)] = []
    command: Words | None = None
    environment: dict[Text, str] = {}
    depends_on: dict[Text, Dependency] = {}
    healthcheck: Healthcheck | None = None
    restart: Literal["unless-stopped", "on-failure:5"]
    deploy: Deploy
    init: Literal[True]
    read_only: Literal[True]
    tmpfs: Words
    cap_drop: Annotated[list[Literal["ALL"]], Field(min_length=1)]
    cap_add: list[Literal["CHOWN"]] = []
    security_opt: list[Literal["no-new-privileges:true"]]
    logging: Logging
    user: Text | None = None
    volumes: list[Annotated[str, Field(pattern=r"^[a-z0-9-]+:/[a-z/]+$")]] = []
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\$\{PORT_[A-Z_]+:-\d+\}:\d+$")]] = []
    networks: list[Text] = []
    network_mode: Literal["none"] | None = None
    shm_size: Text | None = None
    stop_signal: Text | None = None
    stop_grace_period: Text | None = None


def each_service() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", SERVICES)


def service(name: str) -> Service:
    return Service.model_validate(SERVICES[name])


def is_one_shot(name: str) -> bool:
    return service(name).restart != "unless-stopped"


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from texts(item)
        case list():
            for item in value:
                yield from texts(item)


def known_variables(name: str) -> set[str]:
    if name in OF_FOREIGN_IMAGES:
        return OF_FOREIGN_IMAGES[name]
    if service(name).build is not None and service(name).build.target == "spark":  # type: ignore[union-attr]
        return OF_SPARK
    kinds = (Settings, DatabaseAdministrator, StoreAdministrator)
    ours = {field.upper() for kind in kinds for field in kind.model_fields}
    return ours | TO_SPARK | prefect_variables()


def prefect_variables() -> set[str]:
    return set(re.findall(r'"(PREFECT_\w+)"', json.dumps(PrefectSettings.model_json_schema())))


def test_the_file_has_nothing_but_what_is_checked_here() -> None:
    parts = {name for name in CONTENT if not name.startswith("x-")}
    assert parts == {"name", "services", "networks", "volumes"}


@each_service()
def test_a_service_is_closed_limited_and_restarted(name: str) -> None:
    service(name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("postgres", {"ports": ["5432:5432"]}),
        ("postgres", {"ports": ["0.0.0.0:${PORT_POSTGRES:-5432}:5432"]}),
        ("postgres", {"read_only": False}),
        ("postgres", {"privileged": True}),
        ("postgres", {"network_mode": "host"}),
        ("postgres", {"deploy": {}}),
        ("spark-master", {"cap_add": ["SYS_ADMIN"]}),
        ("spark-master", {"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]}),
        ("spark-master", {"restart": "no"}),
    ],
)
def test_a_service_that_is_open_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Service.model_validate(copy.deepcopy(SERVICES[name]) | change)


@each_service()
def test_a_service_says_when_it_is_healthy_or_ends(name: str) -> None:
    assert (service(name).healthcheck is None) == is_one_shot(name)


@each_service()
def test_what_a_service_waits_for_is_there_and_waited_for_in_the_right_way(name: str) -> None:
    for other, dependency in service(name).depends_on.items():
        expected = "service_completed_successfully" if is_one_shot(other) else "service_healthy"
        assert dependency.condition == expected
        is_same_part = service(other).profiles == service(name).profiles
        assert dependency.required == is_same_part, f"{other} may be brought by the user: required must be false"


@each_service()
def test_only_what_hands_a_volume_over_is_root(name: str) -> None:
    found = service(name)
    is_root = found.user == "0:0"
    assert is_root == (name == "object-store-volume")
    assert bool(found.cap_add) == is_root
    assert found.user is not None or found.build is not None, "our own images are not root"
    assert not is_root or (found.network_mode == "none" and is_one_shot(name))


def test_our_images_end_as_a_user_who_is_not_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    for target in ("lakehouse", "spark"):
        stage = next(stage for stage in stages if stage.partition("\n")[0].endswith(f" AS {target}"))
        assert re.findall(r"^USER (.+)$", stage, re.MULTILINE)[-1] == "10001:10001"


@each_service()
def test_networks_and_volumes_are_declared(name: str) -> None:
    found = service(name)
    assert set(found.networks) <= set(CONTENT["networks"])
    assert {volume.partition(":")[0] for volume in found.volumes} <= set(CONTENT["volumes"])
    assert bool(found.networks) != (found.network_mode == "none")


def test_every_network_and_volume_is_used() -> None:
    used = [service(name) for name in SERVICES]
    assert {network for one in used for network in one.networks} == set(CONTENT["networks"])
    assert {volume.partition(":")[0] for one in used for volume in one.volumes} == set(CONTENT["volumes"])


@each_service()
def test_every_variable_given_to_a_service_is_one_it_reads(name: str) -> None:
    assert set(service(name).environment) - known_variables(name) == set()


@each_service()
def test_no_secret_stands_in_the_file_and_none_in_a_command(name: str) -> None:
    found = service(name)
    for variable, value in found.environment.items():
        if SECRET.search(variable):
            assert ":?" in value, f"{variable} must be wanted, not given"
    assert [word for word in found.command or [] if SECRET.search(word)] == []


def test_a_variable_is_wanted_or_has_a_default_and_the_same_one_everywhere() -> None:
    ways: dict[str, set[tuple[str, str]]] = {}
    for text in texts(CONTENT):
        for name, how, what in REFERENCE.findall(text):
            ways.setdefault(name, set()).add((how, what))
        assert "$" not in REFERENCE.sub("", text), text
    assert {name for name, found in ways.items() if len(found) > 1} == set()
    assert {name for name, found in ways.items() if ("", "") in found} == set()
    assert {what for found in ways.values() for how, what in found if how == ":?"} == {"is not set, run make env"}


@each_service()
def test_a_foreign_image_is_pinned_by_its_digest_through_one_variable(name: str) -> None:
    found = service(name)
    pinned = re.fullmatch(r"\$\{[A-Z]+_IMAGE:-([^}]+)\}", found.image)
    assert pinned
    if found.build:
        assert pinned[1] == OURS[found.build.target == "spark"]
    else:
        assert re.fullmatch(r"[a-z0-9./]+:[\w.-]+@sha256:[0-9a-f]{64}", pinned[1])


def test_the_dockerfile_starts_from_a_digest_and_installs_from_the_lock_alone() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11[\w.-]+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    installs = [line for line in DOCKERFILE.splitlines() if re.search(r"(pip|uv[\"}]?|\$uv) .*install", line)]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--editable" not in line] == []


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for copied in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in copied.split()[:-1]:
            assert (PROJECT / source).exists()
            assert f"!{source}" in ignored
    assert not {".env", ".git", ".lakehouse", "tests"} & {line.removeprefix("!") for line in ignored[2:]}


def test_python_modules_that_services_and_images_run_are_there() -> None:
    words = " ".join([*texts(SERVICES), DOCKERFILE])
    for one in SERVICES.values():
        words += " ".join([" ", *one.get("command", []), *one.get("healthcheck", {}).get("test", [])])
    modules = set(re.findall(r"(?:python -m|-m) (infra[\w.]*)", words))
    assert modules == {"infra.first_start", "infra.health", "infra.jars"}
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


@each_service()
def test_a_command_is_one_its_image_has(name: str) -> None:
    found = service(name)
    if found.build is None or found.command is None:
        return
    match found.command:
        case ["python", "-m", "infra.first_start", known]:
            assert first_start([known]) == 2, "its variables are missing here, which it says"
        case ["prefect", *words]:
            said = subprocess.run(
                [PROJECT / ".venv" / "bin" / "prefect", *words[:2], "--help"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert [word for word in words if word.startswith("--") and word not in said] == []
        case ["lakehouse", command]:
            known = subprocess.run(
                [PROJECT / ".venv" / "bin" / "lakehouse", "--help"], capture_output=True, text=True, check=True
            ).stdout
            assert command in known.split()
        case ["spark-class" | "spark-submit" as program, *words]:
            assert importlib.util.find_spec("pyspark")
            import pyspark

            assert (Path(pyspark.__file__).parent / "bin" / program).exists()
            assert any("org.apache.spark." in word for word in words)
            assert program == "spark-submit" or not [word for word in words if re.match("--.*=", word)], (
                "it refuses them"
            )
        case [program, *_]:
            assert program == "chown"


def test_workers_work_on_the_pools_of_the_deployments() -> None:
    declared = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = {deployment["work_pool"]["name"] for deployment in declared["deployments"]}
    commands = [SERVICES[name]["command"] for name in SERVICES if name.startswith("prefect-worker")]
    assert {command[command.index("--pool") + 1] for command in commands} == pools


def test_an_executor_fits_into_the_memory_of_its_container() -> None:
    defaults = {name: what for name, how, what in REFERENCE.findall(TEXT) if how == ":-"}
    gigabytes = {name: int(value[:-1]) for name, value in defaults.items() if re.fullmatch(r"\d+g", value)}
    assert gigabytes["SPARK_EXECUTOR_MEMORY"] <= gigabytes["SPARK_WORKER_MEMORY"] < gigabytes["SPARK_WORKER_LIMIT"]
    assert gigabytes["SPARK_DRIVER_MEMORY"] < gigabytes["SPARK_CONNECT_LIMIT"]


def test_make_env_writes_a_secret_of_its_own_for_each_wanted_variable(tmp_path: Path) -> None:
    names = write_environment(tmp_path / ".env")
    lines = (tmp_path / ".env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(names) == {name for name, how, _ in REFERENCE.findall(TEXT) if how == ":?"} == set(WANTED.findall(TEXT))
    assert set(found) == {*names, "COMPOSE_PROFILES"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", found[name]) for name in names)
    assert len({found[name] for name in names}) == len(names)
    assert set(found["COMPOSE_PROFILES"].split(",")) == {profile for s in SERVICES for profile in service(s).profiles}
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_make_env_leaves_an_env_that_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("mine")
    with pytest.raises(FileExistsError):
        write_environment(tmp_path / ".env")
    assert (tmp_path / ".env").read_text() == "mine"


def compose(*words: str, env: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run docker compose, which needs no engine for that."""
    command = ["docker", "compose", "--project-directory", str(PROJECT), "--file", str(FILE), "--env-file", str(env)]
    known = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    return subprocess.run([*command, *words], env=known | variables, capture_output=True, text=True, check=False)


@pytest.fixture
def with_compose() -> None:
    found = shutil.which("docker")
    if found is None or subprocess.run([found, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip(NO_COMPOSE)


@pytest.mark.usefixtures("with_compose")
@pytest.mark.parametrize("profiles", ["storage,database,prefect,spark", "database", "prefect", "spark,prefect"])
def test_compose_accepts_the_file_with_all_parts_or_some(tmp_path: Path, profiles: str) -> None:
    write_environment(tmp_path / ".env")
    done = compose("config", "--quiet", env=tmp_path / ".env", COMPOSE_PROFILES=profiles)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("with_compose")
@pytest.mark.parametrize("missing", sorted(set(WANTED.findall(TEXT))))
def test_compose_refuses_to_start_without_a_secret(tmp_path: Path, missing: str) -> None:
    write_environment(tmp_path / ".env")
    kept = [line for line in (tmp_path / ".env").read_text().splitlines() if not line.startswith(f"{missing}=")]
    (tmp_path / ".env").write_text("\n".join(kept))
    done = compose("config", "--quiet", env=tmp_path / ".env")
    assert done.returncode != 0
    assert f"{missing} is not set, run make env" in " ".join(done.stderr.replace('"', "").split()).replace(
        "is missing a value: ", ""
    )
