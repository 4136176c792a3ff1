"""What the tests of services share: a real MinIO, and what points a process at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.first_start.administrators import StoreAdministrator
from infra.first_start.object_store import provision
from infra.stack import process
from infra.stack.minio import minio
from infra.stack.plan import new_plan

BUCKETS = {"lakehouse_root": "s3://lakehouse/tables", "data_path": "s3://landing", "output_path": "s3://exports"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A MinIO with the lakehouse's buckets and user; gives the variables that point a process at it."""
    plan = new_plan(tmp_path_factory.mktemp("stack"))
    service = minio(plan)
    process.begin(service, plan.folder)
    try:
        process.await_ready(service, plan.folder)
        own = {name: plan.clients[name.upper()] for name in ("minio_endpoint", "minio_access_key", "minio_secret_key")}
        root = {"minio_root_user": "root", "minio_root_password": plan.secrets["minio_root_password"]}
        provision(StoreAdministrator.model_validate(own | root | BUCKETS))
        yield {name.upper(): value for name, value in own.items()}
    finally:
        process.end("minio", plan.folder)


@pytest.fixture
def at_store(store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, in the environment of this process as well; what `load_settings` adds to it goes with the test."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "")
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    return store


def put_all(folder: Path, address: str) -> None:
    """Put every file under a folder as an object under an address."""
    from lakehouse.storage.objects import put

    for file in sorted(folder.rglob("*.csv")):
        put(f"{address}/{file.relative_to(folder).as_posix()}", file.read_bytes())
