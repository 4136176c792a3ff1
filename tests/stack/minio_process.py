"""A MinIO of a test's own: a process on a port of the loopback, in a folder that goes with it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.health import silence
from tests.stack.reasons import NO_MINIO
from tests.waiting import wait_until


@contextmanager
def minio(folder: Path, root_password: str) -> Iterator[str]:
    """Give the address of a new store, whose administrator is `root` with that password."""
    program, port = _program(), _free_port()
    address = f"http://127.0.0.1:{port}"
    own = {
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": root_password,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    with (folder / "minio.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")],
            env={"PATH": os.defpath, "HOME": str(folder)} | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: process.poll() is not None or not silence(f"{address}/minio/health/ready"))
        assert process.poll() is None, (folder / "minio.log").read_text()
        yield address
    finally:
        process.kill()
        process.wait()


def _program() -> str:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sales-lakehouse"
    found = (
        os.environ.get("MINIO_BINARY") or shutil.which("minio") or next(map(str, caches.glob("minio-*/minio")), None)
    )
    if found is None:
        pytest.skip(NO_MINIO)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
