"""The reference receipts as a file per store and day, in any order, in many runs: the gold of the few files at once."""

import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.storage.tables import Storage
from tests.flows.command import digests
from tests.flows.warm import done, postgres
from tests.reference import unpack

RUN = ("run", "--no-prefect", "--no-checks", "--source")
STORES = {"102", "103", "107", "110"}


def split(source: Path, into: Path, months: Collection[str] | None, stores: Collection[str]) -> tuple[Path, list[Path]]:
    """Write the receipts of months and stores as they were delivered, a file per store, and a file per store and day.

    Give the landing of the former, and the files of the latter, which no landing holds yet.
    """
    whole, parts = into / "whole", into / "parts"
    shutil.copytree(source / "products", whole / "products")
    (whole / "transactions").mkdir()
    parts.mkdir()
    for file in sorted((source / "transactions").iterdir()):
        lines: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for line in file.read_bytes().splitlines(keepends=True):
            day, store, _ = line.decode().split("|", 2)
            if store in stores and (months is None or day[:7] in months):
                lines[store, day].append(line)
        for (store, day), of_day in lines.items():
            (parts / f"{store}_{day}.csv").write_bytes(b"".join(of_day))
        if lines:
            (whole / "transactions" / file.name).write_bytes(b"".join(b"".join(lines[key]) for key in lines))
    return whole, sorted(parts.iterdir())


def delivered(whole: Path, parts: list[Path], runs: int, home: Path, run: Callable[[Path, Path], None]) -> Path:
    """Deliver files in a shuffled order in so many runs; give their landing."""
    landing = home / "landing"
    shutil.copytree(whole / "products", landing / "products")
    (landing / "transactions").mkdir()
    shuffled = random.Random(181).sample(parts, len(parts))
    for number in range(runs):
        for part in shuffled[number::runs]:
            shutil.copy(part, landing / "transactions")
        run(home, landing)
    return landing


@pytest.fixture
def run() -> Iterator[Callable[[Path, Path], None]]:
    with postgres() as env:

        def deliver(home: Path, landing: Path) -> None:
            done(home, *RUN, landing, env=env)

        yield deliver


@pytest.mark.parametrize(
    ("files", "months", "stores", "runs"),
    [
        pytest.param(118, {"2013-01", "2013-02"}, {"102", "107"}, 4, id="two months, two stores"),
        pytest.param(724, None, STORES, 20, id="all", marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(7_200)
def test_a_file_per_store_and_day_in_any_order_gives_the_gold_of_the_files_at_once(
    files: int,
    months: set[str] | None,
    stores: set[str],
    runs: int,
    run: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    whole, parts = split(unpack(tmp_path / "reference"), tmp_path, months, stores)
    assert len(parts) == files
    run(tmp_path / "once", whole)
    expected, home = digests(tmp_path / "once"), tmp_path / "home"
    landing = delivered(whole, parts, runs, home, run)
    assert digests(home) == expected
    opened = Snapshot(Storage(str(home / "tables")), release.latest(Storage(str(home / "tables"))))
    assert opened.release.release_id == runs
    assert set(opened.rows("ops.ledger")["difference"].to_pylist()) == {0}

    corrected = landing / "transactions" / parts[len(parts) // 2].name
    first = corrected.read_bytes()
    corrected.write_bytes(b"".join(first.splitlines(keepends=True)[1:]))
    run(home, landing)
    assert digests(home) != expected
    corrected.write_bytes(first)
    run(home, landing)
    assert digests(home) == expected
