"""Prefect as processes: a server on PostgreSQL that wants a password, and a worker for each pool."""

import sys
from base64 import b64encode

from infra.stack.minio import answers
from infra.stack.plan import HOST, PROJECT, Plan
from infra.stack.process import Service, log_of, will_say

POOLS = {"worker-etl": "etl-pool", "worker-ml": "ml-pool"}
PREFECT = (sys.executable, "-m", "prefect")


def server(plan: Plan) -> Service:
    """Describe the server; what it keeps besides its database is in `prefect/` of the plan's folder."""
    port, login = plan.ports["prefect"], plan.clients["PREFECT_API_AUTH_STRING"]
    database = f"prefect:{plan.secrets['prefect_db_password']}@{HOST}:{plan.ports['postgres']}/prefect"
    own = {
        "PREFECT_HOME": str(plan.folder / "prefect"),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_API_AUTH_STRING": login,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": plan.clients["PREFECT_API_URL"],
    }
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    command = (*PREFECT, "server", "start")
    return Service("prefect-server", command, lambda: answers(port, "/api/ready", headers), plan.services | own)


def workers(plan: Plan) -> list[Service]:
    """Describe the workers; each has every setting that points it at the stack."""
    own = {
        "PREFECT_HOME": str(plan.folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PYTHONPATH": str(PROJECT),
    }
    given = plan.services | plan.clients | own
    return [
        Service(
            name,
            (*PREFECT, "worker", "start", "--pool", pool, "--type", "process", "--name", name),
            will_say(" started!", log_of(name, plan.folder)),
            given,
            PROJECT,
        )
        for name, pool in POOLS.items()
    ]
