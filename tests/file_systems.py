"""File systems of a test's own, to be full or read-only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ONLY_ROOT_MOUNTS = "only root mounts a file system"


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Make a folder with a file system of that size, as `8m`, and unmount it at the end."""
    if os.geteuid() != 0:
        pytest.skip(ONLY_ROOT_MOUNTS)
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no file system can be mounted here: there is no mount")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lakehouse-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
