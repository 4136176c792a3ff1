"""What prefect.yaml may say. Prefect ignores what it does not know; here it is an error with its line."""

import importlib
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from prefect import Flow

Text = Annotated[str, Field(min_length=1)]
Plain = Annotated[str, Field(pattern=r'^[^{}"\\]+$')]  # it goes into a template, in quotes
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Seconds = Annotated[int, Field(ge=10)]
Limit = Annotated[int, Field(ge=1)]
Event = Literal[
    "prefect.flow-run.heartbeat",
    "prefect.flow-run.Scheduled",
    "prefect.flow-run.AwaitingConcurrencySlot",
    "prefect.flow-run.Pending",
    "prefect.flow-run.Running",
    "prefect.flow-run.Completed",
    "prefect.flow-run.Failed",
    "prefect.flow-run.TimedOut",
    "prefect.flow-run.Crashed",
    "prefect.flow-run.Cancelling",
    "prefect.flow-run.Cancelled",
]


class Exact(BaseModel):
    """Take the declared keys and no other, of the declared types and no other."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: Any) -> Any:
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                facts = {"key": str(key), "known": ", ".join(cls.model_fields)}
                raise PydanticCustomError("unknown_key", "the key {key} is unknown here; known are {known}", facts)
        return given


class WorkQueue(Exact):
    """A queue of a work pool; runs of a queue with a smaller priority are taken first."""

    name: Name
    description: Text
    concurrency_limit: Limit | None = None
    priority: Limit | None = None


class WorkPool(Exact):
    """Where runs wait for workers, and how many may run at a time."""

    name: Name
    type: Literal["process"]
    description: Text
    concurrency_limit: Limit | None
    work_queues: list[WorkQueue] = []


class Crash(Exact):
    """Say that a run has crashed, with why."""

    type: Literal["change-flow-run-state"]
    state: Literal["CRASHED"]
    message: Text


class Cancel(Exact):
    """Cancel a run."""

    type: Literal["cancel-flow-run"]


class Notify(Exact):
    """Send a message to NOTIFICATION_URL; it begins with the text, and names the run, its state and its page."""

    type: Literal["notify"]
    text: Plain


class Trigger(Exact):
    """When an automation acts on a run: an event is seen (Reactive), or is not seen in time after another (Proactive).

    `within` is in seconds.
    """

    posture: Literal["Reactive", "Proactive"]
    after: list[Event] = []
    expect: Annotated[list[Event], Field(min_length=1)]
    within: Seconds | None = None

    @model_validator(mode="after")
    def _be_complete(self) -> Self:
        if (self.posture == "Proactive") != (self.within is not None and bool(self.after)):
            raise PydanticCustomError("trigger", "a Proactive trigger has `after` and `within`, a Reactive one neither")
        return self


class Automation(Exact):
    """What the server does by itself about runs of these deployments."""

    name: Name
    description: Text
    trigger: Trigger
    actions: Annotated[list[Annotated[Crash | Cancel | Notify, Field(discriminator="type")]], Field(min_length=1)]


class Folder(Exact):
    """Where a run begins."""

    directory: Text


class Schedule(Exact):
    """When runs begin by themselves."""

    slug: Name
    cron: Text
    timezone: Text
    active: bool

    @model_validator(mode="after")
    def _be_valid(self) -> Self:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            first = error.errors()[0]
            facts = {
                "what": str(first["loc"][0]),
                "found": str(first["input"]),
                "why": first["msg"].removeprefix("Value error, "),
            }
            raise PydanticCustomError("schedule", "{what} is '{found}': {why}", facts) from None
        return self


class JobVariables(Exact):
    """What the worker starts a run with."""

    working_dir: Text
    env: dict[str, str] = {}


class Pool(Exact):
    """The pool and queue of a deployment, both declared above."""

    name: Name
    work_queue_name: Name
    job_variables: JobVariables


class ConcurrencyLimit(Exact):
    """How many runs of a deployment go at a time, and what becomes of the others."""

    limit: Limit
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Deployment(Exact):
    """A flow in service."""

    name: Name
    entrypoint: Annotated[str, Field(pattern=r"^flows/\w+\.py:\w+$")]
    description: Text
    tags: Annotated[list[Name], Field(min_length=1)]
    parameters: dict[str, Any]
    work_pool: Pool
    concurrency_limit: ConcurrencyLimit
    schedules: list[Schedule] = []

    @property
    def flow(self) -> "Flow[..., Any]":
        """Import the flow; errors: LookupError saying what is missing."""
        from prefect import Flow

        path, function = self.entrypoint.split(":")
        module = path.removesuffix(".py").replace("/", ".")
        try:
            found = getattr(importlib.import_module(module), function, None)
        except ModuleNotFoundError as error:
            raise LookupError(f"there is no {path}" if error.name == module else str(error)) from None
        if not isinstance(found, Flow):
            raise LookupError(f"{path} has no flow {function}")
        return found

    @property
    def full_name(self) -> str:
        return f"{self.flow.name}/{self.name}"


class Declared(Exact):
    """The whole of prefect.yaml; `name` marks what this project made on a server."""

    name: Name
    pull: list[dict[Literal["prefect.deployments.steps.set_working_directory"], Folder]]
    work_pools: Annotated[list[WorkPool], Field(min_length=1)]
    automations: list[Automation]
    deployments: Annotated[list[Deployment], Field(min_length=1)]
