"""Two runs on one lakehouse: at once, one after the other, one asleep meanwhile; and what it is without a lease."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pytest

from flows.run import request as orders
from lakehouse.ops import releases
from lakehouse.releases import release
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.crash.scenes import unreadable
from tests.flows.command import digests
from tests.flows.warm import Prepare, as_it_is, begun, done, postgres, stopped_at

RUN = ("run", "--no-prefect", "--no-checks", "--min-support", "0.02", "--min-rows-threshold", "0", "--source")
SHORT = {"LEASE_SECONDS": "1"}
LOST = "This run lost the lease"


class Given(NamedTuple):
    """Two landings, of which the second lacks a file, what the first one comes to, and what names PostgreSQL."""

    landing: Path
    fewer: Path
    digests: dict[str, str]
    receipts: int
    env: dict[str, str]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Given]:
    folder = tmp_path_factory.mktemp("given")
    landing, fewer = folder / "landing", folder / "fewer"
    write_sample(landing, receipts=400, days=40, stores=3)
    shutil.copytree(landing, fewer)
    max((fewer / "transactions").iterdir()).unlink()
    with postgres() as env:
        done(folder / "home", *RUN, landing, env=env)
        (receipts,) = rows(folder / "home", "gold.sales_totals")["receipts"].to_pylist()
        yield Given(landing, fewer, digests(folder / "home"), receipts, env)


def rows(home: Path, name: str) -> pa.Table:
    """Read a table as readers see it."""
    storage = Storage(str(home / "tables"))
    return release.Snapshot(storage, release.latest(storage)).rows(name)


def harm(home: Path, given: Given) -> str:
    """Say what is wrong with a lakehouse that was given all files; nothing when nothing is."""
    if problem := unreadable(home):
        return problem
    kept = rows(home, "silver.receipts").select(["source_id", "line_number"])
    if len(kept) != given.receipts or len(kept.group_by(kept.column_names).aggregate([])) != given.receipts:
        return f"{len(kept)} receipts instead of {given.receipts}"
    if any(rows(home, "ops.ledger")["difference"].to_pylist()):
        return "the ledger does not add up"
    return "" if digests(home) == given.digests else "the gold is another"


class Granted:
    """A lease that everybody gets at once, that nobody can lose and no commit tells of: as if there were none."""

    epoch = 1

    def __init__(self, storage: Storage, run_id: str) -> None:
        self.storage, self.run_id = storage, run_id
        storage.create(releases.TABLE, run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hold(self) -> None:
        pass

    def publish(self, row: dict[str, object]) -> None:
        self.storage.append(releases.TABLE, [row], self.run_id, step="publish")


def unleased(prepare: Prepare = as_it_is) -> Prepare:
    """Switch the lease off in a command."""
    return partial(_unleased, prepare)


def _unleased(prepare: Prepare) -> None:
    orders.take = lambda storage, run_id, *_, **__: Granted(storage, run_id)
    prepare()


@pytest.mark.parametrize(
    "times", [4, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(3_600)])], ids=lambda n: f"{n} times"
)
def test_of_two_runs_started_together_one_publishes_and_the_other_waits_its_turn(
    times: int, given: Given, tmp_path: Path
) -> None:
    for number in range(times):
        home = tmp_path / str(number)
        landings = (given.landing, (given.landing, given.fewer)[number % 2])[:: -1 if number % 4 > 1 else 1]
        with (
            begun(home, *RUN, landings[0], env=given.env) as one,
            begun(home, *RUN, landings[1], env=given.env) as other,
        ):
            assert (one.ended(), other.ended()) == (0, 0), one.said + other.said
        assert harm(home, given) == ""
        made = len(release.history(Storage(str(home / "tables"))))
        assert made == 1 or (made == 2 and number % 2)
        assert "Nothing new since release" in one.said + other.said or made == 2
        shutil.rmtree(home)


@pytest.mark.parametrize("step", ["write silver.customers", "publish"])
def test_a_run_that_slept_while_another_published_publishes_nothing(step: str, given: Given, tmp_path: Path) -> None:
    with begun(tmp_path, *RUN, given.fewer, env=given.env | SHORT, before=stopped_at(step)) as sleeper:
        sleeper.stops()
        said = done(tmp_path, *RUN, given.landing, env=given.env)
        assert "is writing: waiting up to 300 s for it." in said
        sleeper.goes_on()
        assert sleeper.ended() == 1
        assert LOST in sleeper.said
    assert harm(tmp_path, given) == ""


def test_without_a_lease_a_run_that_slept_publishes_over_the_other(given: Given, tmp_path: Path) -> None:
    before = unleased(stopped_at("publish"))
    with begun(tmp_path, *RUN, given.fewer, env=given.env, before=before) as sleeper:
        sleeper.stops()
        done(tmp_path, *RUN, given.landing, env=given.env, before=unleased())
        sleeper.goes_on()
        assert sleeper.ended() == 0
    assert harm(tmp_path, given) == "the releases are [1, 1]"


def test_a_late_write_of_a_run_that_lost_the_lease_is_in_no_release(given: Given, tmp_path: Path) -> None:
    at_receipts = stopped_at("write silver.receipts")
    with begun(tmp_path, *RUN, given.fewer, env=given.env | SHORT, before=at_receipts) as late:
        late.stops()
        with begun(tmp_path, *RUN, given.landing, env=given.env, before=at_receipts) as holder:
            holder.stops()
            late.goes_on()
            assert late.ended() == 1
            holder.goes_on()
            assert holder.ended() == 1
            assert "not by this run: nothing was published; run again." in holder.said
    assert release.history(Storage(str(tmp_path / "tables"))) == []
    done(tmp_path, *RUN, given.landing, env=given.env)
    assert harm(tmp_path, given) == ""


def test_two_that_make_the_log_of_releases_at_once_both_find_it(given: Given, tmp_path: Path) -> None:
    with begun(tmp_path, *RUN, given.landing, env=given.env, before=stopped_at("create ops.releases")) as sleeper:
        sleeper.stops()
        done(tmp_path, *RUN, given.landing, env=given.env)
        sleeper.goes_on()
        assert sleeper.ended() == 0, sleeper.said
        assert "Nothing new since release 1" in sleeper.said
    assert harm(tmp_path, given) == ""


def test_a_run_that_does_not_get_the_lease_says_who_has_it(given: Given, tmp_path: Path) -> None:
    lasting = given.env | {"LEASE_SECONDS": "3600"}
    with begun(tmp_path, *RUN, given.landing, env=lasting, before=stopped_at("publish")) as sleeper:
        sleeper.stops()
        with begun(tmp_path, *RUN, given.landing, env=given.env | {"LEASE_WAIT_SECONDS": "1"}) as other:
            assert other.ended() == 1
    expected = "did not end within 1 s. Run again when it has ended, or set LEASE_WAIT_SECONDS higher."
    assert expected in other.said
    assert "Traceback" not in other.said
