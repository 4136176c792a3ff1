"""Homes that earlier code made: they open, take deliveries in, keep what was decided, and rebuild."""

import json
import re
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

import lakehouse
from lakehouse import catalog
from lakehouse.errors import NotKept
from lakehouse.releases import retention
from lakehouse.releases.pins import Change
from lakehouse.releases.reader import ReleaseReader
from lakehouse.releases.retention import Rule
from lakehouse.version import code_version
from tests.flows.command import answer
from tests.flows.command import lakehouse as command
from tests.rows import digest_of

HOMES = sorted((Path(__file__).parents[1] / "homes").glob("*.tar.xz"))
LAST = 5  # release of each; tests/homes/README.md says which there are
LATER = Change("a run", "somebody", datetime.now(UTC) + timedelta(days=2))
RUN = ("run", "--no-prefect", "--min-rows-threshold", 1, "--max-quarantine-pct", 50, "--min-support", 0.03)


class Shop(NamedTuple):
    """A home, and the landing it was filled from."""

    home: Path
    landing: Path

    def opened(self, release: int | None = None) -> ReleaseReader:
        return lakehouse.open(self.home / "tables", release)


@pytest.fixture(params=HOMES, ids=[home.name.partition(".")[0] for home in HOMES])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    with tarfile.open(request.param) as packed:
        packed.extractall(tmp_path, filter="data")
    return Shop(tmp_path / "home", tmp_path / "landing")


def fresh_digests(opened: ReleaseReader) -> dict[str, str]:
    return {name: digest_of(catalog.entry(name).table, opened.arrow(name)) for name in opened.release.digests}


def statuses(opened: ReleaseReader, table: str) -> list[str]:
    found: list[str] = sorted(opened.arrow(table)["status"].to_pylist())
    return found


def test_there_is_an_old_home() -> None:
    assert [home.name for home in HOMES] == ["2454e7f.tar.xz"]
    assert sum(home.stat().st_size for home in HOMES) < 300_000


def test_every_release_opens_as_what_it_was_published_as(shop: Shop) -> None:
    units = []
    for number in range(1, LAST + 1):
        with shop.opened(number) as opened:
            assert opened.release.code_version != code_version()
            assert fresh_digests(opened) == opened.release.digests
            assert {name.partition(".")[0] for name in opened.release.digests} == {"gold"}
            for table in opened.tables():
                assert opened.duckdb().sql(f"select count(*) from {table.name}").fetchall() == [(table.rows,)]
            units.append(opened.arrow("gold.sales_totals")["units"][0].as_py())
    assert units == [3738, 3743, 3744, 3745, 3745]  # a file, a unit more in it, a line that was corrected, one waived
    assert shop.opened().release.release_id == LAST


def test_what_was_decided_and_what_happened_is_there(shop: Shop) -> None:
    opened = shop.opened()
    assert statuses(opened, "ops.sources") == ["current"] * 5 + ["rejected", "superseded"]
    assert statuses(opened, "ops.quarantine") == ["open"] * 7 + ["replayed", "waived"]
    assert {row["why"] for row in opened.arrow("ops.corrections").to_pylist()} == {
        "read from the till roll",
        "no products were sold",
    }
    assert sorted(opened.arrow("ops.runs")["state"].to_pylist()) == ["blocked"] + ["published"] * LAST
    (pinned,) = opened.arrow("ops.retention").to_pylist()
    assert (pinned["release_id"], pinned["who"], pinned["why"]) == (2, "ana", "the audited one")
    kept = {row["release_id"]: row["kept_as"] for row in answer(shop.home, "releases")}
    assert ("pinned" in kept[2], "newest" in kept[LAST]) == (True, True)


def test_after_a_vacuum_what_is_kept_of_it_opens(shop: Shop) -> None:
    removed = retention.vacuum(shop.opened().storage, Rule(daily=1, monthly=0), LATER)
    assert removed.expired == [1, 3, 4]
    assert removed.files
    for number in (2, LAST):
        assert fresh_digests(shop.opened(number)) == shop.opened(number).release.digests
    with pytest.raises(NotKept, match=r"Release 3 was not kept .* Choose one of: 2, 5\."):
        shop.opened(3)


@pytest.mark.timeout(900)
def test_a_delivery_comes_in_and_everything_is_rebuilt(shop: Shop) -> None:
    before = shop.opened()
    (shop.landing / "transactions" / "105_Tran.csv").write_text("2024-01-07|105|7|1 2\n")
    done = command(shop.home, *RUN, "--source", shop.landing)
    assert done.returncode == 0, done.stderr
    after = shop.opened()
    assert (after.release.release_id, after.release.parent, after.release.verified) == (LAST + 1, LAST, True)
    assert after.release.code_version == code_version()
    assert after.arrow("gold.sales_totals")["units"][0].as_py() == 3747
    assert statuses(after, "ops.quarantine") == statuses(before, "ops.quarantine")
    assert after.arrow("ops.corrections").num_rows == 2
    assert all(row["difference"] == 0 for row in after.arrow("ops.ledger").to_pylist())
    again = command(shop.home, *RUN, "--source", shop.landing)
    assert f"Nothing new since release {LAST + 1}" in again.stdout, again.stderr
    assert rebuilt(shop, LAST + 1)["made_by_other_code"] == []
    assert before.arrow("gold.sales_totals")["units"][0].as_py() == 3745


def rebuilt(shop: Shop, number: int) -> dict[str, object]:
    """Rebuild a release by the command, and hold it to equal digests of every table of gold; give what it says."""
    said = command(shop.home, "rebuild", "--release", number, "--json")
    assert said.returncode == 0, said.stderr
    found: dict[str, object] = json.loads(said.stdout)
    assert (found["different"], found["not_rebuilt"]) == ([], [])
    assert found["equal"] == len(shop.opened(number).release.digests)
    return found


@pytest.mark.timeout(900)
def test_its_last_release_is_rebuilt_from_the_lines_it_holds(shop: Shop) -> None:
    """Its files are not where they lay: a home that was moved has their lines."""
    found = rebuilt(shop, LAST)
    current = [row["path"] for row in shop.opened().arrow("ops.sources").to_pylist() if row["status"] == "current"]
    assert found["taken_from_bronze"] == sorted(current)
    assert found["made_by_other_code"] == [shop.opened().release.code_version]


def test_it_names_no_machine(shop: Shop) -> None:
    texts = [file.read_text() for file in shop.home.rglob("*.json")]
    for number in range(1, LAST + 1):
        opened = shop.opened(number)
        texts += [repr(opened.arrow(name).to_pylist()) for name in [t.name for t in opened.tables()] + opened.logs()]
    places = {place for text in texts for place in re.findall(r"""(?<=["'/])(/[a-z]+/[a-z]+)/""", text)}
    assert places == {"/tmp/shop"}
    assert {host for text in texts for host in re.findall(r'\\"host\\": \\"([^"\\]*)', text)} == {"shop"}
