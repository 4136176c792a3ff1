"""Spark as processes: a master, two workers, and the one Spark Connect server that commits for all."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pyspark

from infra.jars import folder_of_jars
from infra.stack.plan import HOST, PROJECT, Plan
from infra.stack.process import Service, log_of, will_say
from lakehouse.engine.spark_server import TOKEN, installed_java
from lakehouse.settings import Settings

CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
WORKERS = ("spark-worker-1", "spark-worker-2")
SPARK = Path(pyspark.__file__).parent
DEFAULTS = PROJECT / "infra" / "spark" / "spark-defaults.conf"


def spark(plan: Plan) -> list[Service]:
    """Describe Spark, in the order of its start; its configuration and scratch space are in `spark/` of the folder."""
    folder = plan.folder / "spark"
    folder.mkdir(exist_ok=True)
    _configure(plan, folder)
    environment = _environment(plan, folder)
    master, port = f"spark://{HOST}:{plan.ports['spark_master']}", plan.ports["spark_connect"]
    connect = ("spark-submit", "--master", master, "--class", CONNECT, "--name", "lakehouse", "spark-internal")
    own = environment | {TOKEN: plan.secrets["spark_remote_token"]}
    return [
        _master(plan, environment),
        *(_worker(name, master, plan, environment) for name in WORKERS),
        Service("spark-connect", _program(*connect), lambda: listens(port), own, folder),
    ]


def _master(plan: Plan, environment: dict[str, str]) -> Service:
    port = plan.ports["spark_master"]
    given = ("--host", HOST, "--port", str(port), "--webui-port", "0")
    command = _program("spark-class", "org.apache.spark.deploy.master.Master", *given)
    return Service("spark-master", command, lambda: listens(port), environment, plan.folder)


def _worker(name: str, master: str, plan: Plan, environment: dict[str, str]) -> Service:
    scratch = str(plan.folder / "spark" / name)
    given = ("--host", HOST, "--webui-port", "0", "--cores", "1", "--memory", "2g", "--work-dir", scratch, master)
    command = _program("spark-class", "org.apache.spark.deploy.worker.Worker", *given)
    is_registered = will_say("Successfully registered with master", log_of(name, plan.folder))
    return Service(name, command, is_registered, environment, plan.folder)


def _program(name: str, *words: str) -> tuple[str, ...]:
    return (str(SPARK / "bin" / name), *words)


def listens(port: int) -> bool:
    """Say whether somebody listens on a port of the loopback."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _configure(plan: Plan, folder: Path) -> None:
    """Write what the common configuration leaves open; only its owner may read the secret."""
    jars = f"{folder_of_jars()}/*"
    own = {
        "spark.authenticate": "true",
        "spark.authenticate.secret": plan.secrets["spark_secret"],
        "spark.connect.grpc.binding.address": HOST,
        "spark.connect.grpc.binding.port": str(plan.ports["spark_connect"]),
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.driver.memory": "2g",
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.executor.memory": "2g",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    lines = [DEFAULTS.read_text(), *(f"{name} {value}\n" for name, value in own.items())]
    file = folder / "spark-defaults.conf"
    file.touch(mode=0o600)
    file.write_text("".join(lines))


def _environment(plan: Plan, folder: Path) -> dict[str, str]:
    store = Settings.model_validate({name.lower(): value for name, value in plan.clients.items()}).object_store
    java = Path(installed_java()).resolve().parent
    own = {
        "PATH": os.pathsep.join([str(java), plan.services["PATH"]]),
        "SPARK_HOME": str(SPARK),
        "SPARK_CONF_DIR": str(folder),
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "SPARK_LOCAL_IP": HOST,
        "SPARK_NO_DAEMONIZE": "1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(PROJECT),
    }
    return plan.services | store | own
