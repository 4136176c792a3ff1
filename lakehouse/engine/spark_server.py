"""Apache Spark as a process of its own: a Spark Connect server that ends when this process does, however it ends."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyspark

from lakehouse.errors import ServiceDown

SCALA = "2.13"
EXCLUDED = (  # Delta asks for them, Spark has them or local files do not need them
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "io.unitycatalog:unitycatalog-client",
    "io.unitycatalog:unitycatalog-hadoop",
    "io.delta:delta-kernel-api",
    "io.delta:delta-kernel-defaults",
    "io.delta:delta-kernel-unitycatalog",
    "org.antlr:antlr4-runtime",
)
CONFIGURATION = {
    "spark.jars.excludes": ",".join(EXCLUDED),
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.connect.grpc.binding.address": "127.0.0.1",
}
OLDEST_JAVA = 17
PATIENCE_SECONDS = 180
FAREWELL_SECONDS = 10
TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
# Runs the server until it ends or standard input does, which it does when the parent is gone; then ends the group.
KEEPER = f"""
exec 3<&0
trap : TERM
"$@" & server=$!
{{ read -r _ <&3; kill $server; sleep {FAREWELL_SECONDS}; kill -9 $server; }} 2>/dev/null &
wait $server
rm -rf "$SPARK_LOCAL_DIRS"
kill -9 0
"""


@dataclass(frozen=True)
class SparkServer:
    """A running server: where it is reached, the process that keeps it, and the folder of what it forgets."""

    address: str
    keeper: subprocess.Popen[bytes]
    scratch: str

    def stop(self) -> None:
        """End the server, and wait until it has."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        try:
            self.keeper.wait(FAREWELL_SECONDS + 5)
        except subprocess.TimeoutExpired:
            os.killpg(self.keeper.pid, signal.SIGKILL)
            self.keeper.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


def start_server(partitions: int, log: Path) -> SparkServer:
    """Start a server with so many cores; what Spark says goes to a log file. Errors: ServiceDown."""
    java = Path(installed_java())
    log.parent.mkdir(parents=True, exist_ok=True)
    port, token, scratch = _free_port(), secrets.token_hex(16), tempfile.mkdtemp(prefix="lakehouse-spark-")
    chosen = {"spark.jars.packages": delta_jar()} | CONFIGURATION
    chosen |= {
        "spark.master": f"local[{partitions}]",
        "spark.sql.shuffle.partitions": str(partitions),
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={scratch}",
        "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    }
    settings = [word for name, value in chosen.items() for word in ("--conf", f"{name}={value}")]
    home = Path(pyspark.__file__).parent
    submit = [str(home / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    environment = os.environ | {
        "PATH": f"{java.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "JAVA_HOME": "",
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_DIRS": scratch,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # kernels run in Python processes that Spark starts
        TOKEN: token,
    }
    with log.open("ab") as said:
        before = said.tell()
        keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "sh", *submit, *settings, "spark-internal"],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
    server = SparkServer(f"sc://localhost:{port}/;token={token}", keeper, scratch)
    _await(server, port, log, before)
    return server


def delta_jar() -> str:
    """Name the jar that teaches Spark Delta: of the version of delta-spark, made for the Spark that is installed.

    delta-spark says the same to whoever hands it a builder of classic Spark, which this process does not need.
    """
    spark = ".".join(version("pyspark").split(".")[:2])
    return f"io.delta:delta-spark_{spark}_{SCALA}:{version('delta-spark')}"


def _await(server: SparkServer, port: int, log: Path, before: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers(port):
        ended = server.keeper.poll() is not None
        if ended or time.monotonic() > deadline:
            server.stop()
            reason = _reason(log, before) if ended else f"it did not answer within {PATIENCE_SECONDS} s"
            raise ServiceDown("Spark", "this machine", reason, f"See {log}, or use ENGINE=sail.")
        time.sleep(0.05)


def _reason(log: Path, before: int) -> str:
    """Find in what Spark said why it ended."""
    said = log.read_bytes()[before:].decode("utf-8", "replace")
    if missing := sorted(set(re.findall(r":: (\S+): (?:configuration )?not found", said))):
        return f"its jars could not be fetched: {', '.join(missing).replace('#', ':').replace(';', ':')}"
    first = re.search(r"^.*(exception|error|unable|failed)", said, re.IGNORECASE | re.MULTILINE)
    told = said[first.start() :] if first else said or "it ended without a word"
    return " ".join(told.split())[:300]


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed_java() -> str:
    """Find Java; errors: ServiceDown when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = (home and shutil.which("java", path=f"{home}/bin")) or shutil.which("java")
    said = java and subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said or "")
    if java and found and int(found[1]) >= OLDEST_JAVA:
        return java
    reason = f"Java {found[1]} is installed" if found else "no Java is installed"
    raise ServiceDown("Spark", "this machine", reason, f"Install Java {OLDEST_JAVA} or newer, or use ENGINE=sail.")
