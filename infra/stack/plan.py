"""Where the services of a stack listen and what they ask for: chosen once for a folder, kept in it."""

import json
import os
import secrets
import socket
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
PORTS = ("minio", "postgres", "prefect", "spark_master", "spark_connect")
SECRETS = (
    "minio_root_password",
    "minio_secret_key",
    "postgres_admin_password",
    "source_owner_password",
    "source_reader_password",
    "warehouse_password",
    "prefect_db_password",
    "prefect_api_password",
    "spark_secret",
    "spark_remote_token",
)
PROJECT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "JDK_JAVA_OPTIONS", "XDG_CACHE_HOME", "USER")


@dataclass(frozen=True)
class Plan:
    """A stack in a folder: a port and a secret for each name."""

    folder: Path
    ports: dict[str, int]
    secrets: dict[str, str] = field(repr=False)

    @property
    def clients(self) -> dict[str, str]:
        """Give the settings that point a client at the stack."""
        return {
            "LAKEHOUSE_ROOT": "s3://lakehouse/tables",
            "DATA_PATH": "s3://landing",
            "OUTPUT_PATH": "s3://exports",
            "MINIO_ENDPOINT": f"http://{HOST}:{self.ports['minio']}",
            "MINIO_ACCESS_KEY": "lakehouse",
            "MINIO_SECRET_KEY": self.secrets["minio_secret_key"],
            "POSTGRES_HOST": HOST,
            "POSTGRES_PORT": str(self.ports["postgres"]),
            "POSTGRES_DB": "source",
            "POSTGRES_USER": "source_owner",
            "POSTGRES_PASSWORD": self.secrets["source_owner_password"],
            "PREFECT_API_URL": f"http://{HOST}:{self.ports['prefect']}/api",
            "PREFECT_API_AUTH_STRING": f"lakehouse:{self.secrets['prefect_api_password']}",
            "SPARK_REMOTE": f"sc://{HOST}:{self.ports['spark_connect']}",
            "SPARK_REMOTE_TOKEN": self.secrets["spark_remote_token"],
        }

    @property
    def services(self) -> dict[str, str]:
        """Give what every service finds in its environment: nothing of the caller's that could lead it astray."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        return kept | {"PATH": path, "DO_NOT_TRACK": "1", "LAKEHOUSE_HOME": str(self.folder.parent)}


def new_plan(folder: Path) -> Plan:
    """Read the plan of a folder, made the first time."""
    file = folder / "plan.json"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen = Plan(folder, _free_ports(), {name: secrets.token_hex(16) for name in SECRETS})
        _private(file, json.dumps({k: v for k, v in asdict(chosen).items() if k != "folder"}))
    kept = json.loads(file.read_text())
    return Plan(folder, kept["ports"], kept["secrets"])


def write_environment(plan: Plan) -> Path:
    """Write what points a shell at the stack; give the file."""
    file = plan.folder.parent / "stack.env"
    _private(file, "".join(f"export {name}='{value}'\n" for name, value in plan.clients.items()))
    return file


def _private(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    part.replace(file)


def _free_ports() -> dict[str, int]:
    probes = {name: socket.socket() for name in PORTS}
    for probe in probes.values():
        probe.bind((HOST, 0))
    chosen = {name: int(probe.getsockname()[1]) for name, probe in probes.items()}
    for probe in probes.values():
        probe.close()
    return chosen
