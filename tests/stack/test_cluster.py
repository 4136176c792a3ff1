"""The same gold from Spark, MinIO, PostgreSQL and a Prefect worker as from a folder and the engine in the process."""

import os
import signal
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest

from infra.stack import process, stack
from infra.stack.process import members, running, will_say
from infra.stack.spark import WORKERS
from lakehouse.engine.session import running_engine, start
from lakehouse.errors import ServiceDown
from lakehouse.releases.reader import open_release
from lakehouse.settings import load_settings
from lakehouse.sources.sample import write_sample
from tests.flows.command import answer, lakehouse
from tests.reference import unpack
from tests.stack.cluster import FLOW, PARAMETERS, Cluster, cluster
from tests.stack.sockets import listened_to
from tests.waiting import HANG_SECONDS, wait_until

pytestmark = [pytest.mark.timed, pytest.mark.timeout(3_600)]
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}
RECEIPTS, DAYS, STORES = 1_500, 40, 3
ASKED = ("--no-prefect", "--no-checks", "--min-support", PARAMETERS["min_support"])
LEAST = ("--min-rows-threshold", PARAMETERS["min_rows_threshold"])


class Embedded:
    """The same deliveries in a folder, run without any service: what the cluster must come to."""

    def __init__(self, folder: Path) -> None:
        self.landing, self.home = folder / "landing", folder / "home"
        write_sample(self.landing, receipts=RECEIPTS, days=DAYS, stores=STORES)
        self.files = sorted((self.landing / "transactions").iterdir())

    def digests(self) -> object:
        done = lakehouse(self.home, "run", "--source", self.landing, *ASKED, *LEAST)
        assert done.returncode == 0, done.stderr
        return answer(self.home, "digest")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory, embedded: Embedded) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        started.lakehouse("load", "--source", embedded.landing)
        for file in embedded.files[:-1]:
            started.deliver(file)
        yield started


def test_a_landing_a_day_more_and_a_correction_come_to_the_embedded_gold(
    running_cluster: Cluster, embedded: Embedded
) -> None:
    last = embedded.files[-1]
    content = last.read_bytes()
    last.unlink()
    corrected = content.replace(b"\n", b" 7\n", 1)
    for delivered in (None, content, corrected):
        if delivered is not None:
            last.write_bytes(delivered)
            running_cluster.deliver(last)
        running_cluster.run()
        assert running_cluster.answer("digest") == embedded.digests()
        assert not running_cluster.is_leased()
    newest = running_cluster.answer("releases")[-1]
    assert (newest["release_id"], newest["engine"]) == (3, "spark")
    assert all(row["difference"] == 0 for row in running_cluster.answer("ledger"))
    running_cluster.run()
    assert running_cluster.answer("releases")[-1]["release_id"] == 3


def test_a_session_of_its_spark_reads_a_release_on_its_store(running_cluster: Cluster) -> None:
    running_cluster.run()
    clients = {name.lower(): value for name, value in running_cluster.plan.clients.items()}
    chosen = ("minio_endpoint", "minio_access_key", "minio_secret_key", "spark_remote", "spark_remote_token")
    settings = load_settings(**{name: clients[name] for name in chosen})
    with open_release(clients["lakehouse_root"], 1) as opened, running_engine(settings) as engine:
        for name in ("silver.receipts", "gold.sales_totals"):
            rows = opened.arrow(name)
            frame = opened.spark(engine.session, name)
            assert frame.columns == rows.column_names
            assert sorted(map(repr, frame.toArrow().to_pylist())) == sorted(map(repr, rows.to_pylist()))


def test_nothing_listens_beyond_loopback_and_no_secret_is_told(running_cluster: Cluster) -> None:
    plan = running_cluster.plan
    leaders = [found.pid for name in stack.NAMES if (found := running(name, plan.folder))]
    commands = {pid: command for leader in leaders for pid, command in members(leader).items()}
    listening = listened_to(commands)
    assert {*plan.ports.values()} <= {port for _, port in listening}
    assert all(ip_address(address).is_loopback for address, _ in listening), listening
    logs = logs_of(running_cluster)
    assert {log.name for log in logs} > {f"{name}.log" for name in stack.NAMES} | {"stdout", "stderr"}
    assert any(log.suffix == ".jsonl" for log in logs)
    told = "\n".join([*commands.values(), *(log.read_text(errors="replace") for log in logs)])
    assert [name for name, secret in plan.secrets.items() if secret in told] == []


def test_every_service_wants_a_password(running_cluster: Cluster) -> None:
    clients, ports = running_cluster.plan.clients, running_cluster.plan.ports
    for address, code in ((f"{clients['PREFECT_API_URL']}/flows/count", 401), (clients["MINIO_ENDPOINT"], 403)):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(address, method="POST" if code == 401 else "GET"), timeout=150)
        assert refused.value.code == code
        refused.value.close()  # it is the answer too, and holds its socket
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host="127.0.0.1", port=ports["postgres"], user="source_owner", dbname="source")
    with pytest.raises(ServiceDown, match="Spark Connect server"):
        start(load_settings(spark_remote=clients["SPARK_REMOTE"], spark_remote_token="not the token"))


