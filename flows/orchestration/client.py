"""Prefect in this process: pointed at a server by variables, which it reads once, when it is imported."""

import os
from typing import TYPE_CHECKING

from flows.orchestration.server import local_server
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PROJECT = "sales-lakehouse"  # the tag of our runs, by which the automations of prefect.yaml know them: its name
HEARTBEAT_SECONDS = 30  # the shortest that Prefect allows
QUIET = {  # events tell what happens; Prefect's own lines would tell it twice
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def point_prefect_at(settings: Settings, api_url: str) -> None:
    """Set what Prefect reads: the server, its own home under ours, few words; call it before Prefect is imported."""
    os.environ.update(QUIET | {"PREFECT_API_URL": api_url})
    os.environ.setdefault("PREFECT_HOME", str(settings.lakehouse_home.absolute() / "prefect"))
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))


def connect(settings: Settings) -> "SyncPrefectClient":
    """Connect to the server that is named, else to this home's, which is started; errors: ServiceDown, WrongUse."""
    point_prefect_at(settings, local_server(settings))
    from prefect.client.orchestration import get_client
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()  # who imported a flow before has what was set by then
    return get_client(sync_client=True)
