"""Read prefect.yaml, and hold it to what it may say and to the flows it names."""

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from deployments.declaration import Declared, Deployment
from deployments.parameters import schema_of, wrong_parameters
from deployments.yaml_document import Document, Place, read

FILE = Path(__file__).resolve().parents[1] / "prefect.yaml"


def read_declaration(path: Path = FILE) -> Declared:
    """Read and check prefect.yaml; errors: NotFound, Misdeclared with the line of the first thing wrong."""
    document = read(path)
    try:
        found = Declared.model_validate(document.content)
    except ValidationError as error:
        _tell(document, error)
    _hold_names_apart(document, found)
    for number, deployment in enumerate(found.deployments):
        _check(document, ("deployments", number), deployment, found)
    return found


def _tell(document: Document, error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    place: Place = first["loc"]
    named = ".".join(str(step) for step in place if isinstance(step, str) and "-" not in step)
    match first["type"]:
        case "unknown_key":
            raise document.wrong((*place, first["ctx"]["key"]), first["msg"]) from None
        case "missing":
            raise document.wrong(place[:-1], f"{place[-1]} is missing") from None
        case "union_tag_not_found":
            raise document.wrong(place, f"{named} has no type") from None
        case "union_tag_invalid":
            reason = f"type is {first['ctx']['tag']!r}: it must be one of {first['ctx']['expected_tags']}"
            raise document.wrong((*place, "type"), reason) from None
        case "schedule":
            raise document.wrong((*place, first["ctx"]["what"]), first["msg"]) from None
        case "trigger":
            raise document.wrong(place, first["msg"]) from None
        case _:
            expected = first["msg"].removeprefix("Input should be ").removeprefix("String should ")
            raise document.wrong(place, f"{named} is {first['input']!r}: it must be {expected}") from None


def _hold_names_apart(document: Document, found: Declared) -> None:
    places: list[tuple[Place, str]] = []
    for number, pool in enumerate(found.work_pools):
        places.append((("work_pools", number), f"the work pool {pool.name}"))
        for inner, queue in enumerate(pool.work_queues):
            places.append((("work_pools", number, "work_queues", inner), f"the queue {pool.name}/{queue.name}"))
    places += [(("automations", n), f"the automation {one.name}") for n, one in enumerate(found.automations)]
    for number, deployment in enumerate(found.deployments):
        names = f"the deployment {deployment.entrypoint} {deployment.name}"
        places.append((("deployments", number), names))
        for inner, schedule in enumerate(deployment.schedules):
            places.append((("deployments", number, "schedules", inner), f"{names}'s schedule {schedule.slug}"))
    seen: set[str] = set()
    for place, name in places:
        if name in seen:
            raise document.wrong((*place, "name"), f"{name} stands here a second time")
        seen.add(name)


def _check(document: Document, place: Place, deployment: Deployment, found: Declared) -> None:
    """Hold a deployment to what it names: its flow, the flow's parameters, its pool and queue."""
    try:
        flow = deployment.flow
    except LookupError as missing:
        raise document.wrong((*place, "entrypoint"), str(missing)) from None
    for name, reason in wrong_parameters(schema_of(flow), deployment.parameters):
        raise document.wrong((*place, "parameters", name), reason)
    pools = {pool.name: pool for pool in found.work_pools}
    wanted = deployment.work_pool
    if wanted.name not in pools:
        reason = f"work_pool.name is {wanted.name!r}: it must be {_one_of(pools)}"
        raise document.wrong((*place, "work_pool", "name"), reason)
    queues = ["default", *(queue.name for queue in pools[wanted.name].work_queues)]
    if wanted.work_queue_name not in queues:
        reason = f"work_queue_name is {wanted.work_queue_name!r}: it must be {_one_of(queues)}"
        raise document.wrong((*place, "work_pool", "work_queue_name"), reason)


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(dict.fromkeys(names))}"
