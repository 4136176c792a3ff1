"""The jars that Spark needs for Delta tables on S3: fetched once, by coordinates, and held to their hashes.

`python -m infra.jars` prints their folder.
"""

import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import pyspark

from infra.cache import cached_folder
from lakehouse.engine.spark_server import installed_java
from lakehouse.errors import BadInput, LakehouseError, ServiceDown

LIST = Path(__file__).parent / "spark" / "jars.txt"
FETCH_SECONDS = 900


class Jar(NamedTuple):
    """An artifact, and the hash it must have."""

    organisation: str
    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.jar"


def jars() -> list[Jar]:
    """Read the list."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [Jar(*re.split("[: ]", line, maxsplit=3)) for line in lines]


def folder_of_jars() -> Path:
    """Give the folder of the jars, fetched the first time; errors: ServiceDown, BadInput naming a wrong jar."""
    folder = cached_folder(f"jars-{sha256(LIST.read_bytes()).hexdigest()[:12]}", _fetch)
    for jar in jars():
        _hold(folder / jar.file, jar)
    return folder


def _hold(file: Path, jar: Jar) -> None:
    found = sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"
    if found != jar.sha256:
        raise BadInput(str(file), f"its SHA-256 is {found}, not {jar.sha256}", f"Remove {file.parent}, then try again.")


def _fetch(into: Path) -> None:
    """Have Ivy, which Spark brings, fetch exactly what is listed."""
    described = into / "ivy.xml"
    described.write_text(_module(jars()))
    command = [installed_java(), "-cp", f"{Path(pyspark.__file__).parent}/jars/*", "org.apache.ivy.Main"]
    command += ["-ivy", str(described), "-cache", str(into / "cache"), "-types", "jar", "-confs", "default"]
    command += ["-retrieve", f"{into}/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    for jar in jars():
        if not (into / jar.file).is_file():
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise ServiceDown("Fetching", f"{jar.organisation}:{jar.name}:{jar.version}", said, "Try again.")
        _hold(into / jar.file, jar)


def _module(wanted: list[Jar]) -> str:
    asked = "".join(
        f"<dependency org={quoteattr(j.organisation)} name={quoteattr(j.name)} rev={quoteattr(j.version)} "
        'transitive="false"/>'
        for j in wanted
    )
    return f'<ivy-module version="2.0"><info organisation="lakehouse" module="jars"/>{_deps(asked)}</ivy-module>'


def _deps(asked: str) -> str:
    return f"<dependencies>{asked}</dependencies>"


if __name__ == "__main__":
    try:
        print(folder_of_jars())
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
