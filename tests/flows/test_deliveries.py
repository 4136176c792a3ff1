"""What is delivered again, in whole runs: grown, still being written, repeated, late. As if it had come at once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.report.recorded import run_decision
from flows.report.report import RunFacts
from flows.run.decisions import DecisionReason, waive_rule
from lakehouse import catalog
from lakehouse.bronze import lines as bronze_lines
from lakehouse.kernels.lines import numbered_lines
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.settings import load_settings
from lakehouse.sources import landing
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.conftest import run_lakehouse
from tests.flows.command import digests

PLAIN = {"min_rows_threshold": 1, "max_quarantine_pct": 50}
GROWN = "transactions/102_Tran.csv"
LEDGERLESS = ("bronze.transactions", "silver.receipts", "ops.quarantine")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, receipts=500, days=70)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """A home with the sample as release 1; nobody changes it."""
    home = tmp_path_factory.mktemp("published")
    run_lakehouse(home, sample, **PLAIN, enable_quality_checks=False)
    return home


@pytest.fixture
def delivered(sample: Path, published: Path, tmp_path: Path) -> Path:
    """A folder with the landing, and a home with it as release 1."""
    shutil.copytree(sample, tmp_path / "landing")
    shutil.copytree(published / "tables", tmp_path / "home" / "tables")
    return tmp_path


def run(folder: Path, home: str = "home", **parameters: object) -> RunFacts:
    return run_lakehouse(folder / home, folder / "landing", **(PLAIN | parameters))


def rows(folder: Path, name: str, home: str = "home") -> list[dict[str, Any]]:
    storage = Storage(str(folder / home / "tables"))
    found = Snapshot(storage, release.latest(storage)).rows(name)
    return found.sort_by([(key, "ascending") for key in catalog.entry(name).table.keys]).to_pylist()


def files_of_months(folder: Path, name: str) -> dict[str, set[str]]:
    """Give the data files the newest release has of each month of a table."""
    storage = Storage(str(folder / "home" / "tables"))
    version = release.latest(storage).tables[name]
    found: dict[str, set[str]] = {}
    for file in storage.dataset(catalog.entry(name).table, version).files:
        month = next(part for part in file.split("/") if part.startswith("month="))
        found.setdefault(month.removeprefix("month="), set()).add(file)
    return found


def assert_as_fresh(folder: Path) -> None:
    """Hold the lakehouse to a fresh one that is given the landing as it is: gold, and what gold is made of."""
    run(folder, "fresh", enable_quality_checks=False)
    assert digests(folder / "home") == digests(folder / "fresh")
    for name in LEDGERLESS:
        assert rows(folder, name) == rows(folder, name, "fresh")


@pytest.fixture
def read_from(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note at which byte and after how many lines each file's lines are read; the engine runs in this process."""
    found: list[tuple[int, int]] = []

    def noted(file: Any, source_id: int, before: int, until: int) -> Any:
        found.append((file.tell(), before))
        return numbered_lines(file, source_id, before=before, until=until)

    monkeypatch.setattr(bronze_lines, "numbered_lines", noted)
    return found


def test_of_a_grown_file_only_the_end_is_read_and_its_months_rebuilt(
    delivered: Path, read_from: list[tuple[int, int]]
) -> None:
    file = delivered / "landing" / GROWN
    old = file.read_bytes()
    before = files_of_months(delivered, "silver.product_days")
    last = max(before)
    file.write_bytes(old + f"{last}-03|102|7|1 2 3\nnonsense\n{last}-04|102|8|2 2\n".encode())
    facts = run(delivered)
    assert read_from == [(len(old), old.count(b"\n"))]
    after = files_of_months(delivered, "silver.product_days")
    assert {month for month in after if after[month] != before[month]} == {last}
    (current,) = [row for row in rows(delivered, "ops.sources") if row["path"] == GROWN and row["status"] == "current"]
    lines = old.count(b"\n")
    assert current["detail"] == f"grown from source {current['supersedes']}, of which {lines} lines were kept"
    assert facts.taken_in == [(GROWN, "grown", current["detail"])]
    assert (GROWN, "superseded", "") in facts.left_out
    assert_as_fresh(delivered)


def test_a_last_line_without_its_end_is_read_again_whole(delivered: Path, read_from: list[tuple[int, int]]) -> None:
    file = delivered / "landing" / "transactions" / "103_Tran.csv"
    whole = file.read_bytes()
    kept, _, last = whole.rstrip(b"\n").rpartition(b"\n")
    for end in (b"\n" + last[:-1], b"\n" + last + b"\n"):
        file.write_bytes(kept + end)
        run(delivered, enable_quality_checks=False)
    assert read_from[1:] == [(len(kept) + 1, kept.count(b"\n") + 1)]
    assert len(rows(delivered, "ops.sources")) == 8
    assert_as_fresh(delivered)


def test_lines_that_were_decided_about_are_judged_anew_when_the_file_grows(delivered: Path) -> None:
    settings = load_settings(lakehouse_home=delivered / "home", settle_seconds=0)
    reason = DecisionReason("Ana", "no products were sold")
    run_decision("waive", settings, lambda request: waive_rule(request, "no_products", None, reason))
    for path in sorted((delivered / "landing" / "transactions").iterdir()):
        path.write_bytes(path.read_bytes() + b"2024-01-05|103|7|1 2 3\n")
    facts = run(delivered, enable_quality_checks=False)
    assert {kind for _, kind, _ in facts.taken_in} == {"grown", "corrected"}
    assert_as_fresh(delivered)


