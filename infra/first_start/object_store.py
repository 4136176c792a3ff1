"""The buckets, the policy and the user of the object store, made or brought back to what is declared here."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from minio.minioadmin import MinioAdmin

from infra.first_start.administrators import StoreAdministrator
from lakehouse.errors import ServiceDown, WrongUse

POLICY = "lakehouse"
IN_A_BUCKET = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
ON_AN_OBJECT = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:ListMultipartUploadParts",
    "s3:AbortMultipartUpload",
]
SERVICE = "The object store"
_ANSWER_SECONDS = 10


def provision(administrator: StoreAdministrator) -> None:
    """Make what is missing, set the user's password and rights; a second time changes nothing.

    The buckets are those of LAKEHOUSE_ROOT, DATA_PATH and OUTPUT_PATH. Errors: ServiceDown, WrongUse.
    """
    places = {
        "LAKEHOUSE_ROOT": administrator.lakehouse_root,
        "DATA_PATH": administrator.data_path,
        "OUTPUT_PATH": administrator.output_path,
    }
    buckets = sorted({_bucket(name, place) for name, place in places.items()})
    host, is_secure = _address(administrator.minio_endpoint)
    credentials = StaticProvider(administrator.minio_root_user, administrator.minio_root_password.get_secret_value())
    patience = urllib3.PoolManager(timeout=_ANSWER_SECONDS, retries=urllib3.Retry(2, backoff_factor=0.2))
    with _first_contact(administrator.minio_endpoint):
        store = Minio(endpoint=host, credentials=credentials, secure=is_secure, http_client=patience)
        admin = MinioAdmin(endpoint=host, credentials=credentials, secure=is_secure, http_client=patience)
        for bucket in buckets:
            if not store.bucket_exists(bucket_name=bucket):
                store.make_bucket(bucket_name=bucket)
        admin.policy_add(POLICY, policy=policy(buckets))
        admin.user_add(administrator.minio_access_key, administrator.minio_secret_key.get_secret_value())
        if _policy_of(admin, administrator.minio_access_key) != POLICY:
            admin.policy_set(POLICY, user=administrator.minio_access_key)


def policy(buckets: list[str]) -> dict[str, object]:
    """Allow to list some buckets, and to read, write and delete what is in them."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": IN_A_BUCKET, "Resource": [f"arn:aws:s3:::{name}" for name in buckets]},
            {"Effect": "Allow", "Action": ON_AN_OBJECT, "Resource": [f"arn:aws:s3:::{name}/*" for name in buckets]},
        ],
    }


def _policy_of(admin: MinioAdmin, user: str) -> str:
    return str(json.loads(admin.user_info(user)).get("policyName", ""))


def _refusal(said: str) -> str:
    """Give the code and the sentence out of what the administration answers."""
    found = dict(re.findall(r'"(Code|Message)":"([^"]*)"', said))
    return (
        f"{found['Code']}: {found.get('Message', '')}".strip(" .") if "Code" in found else " ".join(said.split())[:300]
    )


def _bucket(name: str, place: str) -> str:
    parts = urlsplit(place)
    if parts.scheme != "s3" or not parts.netloc:
        raise WrongUse(name, place, "a bucket, or a folder in one, like s3://lakehouse/tables")
    return parts.netloc


def _address(endpoint: str) -> tuple[str, bool]:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise WrongUse("MINIO_ENDPOINT", endpoint, "an address like http://127.0.0.1:9000")
    return parts.netloc, parts.scheme == "https"


@contextmanager
def _first_contact(endpoint: str) -> Iterator[None]:
    """Turn what the store says into one sentence."""
    try:
        yield
    except S3Error as error:
        remedy = "Correct MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, or the bucket's name."
        raise ServiceDown(SERVICE, endpoint, f"{error.code}: {error.message}".strip(" ."), remedy) from None
    except MinioAdminException as error:
        remedy = "Give MINIO_ROOT_USER the right to make users and policies."
        raise ServiceDown(SERVICE, endpoint, _refusal(str(error)), remedy) from None
    except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
        reason = " ".join(str(error).rpartition("(Caused by ")[2].rstrip(")").split())[:300]
        raise ServiceDown(SERVICE, endpoint, reason, "Start it, or correct MINIO_ENDPOINT.") from None
