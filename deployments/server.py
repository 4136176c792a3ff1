"""Questions to a Prefect server, and its answers as JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flows.orchestration.server import SERVICE, without_credentials
from lakehouse.errors import ServiceDown

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PAGE = 200


def send(client: "SyncPrefectClient", method: Any, path: Any, body: object = None) -> Any:
    """Send a request, and give what is answered; errors: ServiceDown, also when the server refuses."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        answer = client.request(method, path, json=body)
    except PrefectHTTPStatusError as error:
        reason = (
            f"{method} {path} gave HTTP {error.response.status_code}, {' '.join(error.response.text.split())[:300]}"
        )
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
    else:
        return answer.json() if answer.content else None
    raise ServiceDown(SERVICE, without_credentials(str(client.api_url)), reason, "Try again when it is well.") from None


def pages(client: "SyncPrefectClient", path: str, **asked: object) -> Iterator[dict[str, Any]]:
    """Give every row of a listing; errors: ServiceDown."""
    offset = 0
    while True:
        rows = send(client, "POST", path, {"limit": PAGE, "offset": offset, **asked})
        yield from rows
        if len(rows) < PAGE:
            return
        offset += PAGE