def test_a_file_still_being_written_is_told_and_taken_in_when_it_has_settled(
    delivered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = delivered / "landing" / "transactions" / "109_Tran.csv"
    file.write_text("2024-01-05|109|7|1 2 3\n")
    look = landing.settled_deliveries

    def written_to_meanwhile(found: Any, heads: Any, _: float) -> Any:
        def write(_: float) -> None:
            with file.open("a") as end:
                end.write("2024-01-06|109|8|4\n")

        return look(found, heads, 600, write)

    monkeypatch.setattr(landing, "settled_deliveries", written_to_meanwhile)
    told = ("transactions/109_Tran.csv", "changing", "it is still being written: the next run reads it")
    facts = run(delivered, enable_quality_checks=False)
    assert (facts.verdict, facts.left_out) == ("nothing_new", [told])
    (delivered / "landing" / "transactions" / "110_Tran.csv").write_text("2024-01-05|110|7|1 2 3\n")
    facts = run(delivered, enable_quality_checks=False)
    assert (facts.verdict, facts.left_out) == ("published", [told])
    assert [r["status"] for r in rows(delivered, "ops.sources") if r["path"] == told[0]] == ["changing"]
    monkeypatch.undo()
    facts = run(delivered, enable_quality_checks=False)
    assert facts.taken_in == [("transactions/109_Tran.csv", "new", "")]
    assert_as_fresh(delivered)


def test_what_is_written_behind_a_file_in_the_middle_of_a_run_is_of_the_next_one(
    delivered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = delivered / "landing" / "transactions" / "109_Tran.csv"
    file.write_text("2024-01-05|109|7|1 2 3\n2024-01-0")
    begin = release.begin

    def begin_while_another_writes(*given: Any) -> Any:
        with file.open("a") as end:
            end.write("6|109|8|4\n2024-01-07|109|8|4\n")
        return begin(*given)

    monkeypatch.setattr(release, "begin", begin_while_another_writes)
    run(delivered)
    monkeypatch.undo()
    lines = [row["line"] for row in rows(delivered, "bronze.transactions") if row["line"][10:15] == "|109|"]
    assert lines == ["2024-01-05|109|7|1 2 3"]
    assert [kind for _, kind, _ in run(delivered, enable_quality_checks=False).taken_in] == ["grown"]
    assert_as_fresh(delivered)


def test_rows_of_a_month_long_past_rebuild_that_month(delivered: Path) -> None:
    (delivered / "landing" / "transactions" / "late.csv").write_text("2019-05-31|103|7|1 2 3\n2019-05-01|109|9|2\n")
    before = files_of_months(delivered, "silver.product_days")
    facts = run(delivered)
    after = files_of_months(delivered, "silver.product_days")
    assert {month for month in after if after[month] != before.get(month)} == {"2019-05"}
    assert facts.taken_in == [("transactions/late.csv", "new", "")]
    assert_as_fresh(delivered)


Change = Callable[[Path], object]
AGAIN: dict[str, tuple[Change, str, str]] = {
    "the same bytes under another name": (
        lambda files: shutil.copy(files / "102_Tran.csv", files / "z.csv"),
        "duplicate",
        f"the same bytes as {GROWN}",
    ),
    "a file that is none": (lambda files: (files / "z.csv").write_text("x"), "rejected", "none of its first 1 lines"),
}


@pytest.mark.parametrize("case", AGAIN)
def test_what_has_no_effect_is_recorded_once_and_told_again(delivered: Path, case: str) -> None:
    change, status, said = AGAIN[case]
    change(delivered / "landing" / "transactions")
    facts = [run(delivered, enable_quality_checks=False) for _ in range(2)]
    assert [f.verdict for f in facts] == ["published", "nothing_new"]
    for (path, found, detail), *others in (f.left_out for f in facts):
        assert (path, found, others) == ("transactions/z.csv", status, [])
        assert detail.startswith(said)
    first, second = release.history(Storage(str(delivered / "home" / "tables")))
    assert {name for name in first.tables if first.tables[name] != second.tables[name]} == {"ops.sources"}
    assert [r["status"] for r in rows(delivered, "ops.sources") if r["path"] == "transactions/z.csv"] == [status]


@pytest.mark.parametrize(
    ("more", "asked"),
    [(None, {}), ("2024-01-03|104|7|1 2 3\n", {}), (None, {"n_clusters": 2})],
    ids=["nothing else", "and another file", "and another parameter"],
)
def test_the_ledger_names_sources_as_they_are_named_now(
    more: str | None, asked: dict[str, object], delivered: Path
) -> None:
    folder = delivered / "landing" / "transactions"
    one, other, aside = folder / "101_Tran.csv", folder / "102_Tran.csv", folder / "aside"
    for file, name in ((one, aside), (other, one), (aside, other)):
        file.rename(name)
    if more is not None:
        (folder / "901_Tran.csv").write_text(more)
    run(delivered, enable_quality_checks=False, **asked)
    named = {row["source_id"]: row["path"] for row in rows(delivered, "ops.sources") if row["status"] == "current"}
    assert {row["source_id"]: row["path"] for row in rows(delivered, "ops.ledger")} == named
