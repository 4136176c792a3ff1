"""PostgreSQL as a process on a port of the loopback, which wants a password of everybody."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

import psycopg

from infra.stack.plan import HOST, Plan
from infra.stack.process import Service
from lakehouse.errors import ServiceDown
from lakehouse.postgres.programs import ENVIRONMENT, installations, owner_of

ADMINISTRATOR = "postgres"


def postgres(plan: Plan) -> Service:
    """Describe PostgreSQL; its data is in `postgres/` of the plan's folder. Errors: ServiceDown."""
    programs = _programs()
    data = plan.folder / "postgres"
    owner = owner_of(data)
    if not (data / "PG_VERSION").exists():
        _make(programs, data, plan)
    settings = {
        "listen_addresses": HOST,
        "port": str(plan.ports["postgres"]),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "jit": "off",
    }
    command = [str(programs / "postgres"), "-D", "{handed}"]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Service("postgres", tuple(command), lambda: _is_ready(plan), ENVIRONMENT, owner=owner, handed=data)


def _programs() -> Path:
    """Choose programs with the extension that Prefect needs; those of the wheel have none."""
    for programs in installations():
        share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
        if share.returncode == 0 and (Path(share.stdout.strip()) / "extension" / "pg_trgm.control").exists():
            return programs
    raise ServiceDown("PostgreSQL", "this machine", "none with pg_trgm is installed", "Install postgresql-contrib.")


def _make(programs: Path, data: Path, plan: Plan) -> None:
    """Run initdb; the password is in a file without a name."""
    data.mkdir(mode=0o700, exist_ok=True)
    owner = owner_of(data)
    if owner:
        os.chown(data, owner.uid, owner.gid)
    folder = os.open(data, os.O_RDONLY)
    how = ["-U", ADMINISTRATOR, "--auth=scram-sha-256", "--locale=C", "--encoding=UTF8"]
    with TemporaryFile() as password:
        password.write(plan.secrets["postgres_admin_password"].encode())
        password.flush()
        if owner:
            os.fchown(password.fileno(), owner.uid, owner.gid)
        done = subprocess.run(
            [
                str(programs / "initdb"),
                f"--pgdata=/proc/self/fd/{folder}",
                f"--pwfile=/proc/self/fd/{password.fileno()}",
                *how,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=[folder, password.fileno()],
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
    os.close(folder)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise ServiceDown("PostgreSQL", str(data), f"initdb said: {said}", "Remove the folder, then try again.")


def _is_ready(plan: Plan) -> bool:
    try:
        psycopg.connect(
            host=HOST,
            port=plan.ports["postgres"],
            user=ADMINISTRATOR,
            password=plan.secrets["postgres_admin_password"],
            dbname="postgres",
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError:
        return False
    return True
