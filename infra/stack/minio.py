"""MinIO as a process; its program from MINIO_BINARY, the path, or built with Go once and kept.

`python -m infra.stack.minio` prints where the program is.
"""

import os
import shutil
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.cache import cached_folder
from infra.stack.plan import HOST, Plan
from infra.stack.process import Service
from lakehouse.errors import LakehouseError, ServiceDown

MODULE = "github.com/minio/minio"
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"  # tags do not build: its module is none of a release


class Program(BaseSettings):
    """Hold where MinIO's program is, when it is not to be looked for."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    minio_binary: Path | None = None


def minio_program() -> Path:
    """Give MinIO's program; building it takes minutes. Errors: ServiceDown."""
    named = Program().minio_binary or shutil.which("minio")
    return Path(named) if named else cached_folder(f"minio-{VERSION.split('-')[1]}", _build) / "minio"


def _build(into: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ServiceDown("MinIO", "this machine", "there is no minio and no Go to build it", "Set MINIO_BINARY.")
    environment = os.environ | {"GOBIN": str(into), "GOFLAGS": "-buildvcs=false"}
    command = [go, "install", f"{MODULE}@{VERSION}"]
    done = subprocess.run(command, env=environment, cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceDown("Building MinIO", "this machine", " ".join(done.stderr.split())[-300:], "Set MINIO_BINARY.")


def minio(plan: Plan) -> Service:
    """Describe MinIO; what it keeps is in `minio/` of the plan's folder."""
    data = plan.folder / "minio"
    data.mkdir(exist_ok=True)
    port = plan.ports["minio"]
    own = {
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": plan.secrets["minio_root_password"],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    command = (str(minio_program()), "server", "--quiet", "--address", f"{HOST}:{port}", str(data))
    return Service("minio", command, lambda: answers(port, "/minio/health/ready"), plan.services | own)


def answers(port: int, path: str, headers: dict[str, str] | None = None) -> bool:
    """Say whether a service on this machine answers a request with success."""
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    try:
        print(minio_program())
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