def logs_of(at: Cluster) -> list[Path]:
    """Give every log: of the services, of Spark's executors, of runs."""
    return [*at.plan.folder.glob("logs/*"), *at.plan.folder.glob("spark/*/*/*/std*"), *at.home.glob("logs/**/*.jsonl")]


@pytest.mark.long
def test_the_reference_receipts_come_to_the_embedded_gold(tmp_path: Path) -> None:
    source, home = unpack(tmp_path / "reference"), tmp_path / "home"
    done = lakehouse(home, "run", "--source", source, "--no-prefect", "--no-checks")
    assert done.returncode == 0, done.stderr
    with cluster(tmp_path / "cluster") as started:
        started.lakehouse("load", "--source", source)
        for file in sorted((source / "transactions").iterdir()):
            started.deliver(file)
        started.run(FLOW, {"enable_quality_checks": "false"})
        assert started.answer("digest") == answer(home, "digest")
        assert all(row["difference"] == 0 for row in started.answer("ledger"))


@pytest.mark.long
def test_two_deployments_triggered_together_through_two_workers_are_ten_times_right(
    running_cluster: Cluster, embedded: Embedded
) -> None:
    content = embedded.files[0].read_bytes().splitlines(keepends=True)
    running_cluster.deliver(embedded.files[-1])
    running_cluster.run()
    for number in range(10):
        more = embedded.landing / "transactions" / f"{900 + number}_Tran.csv"
        more.write_bytes(b"".join(content[: 30 + number]))
        running_cluster.deliver(more)
        before = len(running_cluster.answer("releases"))
        together = [running_cluster.begun(), running_cluster.begun("clustering/manual", {})]
        said = [one.communicate(timeout=HANG_SECONDS)[0] for one in together]
        assert [one.returncode for one in together] == [0, 0], said
        assert len(running_cluster.answer("releases")) == before + 2
        assert running_cluster.answer("digest") == embedded.digests()
        assert all(row["difference"] == 0 for row in running_cluster.answer("ledger"))
    assert not running_cluster.is_leased()
    assert set(running_cluster.states()) <= ENDED


def _killed(name: str) -> Callable[[Cluster], None]:
    return lambda at: stack.kill(at.plan.folder, name)


def _flow_process(at: Cluster) -> None:
    worker = running("worker-etl", at.plan.folder)
    assert worker is not None
    flows = [pid for pid in _children(worker.pid) if pid != worker.pid]
    assert flows, "a run is under way"
    for pid in flows:
        os.kill(pid, signal.SIGKILL)


def _executor(at: Cluster) -> None:
    found = [
        pid
        for name in WORKERS
        if (leader := running(name, at.plan.folder))
        for pid, command in members(leader.pid).items()
        if "CoarseGrainedExecutorBackend" in command and command.startswith(("/", "java"))
    ]
    assert found, "an executor works"
    os.kill(found[0], signal.SIGKILL)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for one in listed for child in one.read_text().split()]
    return [*found, *(deeper for child in found for deeper in _children(child))]


# What is killed in the middle of a run, which service is begun again for the next, how that run may end.
KILLS: dict[str, tuple[Callable[[Cluster], None], str | None, set[str]]] = {
    "the flow process": (_flow_process, None, {"Crashed"}),
    "the Prefect worker": (_killed("worker-etl"), "worker-etl", {"Crashed"}),
    "an executor": (_executor, None, {"Completed"}),
    "the Spark Connect server": (_killed("spark-connect"), "spark-connect", {"Failed"}),
    "MinIO": (_killed("minio"), "minio", {"Completed", "Failed"}),
    "PostgreSQL": (_killed("postgres"), "postgres", {"Completed", "Failed"}),
    "the Prefect server": (_killed("prefect-server"), "prefect-server", {"Completed", "Failed"}),
}


@pytest.mark.long
@pytest.mark.parametrize("victim", KILLS)
def test_whatever_dies_in_a_run_the_next_one_makes_it_right(
    running_cluster: Cluster, embedded: Embedded, victim: str
) -> None:
    kill, service, ends = KILLS[victim]
    number = list(KILLS).index(victim)
    more = embedded.landing / "transactions" / f"{number}_Tran.csv"
    more.write_bytes(b"".join(embedded.files[0].read_bytes().splitlines(keepends=True)[: 20 + number]))
    running_cluster.deliver(embedded.files[-1])
    running_cluster.deliver(more)
    is_building = will_say("task_started rules", process.log_of("worker-etl", running_cluster.plan.folder))
    watching = running_cluster.begun()
    wait_until(lambda: watching.poll() is not None or is_building())
    assert watching.poll() is None, running_cluster.log("worker-etl")
    kill(running_cluster)
    if service:
        stack.begin(running_cluster.plan, service)
    if victim in ("the flow process", "the Prefect worker"):
        watching.kill()  # nobody tells it how the run ends
    watching.communicate(timeout=HANG_SECONDS)
    wait_until(lambda: running_cluster.states()[0] in ENDED)
    assert running_cluster.states()[0] in ends, running_cluster.log("worker-etl")
    running_cluster.run()
    assert running_cluster.answer("digest") == embedded.digests()
    assert all(row["difference"] == 0 for row in running_cluster.answer("ledger"))
    assert not running_cluster.is_leased()
    assert set(running_cluster.states()) <= ENDED
