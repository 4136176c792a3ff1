"""What the declarations mean on a server: each thing as the facts in which it is compared and sent."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from deployments.declaration import Automation, Cancel, Crash, Declared, Deployment, Notify, Schedule, WorkPool
from deployments.parameters import schema_of
from deployments.plan import Facts, Kind, Thing
from lakehouse.errors import WrongUse

RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
MESSAGE = (
    '{"text": {{ ("TEXT: " ~ flow.name ~ ", run " ~ flow_run.name ~ ", " ~ flow_run.state.name ~ ". "'
    ' ~ (flow_run.state.message or "") ~ " " ~ ((flow_run | ui_url) or "")) | tojson }}}'
)


def declared_state(declared: Declared, notification_url: str) -> tuple[list[Thing], list[str]]:
    """Give what is declared, and the names of automations that are left out: they notify, and no address is set.

    Errors: WrongUse for an address that is none.
    """
    project = declared.name
    things = [thing for pool in declared.work_pools for thing in _pools(pool, project)]
    things += [_deployment(deployment, declared) for deployment in declared.deployments]
    if notification_url:
        things.append(_webhook(notification_url, project))
    out = [a.name for a in declared.automations if _notifies(a) and not notification_url]
    things += [_automation(a, project) for a in declared.automations if a.name not in out]
    return things, out


def mark(description: str, project: str) -> str:
    """Mark what has no tags as made by a project."""
    return f"{description} [{project}]"


def webhook_name(project: str) -> str:
    """Name the block that holds the address of notifications."""
    return f"{project}-notifications"


def _pools(pool: WorkPool, project: str) -> Iterator[Thing]:
    facts = {"type": pool.type, "description": mark(pool.description, project)}
    yield Thing(Kind.WORK_POOL, pool.name, {**facts, "concurrency_limit": pool.concurrency_limit})
    for queue in pool.work_queues:
        limits = {"concurrency_limit": queue.concurrency_limit}
        limits |= {"priority": queue.priority} if queue.priority is not None else {}
        described = {"description": mark(queue.description, project)}
        yield Thing(Kind.WORK_QUEUE, f"{pool.name}/{queue.name}", described | limits)


def _deployment(deployment: Deployment, declared: Declared) -> Thing:
    pool, limit = deployment.work_pool, deployment.concurrency_limit
    facts: Facts = {
        "entrypoint": deployment.entrypoint,
        "description": deployment.description,
        "tags": sorted({*deployment.tags, declared.name}),
        "parameters": deployment.parameters,
        "parameter_openapi_schema": schema_of(deployment.flow),
        "enforce_parameter_schema": True,
        "work_pool_name": pool.name,
        "work_queue_name": pool.work_queue_name,
        "job_variables": pool.job_variables.model_dump(exclude_defaults=True),
        "pull_steps": [{step: folder.model_dump() for step, folder in one.items()} for one in declared.pull],
        "concurrency_limit": limit.limit,
        "collision_strategy": limit.collision_strategy,
        "schedules": {schedule.slug: _schedule(schedule) for schedule in deployment.schedules},
    }
    return Thing(Kind.DEPLOYMENT, deployment.full_name, facts)


def _schedule(schedule: Schedule) -> Facts:
    return {"cron": schedule.cron, "timezone": schedule.timezone, "active": schedule.active}


def _webhook(url: str, project: str) -> Thing:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUse("NOTIFICATION_URL", "(hidden)", "an address like https://hooks.example.com/services/…")
    facts = {"method": "POST", "url": url, "headers": {"Content-Type": "application/json"}}
    return Thing(Kind.WEBHOOK, webhook_name(project), facts)


def _automation(automation: Automation, project: str) -> Thing:
    trigger = automation.trigger
    facts: Facts = {
        "description": automation.description,
        "tags": [project],
        "match": RUNS,
        "match_related": {"prefect.resource.id": f"prefect.tag.{project}", "prefect.resource.role": "tag"},
        "posture": trigger.posture,
        "after": sorted(trigger.after),
        "expect": sorted(trigger.expect),
        "within": trigger.within or 0,
        "actions": [_action(action, project) for action in automation.actions],
    }
    return Thing(Kind.AUTOMATION, automation.name, facts)


def _action(action: Crash | Cancel | Notify, project: str) -> Facts:
    match action:
        case Crash() | Cancel():
            return action.model_dump()
        case Notify():
            payload = MESSAGE.replace("TEXT", action.text)
            return {"type": "call-webhook", "webhook": webhook_name(project), "payload": payload}


def _notifies(automation: Automation) -> bool:
    return any(isinstance(action, Notify) for action in automation.actions)
