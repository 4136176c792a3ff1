"""The client of S3 stores, held to stores that are careless and to what is none."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, IncompleteReadError, ReadTimeoutError

from lakehouse.errors import ServiceDown
from lakehouse.exports.objects import current
from lakehouse.settings import load_settings, object_store_access
from lakehouse.sources.landing import transaction_files
from lakehouse.storage import object_client, probe
from lakehouse.storage.object_client import ask, do_at_once, object_errors, place_of
from lakehouse.storage.objects import list_objects, open_location, pages_of, put, remove, share
from lakehouse.storage.probe import reach
from tests.stack.careless_store import careless_store

CONTENT = bytes(range(256)) * 10_000
SHORT = timedelta(seconds=1)
VARIABLES = ("ENDPOINT_URL", "ALLOW_HTTP", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "PROFILE")


@pytest.fixture(autouse=True)
def _no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `load_settings` puts into the environment goes with the test, and nothing of the developer's is in it."""
    for name in VARIABLES:
        monkeypatch.setenv(f"AWS_{name}", "")


def ask_at(endpoint: str) -> None:
    """Have the environment name a store, and a user of it."""
    load_settings(minio_endpoint=endpoint, minio_access_key="somebody", minio_secret_key="the-secret-of-it")


@contextmanager
def at(how: str) -> Iterator[None]:
    with careless_store(how) as endpoint:
        ask_at(endpoint)
        yield


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def first_page(address: str) -> object:
    """Ask for a list as `list_objects` does, with little patience."""
    with object_errors(address):
        return next(pages_of(place_of(address, SHORT), address, SHORT))


def test_objects_are_written_listed_read_and_removed() -> None:
    with at("sound"):
        for key in ("one", "two words & more #%+", "deeper/ü"):
            put(f"s3://bucket/some/{key}", key.encode())
        put("s3://bucket/something", b"beside it")
        keys = [one.key for one in list_objects("s3://bucket/some/")]
        assert keys == sorted(["one", "two words & more #%+", "deeper/ü"])
        assert [open_location(f"s3://bucket/some/{key}").read().decode() for key in keys] == keys
        remove("s3://bucket/some", [*keys, "was never there"])
        assert [one.key for one in list_objects("s3://bucket")] == ["something"]


def test_what_is_there_is_not_shared_again(tmp_path: Path) -> None:
    with at("sound"):
        for content in (b"first", b"second"):
            (tmp_path / "file").write_bytes(content)
            share(tmp_path / "file", "s3://bucket/shared")
        assert open_location("s3://bucket/shared").read() == b"first"


def test_a_busy_store_is_asked_again() -> None:
    with at("is busy"):
        put("s3://bucket/one", b"content")
        assert len(list_objects("s3://bucket")) == 1
        assert open_location("s3://bucket/one").read() == b"content"
        remove("s3://bucket", ["one"])
        assert list_objects("s3://bucket") == []


def test_another_put_while_an_object_is_read_does_not_show() -> None:
    with at("sound"):
        put("s3://bucket/one", CONTENT)
        with open_location("s3://bucket/one") as file:
            start = file.read(1_000)
            put("s3://bucket/one", CONTENT[::-1])
            assert start + file.read() == CONTENT


def test_an_object_that_breaks_off_is_read_on() -> None:
    with at("breaks off once"):
        put("s3://bucket/one", CONTENT)
        with open_location("s3://bucket/one", 7) as file:
            assert file.read() == CONTENT[7:]
            assert file.tell() == len(CONTENT)


def test_what_breaks_off_is_not_read_on_in_another_object() -> None:
    with at("breaks off and changes"):
        put("s3://bucket/one", CONTENT)
        with (
            open_location("s3://bucket/one") as file,
            pytest.raises(OSError, match="another object was put there meanwhile"),
        ):
            file.read()


def test_what_breaks_off_time_and_again_is_no_whole_object() -> None:
    with at("breaks off always"):
        put("s3://bucket/one", CONTENT)
        file = place_of("s3://bucket/one").client.get_object(Bucket="bucket", Key="one")["Body"]
        with pytest.raises(OSError, match="it breaks off in the middle"), object_errors("s3://bucket/one"):
            ask(file.read, timedelta())


def test_an_object_that_is_gone_is_told_as_a_file_is() -> None:
    with at("sound"), pytest.raises(FileNotFoundError, match="there is no such object"):
        open_location("s3://bucket/none")


