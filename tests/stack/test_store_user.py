"""What the lakehouse's user may in the object store, on a real one; what it may not is tried and must be refused."""

import json
import secrets
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio import Minio
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin

from infra.first_start.__main__ import main
from infra.first_start.administrators import StoreAdministrator
from infra.first_start.object_store import provision
from tests.stack.minio_process import minio

ROOT_PASSWORD, PASSWORD = secrets.token_hex(16), secrets.token_hex(16)
BUCKETS = ("exports", "lakehouse", "landing")
FOREIGN = "somebody-elses"
PLACES = {"lakehouse_root": "s3://lakehouse/tables", "data_path": "s3://landing", "output_path": "s3://exports/latest"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store after first start, with a bucket that is somebody else's."""
    with minio(tmp_path_factory.mktemp("minio"), ROOT_PASSWORD) as found:
        provision(administrator(found))
        root = client(found, "root", ROOT_PASSWORD)
        root.make_bucket(bucket_name=FOREIGN)
        put(root, FOREIGN)
        yield found


def administrator(address: str, **changes: object) -> StoreAdministrator:
    given = {
        "minio_endpoint": address,
        "minio_root_user": "root",
        "minio_root_password": ROOT_PASSWORD,
        "minio_access_key": "lakehouse",
        "minio_secret_key": PASSWORD,
    }
    return StoreAdministrator.model_validate(given | PLACES | changes)


def client(address: str, user: str | None = "lakehouse", password: str | None = PASSWORD) -> Minio:
    once = urllib3.PoolManager(retries=False, timeout=200)
    host = address.removeprefix("http://")
    return Minio(endpoint=host, access_key=user, secret_key=password, secure=False, http_client=once)


def admin(address: str, user: str = "lakehouse", password: str = PASSWORD) -> MinioAdmin:
    host = address.removeprefix("http://")
    return MinioAdmin(endpoint=host, credentials=StaticProvider(user, password), secure=False)


def put(store: Minio, bucket: str, name: str = "one") -> None:
    store.put_object(bucket_name=bucket, object_name=name, data=BytesIO(b"1"), length=1)


def listed(store: Minio, bucket: str) -> list[str | None]:
    return [found.object_name for found in store.list_objects(bucket_name=bucket, recursive=True)]


def rights(address: str) -> dict[str, Any]:
    root = admin(address, "root", ROOT_PASSWORD)
    users = {name: one["policyName"] for name, one in json.loads(root.user_list()).items()}
    statements = json.loads(root.policy_info("lakehouse"))["Statement"]
    policy = [{part: sorted(value) for part, value in one.items()} for one in statements]
    buckets = [bucket.name for bucket in client(address, "root", ROOT_PASSWORD).list_buckets()]
    return {"users": users, "policy": policy, "buckets": buckets}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_the_user_reads_writes_lists_and_deletes_in_its_buckets(address: str, bucket: str) -> None:
    store = client(address)
    put(store, bucket, "a/b")
    assert listed(store, bucket) == ["a/b"]
    answer = store.get_object(bucket_name=bucket, object_name="a/b")
    assert answer.read() == b"1"
    answer.release_conn()
    store.put_object(
        bucket_name=bucket, object_name="large", data=BytesIO(bytes(11 << 20)), length=-1, part_size=5 << 20
    )
    for name in ("a/b", "large"):
        store.remove_object(bucket_name=bucket, object_name=name)
    assert listed(store, bucket) == []


REFUSED: dict[str, Callable[[Minio], object]] = {
    "read another bucket": lambda store: store.get_object(bucket_name=FOREIGN, object_name="one"),
    "write another bucket": lambda store: put(store, FOREIGN),
    "delete in another bucket": lambda store: store.remove_object(bucket_name=FOREIGN, object_name="one"),
    "list another bucket": lambda store: listed(store, FOREIGN),
    "make a bucket": lambda store: store.make_bucket(bucket_name="another"),
    "remove its own bucket": lambda store: store.remove_bucket(bucket_name="exports"),
    "open its bucket to all": lambda store: store.set_bucket_policy(bucket_name="exports", policy=OPEN),
    "read the policy of its bucket": lambda store: store.get_bucket_policy(bucket_name="exports"),
    "let objects expire": lambda store: store.delete_bucket_lifecycle(bucket_name="exports"),
}
OPEN = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::exports/*"}
        ],
    }
)


@pytest.mark.parametrize("attempt", REFUSED)
def test_the_user_may_nothing_else(address: str, attempt: str) -> None:
    with pytest.raises(S3Error) as refused:
        REFUSED[attempt](client(address))
    assert refused.value.code == "AccessDenied"


def test_the_user_sees_only_its_buckets(address: str) -> None:
    assert {bucket.name for bucket in client(address).list_buckets()} <= set(BUCKETS)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda admin: admin.user_list(),
        lambda admin: admin.user_add("another", "another-password-of-it"),
        lambda admin: admin.policy_set("consoleAdmin", user="lakehouse"),
        lambda admin: admin.policy_add("lakehouse", policy={"Version": "2012-10-17", "Statement": []}),
        lambda admin: admin.info(),
        lambda admin: admin.service_stop(),
    ],
    ids=["list users", "add a user", "get more rights", "change its policy", "see the server", "stop the server"],
)
def test_the_user_administers_nothing(address: str, attempt: Callable[[MinioAdmin], object]) -> None:
    with pytest.raises(MinioAdminException, match="AccessDenied"):
        attempt(admin(address))


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        (None, None, "AccessDenied"),
        ("lakehouse", "wrong-password-of-it", "SignatureDoesNotMatch"),
        ("root", "wrong-password-of-it", "SignatureDoesNotMatch"),
        ("minioadmin", "minioadmin", "InvalidAccessKeyId"),
    ],
)
@pytest.mark.parametrize("bucket", [*BUCKETS, FOREIGN])
def test_nobody_gets_in_without_the_right_password(
    address: str, bucket: str, user: str | None, password: str | None, code: str
) -> None:
    with pytest.raises(S3Error) as refused:
        listed(client(address, user, password), bucket)
    assert refused.value.code == code


def test_a_second_first_start_changes_nothing(address: str) -> None:
    put(client(address), "lakehouse", "kept")
    before = rights(address)
    provision(administrator(address))
    assert rights(address) == before
    assert listed(client(address), "lakehouse") == ["kept"]


def test_rights_that_were_added_by_hand_are_taken_back(address: str) -> None:
    before = rights(address)
    root = admin(address, "root", ROOT_PASSWORD)
    root.policy_add("lakehouse", policy={"Version": "2012-10-17", "Statement": [ALL]})
    root.policy_set("readwrite", user="lakehouse")
    assert listed(client(address), FOREIGN) == ["one"]
    provision(administrator(address))
    assert rights(address) == before
    with pytest.raises(S3Error):
        listed(client(address), FOREIGN)


ALL = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}


def test_a_first_start_gives_the_user_its_new_password(address: str) -> None:
    provision(administrator(address, minio_secret_key="another-password-of-it"))
    listed(client(address, password="another-password-of-it"), "exports")
    with pytest.raises(S3Error):
        listed(client(address), "exports")
    provision(administrator(address))
    listed(client(address), "exports")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"MINIO_ENDPOINT": "http://127.0.0.1:1"}, "Connection refused"),
        ({"MINIO_ENDPOINT": "127.0.0.1:9000"}, "an address like http://127.0.0.1:9000"),
        ({"MINIO_ROOT_PASSWORD": "not-the-right-one"}, "SignatureDoesNotMatch"),
        ({"MINIO_ROOT_USER": "nobody-known"}, "InvalidAccessKeyId"),
        ({"MINIO_ROOT_PASSWORD": ""}, "MINIO_ROOT_PASSWORD is None"),
        ({"DATA_PATH": "/landing"}, "a bucket, or a folder in one"),
        ({"MINIO_ROOT_USER": "lakehouse", "MINIO_ROOT_PASSWORD": PASSWORD}, "AccessDenied"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_a_secret(
    address: str,
    changes: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {name.upper(): value for name, value in PLACES.items()}
    known |= {"MINIO_ENDPOINT": address, "MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": ROOT_PASSWORD}
    known |= {"MINIO_ACCESS_KEY": "lakehouse", "MINIO_SECRET_KEY": PASSWORD}
    for name, value in (known | changes).items():
        monkeypatch.setenv(name, value)
    assert main(["object-store"]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert [secret for secret in (ROOT_PASSWORD, PASSWORD, "not-the-right-one") if secret in said] == []


def test_the_store_of_a_user_without_a_policy_lets_it_do_nothing(address: str, tmp_path: Path) -> None:
    root = admin(address, "root", ROOT_PASSWORD)
    root.user_add("stranger", "stranger-password")
    with pytest.raises(S3Error, match="AccessDenied"):
        listed(client(address, "stranger", "stranger-password"), "exports")
    root.user_remove("stranger")
