"""The stack: its services in the order of their start, begun together, ended together, or one at a time."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.stack import process
from infra.stack.minio import minio
from infra.stack.plan import PROJECT, Plan
from infra.stack.postgres import postgres
from infra.stack.prefect import POOLS, server, workers
from infra.stack.process import Service
from infra.stack.spark import WORKERS, spark
from lakehouse.errors import NotFound, ServiceDown

NAMES = ("minio", "postgres", "spark-master", *WORKERS, "spark-connect", "prefect-server", *POOLS)


def up(plan: Plan, tell: Callable[[str], None]) -> None:
    """Start what does not run, each when what it needs answers; errors: ServiceDown."""
    for services in _waves(plan):
        for service in services:
            process.begin(service, plan.folder)
        for service in services:
            process.await_ready(service, plan.folder)
            tell(service.name)


def down(folder: Path) -> None:
    """End everything that was started in a folder, the last first, and nothing else."""
    for name in reversed(NAMES):
        process.end(name, folder)


def kill(folder: Path, name: str) -> None:
    """End a service's own process at once; errors: NotFound."""
    process.kill(_known(name), folder)


def begin(plan: Plan, name: str) -> None:
    """Start one service again, and wait until it answers; errors: NotFound, ServiceDown."""
    process.end(_known(name), plan.folder)  # what the one before it left
    service = next(s for services in _waves(plan, is_prepared=True) for s in services if s.name == name)
    process.begin(service, plan.folder)
    process.await_ready(service, plan.folder)


def _waves(plan: Plan, is_prepared: bool = False) -> Iterator[list[Service]]:
    """Give the services in waves; each wave needs the one before."""
    master, *others, connect = spark(plan)
    yield [minio(plan), postgres(plan), master]
    if not is_prepared:
        _prepare(plan)
    yield [*others, server(plan)]
    yield [connect, *workers(plan)]


def _prepare(plan: Plan) -> None:
    """Make the buckets, databases, users and their rights, as in a first start."""
    own = {
        "MINIO_ROOT_USER": "root",
        "POSTGRES_ADMIN_PASSWORD": plan.secrets["postgres_admin_password"],
    }
    passwords = ("minio_root", "source_owner", "source_reader", "warehouse", "prefect_db")
    own |= {f"{name}_password".upper(): plan.secrets[f"{name}_password"] for name in passwords}
    done = subprocess.run(
        [sys.executable, "-m", "infra.first_start", "postgres", "object-store"],
        cwd=PROJECT,
        env=plan.services | plan.clients | own,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceDown(
            "The first start", "this machine", " ".join(done.stderr.split())[-500:], f"See {plan.folder / 'logs'}."
        )


def _known(name: str) -> str:
    if name not in NAMES:
        raise NotFound("service", name, list(NAMES))
    return name
