"""A store of S3's protocol that is careless in one way: the outer edge, where no real store would be found so."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape


@contextmanager
def careless_store(how: str) -> Iterator[str]:
    """Give the address of a store that `overwrites`, lets `every racer win`, `lists nothing`, or is `sound`."""
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
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:  # the name the library calls
            content = self.rfile.read(int(self.headers["Content-Length"]))
            is_careless = how == "overwrites" or (how == "every racer wins" and self.path.endswith("raced"))
            with lock:
                is_there = self.path in objects and self.headers["If-None-Match"] == "*" and not is_careless
                if not is_there:
                    objects[self.path] = content
            self._answer(412 if is_there else 200, b"<Error><Code>PreconditionFailed</Code></Error>" * is_there)

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            prefix = parse_qs(asked.query).get("prefix", [""])[0]
            bucket = asked.path.rstrip("/") + "/"
            keys = [path.removeprefix(bucket) for path in objects if path.startswith(bucket + prefix)]
            shown = [] if how == "lists nothing" else keys
            rows = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>1</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"e"</ETag></Contents>'
                for key in shown
            )
            self._answer(200, f"<ListBucketResult>{rows}</ListBucketResult>".encode())

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in re.findall("<Key>(.*?)</Key>", asked))
            self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

        def _answer(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"e"')
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
