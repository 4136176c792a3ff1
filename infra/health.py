"""Whether a service answers: `python -m infra.health http://127.0.0.1:4200/api/health` or `tcp://127.0.0.1:15002`.

Exit code 0 when it does. Health checks of containers run it every few seconds: it imports nothing but what it needs.
"""

import socket
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

SECONDS = 5


def silence(address: str) -> str:
    """Say why nothing answers at an address; empty when something does, over HTTP with success."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 0
    try:
        if parts.scheme == "tcp":
            socket.create_connection((host, port), timeout=SECONDS).close()
            return ""
        with closing(HTTPConnection(host, port, timeout=SECONDS)) as connection:
            connection.request("GET", parts.path or "/")
            status = connection.getresponse().status
            return "" if status == 200 else f"it answers with {status}"
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__


if __name__ == "__main__":
    if reason := silence(sys.argv[1]):
        sys.exit(f"{sys.argv[1]}: {reason}.")
