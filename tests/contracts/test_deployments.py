"""prefect.yaml against the flows it deploys: Prefect ignores what it does not know, so nothing unknown may be in it."""

import copy
import importlib
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PROJECT = Path(__file__).resolve().parents[2]
CONTENT: dict[str, Any] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())

DEPLOYED = {
    "medallion-etl/daily": ("0 6 * * *", "America/Sao_Paulo"),
    "data-loading/manual": None,
    "executive-summary/manual": None,
    "analytics/manual": None,
    "clustering/manual": None,
    "recommendations/manual": None,
    "output-sync/manual": None,
}

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Folder(Exact):
    directory: Literal["."]


class Schedule(Exact):
    slug: Name
    cron: Text
    timezone: Text
    active: bool


class JobVariables(Exact):
    working_dir: Literal["."]


class WorkPool(Exact):
    name: Literal["etl-pool", "ml-pool"]
    work_queue_name: Literal["default", "exports"]
    job_variables: JobVariables


class OneAtATime(Exact):
    limit: Literal[1]
    collision_strategy: Literal["ENQUEUE"]


class Deployment(Exact):
    name: Name
    entrypoint: Annotated[str, Field(pattern=r"^flows/\w+\.py:\w+$")]
    description: Text
    tags: Annotated[list[Name], Field(min_length=1)]
    parameters: dict[str, Any]
    work_pool: WorkPool
    concurrency_limit: OneAtATime
    schedules: list[Schedule] = []

    @property
    def flow(self) -> Flow[..., Any]:
        path, function = self.entrypoint.split(":")
        found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
        assert isinstance(found, Flow)
        return found


class PrefectFile(Exact):
    name: Name
    pull: list[dict[Literal["prefect.deployments.steps.set_working_directory"], Folder]]
    deployments: Annotated[list[Deployment], Field(min_length=1)]


def declared() -> list[Deployment]:
    return PrefectFile.model_validate(CONTENT).deployments


def each_deployment() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("deployment", declared(), ids=lambda deployment: str(deployment.entrypoint))


def mappings(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the path of every mapping whose keys Prefect reads: not of parameters, which belong to the flows."""
    if isinstance(value, dict):
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        if key != "parameters":
            yield from mappings(item, (*path, key))


def test_the_file_holds_nothing_prefect_would_ignore() -> None:
    PrefectFile.model_validate(CONTENT)


@pytest.mark.parametrize("path", list(mappings(CONTENT)), ids=lambda path: "/".join(map(str, path)) or "top")
def test_a_misspelt_key_is_refused_wherever_it_stands(path: tuple[str | int, ...]) -> None:
    changed: Any = copy.deepcopy(CONTENT)
    place = changed
    for key in path:
        place = place[key]
    place["shedules"] = []
    with pytest.raises(ValidationError, match="shedules"):
        PrefectFile.model_validate(changed)


def test_the_deployments_are_those_of_the_design() -> None:
    found = [f"{deployment.flow.name}/{deployment.name}" for deployment in declared()]
    assert sorted(found) == sorted(DEPLOYED)


def test_a_schedule_has_a_slug_of_its_own() -> None:
    slugs = [schedule.slug for deployment in declared() for schedule in deployment.schedules]
    assert sorted(set(slugs)) == sorted(slugs)


@each_deployment()
def test_a_schedule_is_valid_and_the_one_of_the_design(deployment: Deployment) -> None:
    scheduled = [(schedule.cron, schedule.timezone) for schedule in deployment.schedules if schedule.active]
    for cron, timezone in scheduled:
        CronSchedule(cron=cron, timezone=timezone)
    expected = DEPLOYED[f"{deployment.flow.name}/{deployment.name}"]
    assert scheduled == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("cron", "timezone"), [("0 25 * * *", "UTC"), ("0 6 * * *", "America/Sao_Paolo"), ("daily", "UTC")]
)
def test_a_wrong_schedule_is_refused(cron: str, timezone: str) -> None:
    with pytest.raises(ValidationError):
        CronSchedule(cron=cron, timezone=timezone)


@each_deployment()
def test_every_parameter_of_the_flow_is_given_and_no_other(deployment: Deployment) -> None:
    assert list(deployment.parameters) == list(inspect.signature(deployment.flow.fn).parameters)


@each_deployment()
def test_every_parameter_has_the_type_the_flow_declares(deployment: Deployment) -> None:
    types = typing.get_type_hints(deployment.flow.fn)
    for name, value in deployment.parameters.items():
        TypeAdapter(types[name]).validate_python(value, strict=True)


@each_deployment()
def test_a_deployed_flow_can_be_run_without_a_parameter(deployment: Deployment) -> None:
    defaults = {name: p.default for name, p in inspect.signature(deployment.flow.fn).parameters.items()}
    assert [name for name, default in defaults.items() if default is inspect.Parameter.empty] == []
