"""Make a Prefect server match prefect.yaml, and see that it does."""

from typing import TYPE_CHECKING

from deployments.plan import Change, Facts, Kind, Thing, changes
from deployments.server import send
from deployments.server_state import DEFAULT_QUEUE, server_state
from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


class Unmatched(LakehouseError):
    """A server that took every change and still differs. Exit code 1."""

    def __init__(self, left: list[str]) -> None:
        self.left = left
        told = ", ".join(left)
        super().__init__(
            f"The server took every change and still differs in: {told}. See whether another deploys to it."
        )


def plan(client: "SyncPrefectClient", wanted: list[Thing], project: str) -> list[Change]:
    """Say what would make the server match; errors: ServiceDown."""
    return changes(wanted, server_state(client, project))


def apply(client: "SyncPrefectClient", wanted: list[Thing], project: str, todo: list[Change]) -> None:
    """Make the planned changes, in order, and read back what came of them; errors: ServiceDown, Unmatched."""
    for change in todo:
        _change(client, change)
    if left := plan(client, wanted, project):
        raise Unmatched([f"{change.thing.kind} {change.thing.name}" for change in left])


def _change(client: "SyncPrefectClient", change: Change) -> None:
    thing = change.thing
    match (thing.kind, change.action):
        case (kind, "remove"):
            send(client, "DELETE", _place(kind, thing))
        case (Kind.WORK_POOL, "create"):
            from prefect.workers.process import ProcessWorker

            template = {"base_job_template": ProcessWorker.get_default_base_job_template()}
            send(client, "POST", "/work_pools/", {"name": thing.name, **thing.facts, **template})
        case (Kind.WORK_QUEUE, "create") if not thing.name.endswith(f"/{DEFAULT_QUEUE}"):
            pool, name = thing.name.split("/")
            send(client, "POST", f"/work_pools/{pool}/queues", {"name": name, **thing.facts})
        case (Kind.WORK_POOL | Kind.WORK_QUEUE as kind, _):
            send(client, "PATCH", _place(kind, thing), {k: v for k, v in thing.facts.items() if k != "type"})
        case (Kind.DEPLOYMENT, _):
            _deploy(client, thing)
        case (Kind.WEBHOOK, _):
            _keep_webhook(thing)
        case (Kind.AUTOMATION, "create"):
            send(client, "POST", "/automations/", _automation(client, thing) | {"enabled": True})
        case (Kind.AUTOMATION, _):
            kept = send(client, "GET", _place(Kind.AUTOMATION, thing))["enabled"]
            body = _automation(client, thing) | {"enabled": kept}
            send(client, "PUT", _place(Kind.AUTOMATION, thing), body)


def _place(kind: Kind, thing: Thing) -> str:
    match kind:
        case Kind.WORK_POOL:
            return f"/work_pools/{thing.name}"
        case Kind.WORK_QUEUE:
            return "/work_pools/{}/queues/{}".format(*thing.name.split("/"))
        case Kind.DEPLOYMENT:
            return f"/deployments/{thing.key}"
        case Kind.WEBHOOK:
            return f"/block_documents/{thing.key}"
        case Kind.AUTOMATION:
            return f"/automations/{thing.key}"


def _deploy(client: "SyncPrefectClient", thing: Thing) -> None:
    """Send a deployment whole: the server then drops the schedules it had, and makes those that are sent."""
    flow, name = thing.name.split("/")
    body = {k: v for k, v in thing.facts.items() if k != "collision_strategy"} | {
        "name": name,
        "flow_id": send(client, "POST", "/flows/", {"name": flow})["id"],
        "concurrency_options": {"collision_strategy": thing.facts["collision_strategy"]},
        "schedules": [_schedule(slug, facts) for slug, facts in thing.facts["schedules"].items()],
    }
    send(client, "POST", "/deployments/", body)


def _schedule(slug: str, facts: Facts) -> Facts:
    schedule = {"cron": facts["cron"], "timezone": facts["timezone"]}
    return {"slug": slug, "active": facts["active"], "schedule": schedule}


def _keep_webhook(thing: Thing) -> None:
    from prefect.blocks.webhook import Webhook

    Webhook(**thing.facts).save(thing.name, overwrite=True)


def _automation(client: "SyncPrefectClient", thing: Thing) -> Facts:
    facts = thing.facts
    trigger = {
        "type": "event",
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        **{name: facts[name] for name in ("match", "match_related", "posture", "after", "expect", "within")},
    }
    actions = [_action(client, action) for action in facts["actions"]]
    described = {name: facts[name] for name in ("description", "tags")}
    return {"name": thing.name, **described, "trigger": trigger, "actions": actions}


def _action(client: "SyncPrefectClient", action: Facts) -> Facts:
    if "webhook" not in action:
        return action
    name = action["webhook"]
    document = send(client, "GET", f"/block_types/slug/webhook/block_documents/name/{name}")
    return {k: v for k, v in action.items() if k != "webhook"} | {"block_document_id": document["id"]}
