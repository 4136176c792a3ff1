"""A store of S3's protocol that is careless in one way: the outer edge, where no real store would be found so."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUSY_TIMES = 2


@contextmanager
def careless_store(how: str) -> Iterator[str]:
    """Give the address of a store that is `sound`, or careless in one way.

    When writing and listing it `overwrites`, lets `every racer win`, or `lists nothing`. It `loses what it listed`. It
    `is busy` twice before each answer, or `breaks off` in the middle of what is read: once, when that `changes` between
    with another content to go on with, `always` at the same byte.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(how))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(how: str) -> type[BaseHTTPRequestHandler]:
    objects: dict[str, bytes] = {}
    busy: dict[str, int] = {}
    broken: set[str] = set()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:  # the name the library calls
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self._is_busy():
                return
            is_careless = how == "overwrites" or (how == "every racer wins" and self.path.endswith("raced"))
            with lock:
                is_there = self.path in objects and self.headers["If-None-Match"] == "*" and not is_careless
                if not is_there:
                    objects[self.path] = content
            self._answer(412 if is_there else 200, _error("PreconditionFailed") * is_there)

        def do_GET(self) -> None:
            if self._is_busy():
                return
            asked = urlsplit(self.path)
            if "list-type" in parse_qs(asked.query):
                self._list(asked.path.strip("/"), parse_qs(asked.query).get("prefix", [""])[0])
            elif self.path not in objects or how == "loses what it listed":
                self._answer(404, _error("NoSuchKey"))
            else:
                self._read(objects[self.path])

        def do_DELETE(self) -> None:
            if self._is_busy():
                return
            objects.pop(self.path, None)
            self._answer(204)

        def _list(self, bucket: str, prefix: str) -> None:
            keys = [unquote(path).removeprefix(f"/{bucket}/") for path in objects if path.startswith(f"/{bucket}/")]
            shown = [key for key in sorted(keys) if key.startswith(prefix) and how != "lists nothing"]
            rows = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>1</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"e"</ETag></Contents>'
                for key in shown
            )
            self._answer(200, f"<ListBucketResult><Name>{bucket}</Name>{rows}</ListBucketResult>".encode())

        def _read(self, content: bytes) -> None:
            if self.headers.get("If-Match", _tag(content)) != _tag(content):
                self._answer(412, _error("PreconditionFailed"))
                return
            start = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0])
            if how.startswith("breaks off") and (how.endswith("always") or self.path not in broken):
                broken.add(self.path)
                half = len(content) // 2
                self._answer(206 if start else 200, content[start:half], len(content) - start, _tag(content))
                if how.endswith("changes"):
                    objects[self.path] = content[::-1]
                self.close_connection = True
                return
            self._answer(206 if start else 200, content[start:], tag=_tag(content))

        def _is_busy(self) -> bool:
            times = busy[self.command + self.path] = busy.get(self.command + self.path, 0) + 1
            if how == "is busy" and times <= BUSY_TIMES:
                self._answer(503, _error("SlowDown"))
                return True
            return False

        def _answer(self, code: int, content: bytes = b"", length: int | None = None, tag: str = '"e"') -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()


def _tag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'
