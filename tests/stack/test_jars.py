"""The jars of a Spark on S3: what is not the jar it says is refused by name."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from infra.jars import LIST, jars
from infra.stack.plan import PROJECT
from tests.waiting import HANG_SECONDS


def asked(cache: Path) -> subprocess.CompletedProcess[str]:
    command, env = [sys.executable, "-m", "infra.jars"], os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )


def test_a_wrong_jar_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "sales-lakehouse" / f"jars-{sha256(LIST.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True)
    first = jars()[0]
    for said, content in (("missing", None), (sha256(b"another").hexdigest(), b"another")):
        if content is not None:
            (folder / first.file).write_bytes(content)
        done = asked(tmp_path)
        assert done.returncode == 1
        expected = (
            f"{folder / first.file}: its SHA-256 is {said}, not {first.sha256}. Remove {folder}, then try again.\n"
        )
        assert done.stderr == expected
