"""What a run is asked, and what it found: frozen values passed from step to step."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from flows.run.console import error_console
from lakehouse.engine.session import require_readable
from lakehouse.errors import WrongUse
from lakehouse.parameters import Parameters
from lakehouse.releases.lease import Lease, take
from lakehouse.settings import Settings
from lakehouse.storage.tables import Storage
from lakehouse.version import code_version

MAIN_FLOW = "medallion-etl"  # its run key is that of every run with the same files, whatever flow published them
T = TypeVar("T")


class Step(Protocol):
    """Run one named step, as a Prefect task or directly."""

    def __call__(self, name: str, work: Callable[[], T], *, retries: int = 0, minutes: float = 60) -> T: ...


@dataclass(frozen=True)
class RunRequest:
    """One attempt: what is asked, by whom, when. `started_at` is the only clock its content knows.

    `storage` is that of the lease under which it writes, as soon as it has one.
    """

    flow: str
    settings: Settings
    parameters: Parameters
    run_id: str
    started_at: datetime
    storage: Storage
    source: Path | None = None
    sync_to_frontend: bool = False

    def take_lease(self) -> Lease:
        """Take the lease, and say so on standard error when that means waiting; errors: LeaseTaken, UnsafeStore."""
        settings = self.settings
        self.storage.trust()
        asked = (self.run_id, self.flow, settings.lease_seconds, settings.lease_wait_seconds)
        return take(self.storage, *asked, tell=error_console().print)

    def key(self, inputs_hash: str) -> str:
        """Hash what decides the content of a release: flow, parameters, sources and code."""
        asked = [self.flow, self.parameters.model_dump(), inputs_hash, code_version()]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def front_end(settings: Settings) -> Path:
    """Give the folder the front end reads; errors: WrongUse where none is named."""
    if settings.frontend_path is None:
        raise WrongUse("FRONTEND_PATH", "", "the folder the front end reads")
    return settings.frontend_path


def require_text(option: str, text: str) -> None:
    """See that what a person gives as a name or a reason says something, and can be printed; errors: WrongUse."""
    if not text.strip() or not text.isprintable():
        raise WrongUse(option, text, "a text in one line that is not empty")


def new_request(
    flow: str, settings: Settings, parameters: Parameters, source: Path | None = None, sync: bool = False
) -> RunRequest:
    """Make a request now; errors: WrongUse where the engine would find no tables, or a sync no front end."""
    require_readable(settings)
    if sync:
        front_end(settings)
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    return RunRequest(flow, settings, parameters, run_id, now, Storage(settings.root), source, sync)
