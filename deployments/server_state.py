"""What a Prefect server has, as the same values as what is declared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deployments.declared_state import mark, webhook_name
from deployments.plan import Facts, Kind, Thing
from deployments.server import pages

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

DEFAULT_QUEUE = "default"
DEPLOYMENT = (
    "entrypoint",
    "description",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
    "pull_steps",
)
WEBHOOK_TYPE = "webhook"


def server_state(client: "SyncPrefectClient", project: str) -> list[Thing]:
    """Read every work pool, queue, deployment, webhook and automation, and whether the project made it."""
    webhook = _webhook(client, project)
    return [
        *_pools(client, project),
        *_deployments(client, project),
        *([webhook] if webhook else []),
        *_automations(client, project, webhook),
    ]


def _pools(client: "SyncPrefectClient", project: str) -> Iterator[Thing]:
    made_by = mark("", project)
    for pool in pages(client, "/work_pools/filter"):
        name = pool["name"]
        facts = {field: pool[field] for field in ("type", "description", "concurrency_limit")}
        yield Thing(Kind.WORK_POOL, name, facts, pool["id"], (pool["description"] or "").endswith(made_by))
        for queue in pages(client, f"/work_pools/{name}/queues/filter"):
            facts = {field: queue[field] for field in ("description", "concurrency_limit", "priority")}
            is_ours = (queue["description"] or "").endswith(made_by) and queue["name"] != DEFAULT_QUEUE
            yield Thing(Kind.WORK_QUEUE, f"{name}/{queue['name']}", facts, queue["id"], is_ours)


def _deployments(client: "SyncPrefectClient", project: str) -> Iterator[Thing]:
    flows = {flow["id"]: flow["name"] for flow in pages(client, "/flows/filter")}
    for one in pages(client, "/deployments/filter"):
        limit, options = one["global_concurrency_limit"], one["concurrency_options"]
        facts: Facts = {field: one[field] for field in DEPLOYMENT} | {
            "tags": sorted(one["tags"]),
            "concurrency_limit": limit["limit"] if limit else None,
            "collision_strategy": options["collision_strategy"] if options else None,
            "schedules": {schedule["slug"] or schedule["id"]: _schedule(schedule) for schedule in one["schedules"]},
        }
        name = f"{flows[one['flow_id']]}/{one['name']}"
        yield Thing(Kind.DEPLOYMENT, name, facts, one["id"], project in one["tags"])


def _schedule(schedule: dict[str, Any]) -> Facts:
    given = schedule["schedule"]
    facts = {field: given[field] for field in ("cron", "interval", "rrule", "timezone") if given.get(field)}
    return facts | {"active": schedule["active"]}


def _webhook(client: "SyncPrefectClient", project: str) -> Thing | None:
    name = webhook_name(project)
    asked = {"block_documents": {"name": {"any_": [name]}}, "include_secrets": True}
    for block in pages(client, "/block_documents/filter", **asked):
        if block["block_type"]["slug"] == WEBHOOK_TYPE:
            facts = {field: block["data"].get(field) for field in ("method", "url", "headers")}
            return Thing(Kind.WEBHOOK, name, facts, block["id"])
    return None


def _automations(client: "SyncPrefectClient", project: str, webhook: Thing | None) -> Iterator[Thing]:
    for one in pages(client, "/automations/filter"):
        trigger = one["trigger"]
        facts: Facts = {
            "description": one["description"],
            "tags": one["tags"],
            "match": trigger.get("match"),
            "match_related": trigger.get("match_related"),
            "posture": trigger.get("posture"),
            "after": sorted(trigger.get("after") or []),
            "expect": sorted(trigger.get("expect") or []),
            "within": trigger.get("within"),
            "actions": [_action(action, webhook) for action in one["actions"]],
        }
        yield Thing(Kind.AUTOMATION, one["name"], facts, one["id"], project in one["tags"])


def _action(action: Facts, webhook: Thing | None) -> Facts:
    """Give an action in our words: the webhook by its name, and nothing that the server added."""
    kept = ("type", "state", "message", "payload")
    facts = {field: action[field] for field in kept if action.get(field) is not None}
    if "block_document_id" in action:
        is_ours = webhook is not None and action["block_document_id"] == webhook.key
        facts["webhook"] = webhook.name if webhook and is_ours else action["block_document_id"]
    return facts