def test_an_object_that_vanished_since_it_was_listed_is_told_by_its_name() -> None:
    with at("loses what it listed"):
        for name in ("a", "b"):
            put(f"s3://bucket/transactions/{name}.csv", b"2024-01-01|1|2|3\n")
        assert [(one.path, one.problem) for one in transaction_files("s3://bucket")] == [
            ("transactions/a.csv", "it cannot be read: there is no such object"),
            ("transactions/b.csv", "it cannot be read: there is no such object"),
        ]
        assert current("s3://bucket") is None


def page_of(status: int, content: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name the library calls
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (200, b"<!doctype html><p>Welcome", "what answers there is no S3 store"),
        (200, b"<html><p>Welcome</p></html>", "what answers there is no S3 store"),
        (200, b"", "what answers there is no S3 store"),
        (404, b"<!doctype html><p>Not found", r"what answers there is no S3 store \(it answers 404\)"),
        (301, b"", r"what answers there is no S3 store \(it answers 301\)"),
        (503, b"<p>Down for maintenance", "it answers 503"),
        (403, b"<Error><Code>AccessDenied</Code></Error>", r"it refuses the user or the secret \(AccessDenied\)"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "there is no such bucket"),
        (400, b"<Error><Code>InvalidRequest</Code></Error>", "it answers InvalidRequest"),
    ],
)
def test_what_answers_otherwise_is_told_in_a_few_words(
    status: int, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PATIENCE", SHORT)
    with served(page_of(status, content)) as endpoint:
        ask_at(endpoint)
        with pytest.raises(OSError, match=f"{said}: 's3://bucket'$"):
            first_page("s3://bucket")
        with pytest.raises(
            ServiceDown, match=rf"The object store at {endpoint} failed: {said} \(s3://bucket/{status}\)"
        ):
            reach(f"s3://bucket/{status}")


def test_a_page_is_no_object() -> None:
    with served(page_of(200, b"<!doctype html><p>Welcome")) as endpoint:
        ask_at(endpoint)
        with pytest.raises(OSError, match="what answers there is no S3 store"):
            open_location("s3://bucket/one")


@contextmanager
def listening(do: Callable[[socket.socket], None]) -> Iterator[str]:
    """Give the host and port of who does something with each connection, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    do(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_another_protocol_is_no_store() -> None:
    with listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + connection.recv(0))) as place:
        ask_at(f"http://{place}")
        with pytest.raises(OSError, match="what answers there is no S3 store"):
            first_page("s3://bucket")


def test_who_hangs_up_does_not_answer() -> None:
    with listening(lambda connection: None) as place:
        ask_at(f"http://{place}")
        with pytest.raises(OSError, match="nothing answers there"):
            first_page("s3://bucket")


def test_who_is_silent_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the system takes connections, nobody reads them
        ask_at(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(OSError, match="it does not answer in time"):
            first_page("s3://bucket")


def test_where_nobody_listens_nothing_answers() -> None:
    ask_at("http://127.0.0.1:1")
    with pytest.raises(OSError, match="nothing answers there"):
        first_page("s3://bucket")


def test_a_store_that_does_not_speak_tls_is_told() -> None:
    with served(page_of(200, b"")) as endpoint:
        ask_at(endpoint.replace("http://", "https://"))
        with pytest.raises(OSError, match="no safe connection comes about: SSL validation failed"):
            first_page("s3://bucket")


def test_the_authorities_are_those_the_machine_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.pem"
    own.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    ask_at("https://127.0.0.1:1")
    assert place_of("s3://bucket").client._endpoint.http_session._verify == str(own)


def test_without_a_user_nobody_is_asked() -> None:
    load_settings(minio_endpoint="http://127.0.0.1:1")
    with pytest.raises(PermissionError, match="no user is named: MINIO_ACCESS_KEY and MINIO_SECRET_KEY say who asks"):
        list_objects("s3://bucket")
    with pytest.raises(ServiceDown, match="no user is named"):
        reach("s3://bucket/of-nobody")


def test_nothing_but_its_variables_says_where_a_store_is_and_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / ".aws"
    other.mkdir()
    (other / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:1\nregion = nowhere\ns3 =\n  broken")
    (other / "credentials").write_text("[default]\naws_access_key_id = another\naws_secret_access_key = of another\n")
    nowhere = "http://127.0.0.1:1"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "AWS_ENDPOINT_URL_S3", "AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(other / "config"))
    with seen_requests() as (endpoint, requests):
        ask_at(endpoint)
        put("s3://bucket/one", b"content")
    assert [(method, path) for method, path, _ in requests] == [("PUT", "/bucket/one")]
    assert "Credential=somebody/" in requests[0][2]["authorization"]
    assert "/us-east-1/s3/" in requests[0][2]["authorization"]


@contextmanager
def seen_requests() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str]]]]]:
    """Give the address of a store that takes what is put, and what was asked of it."""
    seen: list[tuple[str, str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:  # the name the library calls
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("ETag", '"e"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Handler) as endpoint:
        yield endpoint, seen


def test_what_is_put_is_held_to_a_hash_that_every_store_knows() -> None:
    with seen_requests() as (endpoint, requests):
        ask_at(endpoint)
        put("s3://bucket/one", b"content")
    headers = requests[0][2]
    assert headers["x-amz-content-sha256"] == sha256(b"content").hexdigest()
    assert headers["content-length"] == "7"
    assert [name for name in headers if "checksum" in name or name in ("x-amz-trailer", "transfer-encoding")] == []


def test_aws_itself_may_lie_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    with listening(lambda connection: asked.append(connection.recv(1_000))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}")
        monkeypatch.setenv("AWS_REGION", "sa-east-1")
        load_settings(minio_access_key="somebody", minio_secret_key="the-secret-of-it")
        with pytest.raises(OSError, match="nothing answers there"):
            first_page("s3://bucket")
    assert {one.split(b"\r\n")[0] for one in asked} == {b"CONNECT bucket.s3.sa-east-1.amazonaws.com:443 HTTP/1.0"}


def test_a_session_of_aws_is_told_to_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    with seen_requests() as (endpoint, requests):
        load_settings(minio_access_key="somebody", minio_secret_key="the-secret-of-it")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        put("s3://bucket/one", b"content")
    assert requests[0][2]["x-amz-security-token"] == "the-session"
    assert "/sa-east-1/s3/" in requests[0][2]["authorization"]


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session")
    ask_at("http://127.0.0.1:1")
    shown = repr(object_store_access())
    assert "somebody" in shown and "the-secret" not in shown and "the-session" not in shown


NOTHING_SENT = (EndpointConnectionError(endpoint_url="x"), ConnectTimeoutError(endpoint_url="x"))
PERHAPS_DONE = (ReadTimeoutError(endpoint_url="x"), IncompleteReadError(actual_bytes=1, expected_bytes=2))


@pytest.mark.parametrize("error", [*NOTHING_SENT, *PERHAPS_DONE], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_harmless", [True, False])
def test_a_request_is_repeated_unless_it_may_have_come_and_must_not_come_twice(
    error: Exception, is_harmless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(object_client.time, "sleep", pauses.append)
    answers = iter([error, error, None])

    def request() -> str:
        if answer := next(answers):
            raise answer
        return "the answer"

    if is_harmless or error in NOTHING_SENT:
        assert ask(request, is_harmless=is_harmless) == "the answer"
        assert pauses == [0.1, 0.2]
    else:
        with pytest.raises(type(error)):
            ask(request, is_harmless=is_harmless)
        assert pauses == []


def test_many_are_done_in_their_order() -> None:
    assert do_at_once(lambda number: number * 2, range(100)) == list(range(0, 200, 2))


def test_of_many_the_first_failure_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Watched(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            if wait:
                ended.set()
            super().shutdown(wait, cancel_futures=cancel_futures)
            ended.set()

    monkeypatch.setattr(object_client, "ThreadPoolExecutor", Watched)
    done: list[int] = []

    def do(number: int) -> None:
        if number == 0:
            raise OSError("the first")
        ended.wait()
        done.append(number)

    with pytest.raises(OSError, match="the first"):
        do_at_once(do, range(1_000))
    assert len(done) <= object_client.AT_ONCE


def test_who_works_on_folders_does_not_import_boto3(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    code = (
        "import sys, deployments.entry, flows.commands.cli, flows.run.steps, lakehouse.exports.objects;"
        "from lakehouse.storage.objects import open_location;"
        "assert open_location(sys.argv[1]).read() == b'content';"
        "print([name for name in sys.modules if name.startswith(('boto', 's3transfer'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "[]\n", done.stderr
