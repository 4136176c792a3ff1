"""The one place where an engine is started and a session is made."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.errors import ServiceDown
from lakehouse.settings import Settings

JARS = ("io.delta:delta-spark_4.2_2.13:4.4.0", "io.delta:delta-storage:4.4.0")
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
SPARK = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
    "spark.connect.grpc.binding.address": "127.0.0.1",
}


@dataclass(frozen=True)
class Engine:
    """A started engine: its name, its session, and where another process reaches it."""

    name: str
    session: SparkSession
    address: str
    server: Any = None

    def stop(self) -> None:
        """Close the session, and what was started for it."""
        with suppress(Exception):  # a session whose server is gone has nothing left to close
            self.session.stop()
        if self.server is not None:
            self.server.stop()


def start(settings: Settings) -> Engine:
    """Start the engine the settings name; errors: ServiceDown."""
    return _spark(settings) if settings.engine == "spark" else _sail(settings)


def _sail(settings: Settings) -> Engine:
    os.environ.setdefault("RUST_LOG", "off")
    os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(settings.engine_partitions)
    from pysail.spark import SparkConnectServer  # reads both variables when it is imported

    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start(background=True)
    address = f"sc://127.0.0.1:{server.listening_address[1]}"
    session = SparkSession.builder.remote(address).create()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.conf.set("spark.sql.shuffle.partitions", str(settings.engine_partitions))
    return Engine("sail", session, address, server)


def _spark(settings: Settings) -> Engine:
    _need_java()
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    os.environ.setdefault("SPARK_CONNECT_AUTHENTICATE_TOKEN", secrets.token_hex(16))
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    port, partitions = _free_port(), str(settings.engine_partitions)
    chosen = SPARK | {
        "spark.sql.shuffle.partitions": partitions,
        "spark.jars.packages": ",".join(JARS),
        "spark.jars.excludes": ",".join(EXCLUDED),
        "spark.connect.grpc.binding.port": str(port),
        "spark.connect.authenticate.token": os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"],
    }
    builder = SparkSession.builder.master(f"local[{partitions}]").appName("lakehouse")
    for name, value in chosen.items():
        builder = builder.config(name, value)
    try:
        server = builder.getOrCreate()
    except Exception as error:  # py4j and Ivy raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise ServiceDown("Spark", "this machine", reason, "See that its jars can be fetched, or use ENGINE=sail.") from error
    address = f"sc://localhost:{port}"  # a token without TLS is sent to this name only
    return Engine("spark", ConnectSession.builder.remote(address).create(), address, server)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _need_java() -> None:
    java = shutil.which("java", path=os.path.join(os.environ.get("JAVA_HOME", ""), "bin")) or shutil.which("java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr if java else ""
    version = next((int(w.strip('"').split(".")[0]) for w in said.split() if w.strip('"')[:1].isdigit()), 0)
    if version < 17:
        found = f"Java {version} is installed" if version else "no Java is installed"
        raise ServiceDown("Spark", "this machine", found, "Install Java 17 or newer, or use ENGINE=sail.")
