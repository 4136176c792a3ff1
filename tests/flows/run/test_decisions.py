"""Decisions about refused lines and about files: each is a release, counted, undone by no later run."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from flows.commands.cli import main
from flows.report.recorded import run_decision
from flows.report.report import RunFacts
from flows.run.changes import Changes
from flows.run.decisions import DecisionContext, DecisionReason, fix, waive, waive_rule
from flows.run.request import RunRequest
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.settings import load_settings
from lakehouse.sources.sample import BAD_LINES, SampleCounts, write_sample
from lakehouse.storage.tables import Storage
from tests.conftest import run_lakehouse
from tests.flows.command import answer, digests, lakehouse, run

ANA = DecisionReason("Ana", "read from the till roll")
SAID = ("--who", "Ana", "--why", "read from the till roll")
BETTER = "2024-01-20|101|17|4 9 9"
WIDER = "import lakehouse.kernels.receipt_rules as module\nmodule.FIRST_DAY = module.date(1800, 1, 1)\n"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleCounts]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_sample(folder, receipts=1_200, days=40)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, sample: tuple[Path, SampleCounts]) -> Path:
    """A home with the sample as release 1; nobody changes it."""
    home = tmp_path_factory.mktemp("published")
    run(home, sample[0])
    return home


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Path:
    """A copy of it to decide in."""
    shutil.copytree(published / "tables", tmp_path / "home" / "tables")
    return tmp_path / "home"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command line in this process, hold it to an exit code, and give what it says of what is wrong."""

    def run_here(home: Path, code: int, *arguments: object) -> str:
        monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["lakehouse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        return capsys.readouterr().err

    return run_here


def rows_of(home: Path, table: str) -> list[dict[str, Any]]:
    """Read a table of the newest release."""
    storage = Storage(str(home / "tables"))
    rows: list[dict[str, Any]] = Snapshot(storage, release.latest(storage)).rows(table).to_pylist()
    return rows


def line_of(home: Path, rule: str) -> tuple[str, int]:
    """Give path and number of the first line, by these, that broke a rule."""
    paths = {row["source_id"]: row["path"] for row in rows_of(home, "ops.sources")}
    broken = [row for row in rows_of(home, "ops.quarantine") if row["rule"] == rule]
    return min((paths[row["source_id"]], row["line_number"]) for row in broken)


def with_status(home: Path, status: str) -> list[str]:
    """Give the lines of a status, as delivered, sorted."""
    return sorted(row["line"] for row in rows_of(home, "ops.quarantine") if row["status"] == status)


def corrected(folder: Path, into: Path, lines: Iterable[tuple[str, int, str]]) -> Path:
    """Copy a landing, and put lines in the place of those delivered."""
    shutil.copytree(folder, into)
    for path, number, text in lines:
        content = (into / path).read_bytes().split(b"\n")
        end = b"\r" if content[number - 1].endswith(b"\r") else b""
        content[number - 1] = text.encode() + end
        (into / path).write_bytes(b"\n".join(content))
    return into


def decided(home: Path, choice: Any) -> RunFacts:
    return run_decision("workbench", load_settings(lakehouse_home=home), choice)


def totals(home: Path) -> tuple[int, int]:
    """Give receipts and units."""
    (row,) = rows_of(home, "gold.sales_totals")
    return row["receipts"], row["units"]


def waived_and_wrong(home: Path) -> tuple[int, list[str]]:
    """Give the lines waived as the ledger counts them, and the accounts that do not add up."""
    accounts = rows_of(home, "ops.ledger")
    hops = [a for a in accounts if a["hop"] == "bronze to silver"]
    return sum(a["waived"] for a in hops), [a["path"] for a in accounts if a["difference"]]


def test_a_line_of_every_rule_fixed_gives_what_a_corrected_file_gives(
    home: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    chosen = [(*line_of(home, rule), f"2024-01-{10 + n}|101|17|{n + 1} 4 9") for n, rule in enumerate(BAD_LINES)]

    def all_fixed(request: RunRequest) -> Changes:
        context = DecisionContext.of(request)
        return context.changes_by("fix", [(context.line_of(path, number), text) for path, number, text in chosen], ANA)

    facts = decided(home, all_fixed)
    assert facts.verdict == "published"
    assert facts.receipts == sample[1].receipts + len(BAD_LINES)
    assert {rule.rule: rule.replayed for rule in facts.quarantine_rules} == dict.fromkeys(BAD_LINES, 1)
    assert {row.difference for row in facts.ledger} == {0}
    replayed = answer(home, "quarantine", "--status", "replayed")
    assert {(r["path"], r["line_number"]) for r in replayed} == {(path, number) for path, number, _ in chosen}
    run(tmp_path / "fresh", corrected(sample[0], tmp_path / "landing", chosen))
    assert digests(home) == digests(tmp_path / "fresh")


def test_a_fix_is_a_release_that_the_next_run_leaves_as_it_is(home: Path, sample: tuple[Path, SampleCounts]) -> None:
    path, number = line_of(home, "bad_date")
    before = totals(home)
    done = lakehouse(home, "quarantine", "fix", path, number, BETTER, *SAID)
    assert done.returncode == 0, done.stderr
    assert "Published as release 2" in done.stdout
    assert "15 lines, 1 replayed (corrected)" in done.stdout
    assert totals(home) == (before[0] + 1, before[1] + 3)
    assert waived_and_wrong(home) == (0, [])
    again = lakehouse(home, "run", "--source", sample[0], "--no-prefect", "--no-checks")
    assert "Nothing new since release 2" in again.stdout, again.stderr
    twice = lakehouse(home, "quarantine", "fix", path, number, BETTER, *SAID)
    assert "Nothing new since release 2" in twice.stdout, twice.stderr
    (row,) = rows_of(home, "ops.corrections")
    assert [row[name] for name in ("action", "line", "rule", "who", "why")] == ["fix", BETTER, "bad_date", *SAID[1::2]]


def test_decisions_pass_every_gate(home: Path, sample: tuple[Path, SampleCounts]) -> None:
    run_lakehouse(home, sample[0])
    path, number = line_of(home, "bad_customer")
    facts = decided(home, lambda request: fix(request, path, number, BETTER, ANA))
    assert (facts.release_id, facts.verified, facts.receipts) == (3, True, sample[1].receipts + 1)
    facts = decided(home, lambda request: waive_rule(request, "no_products", None, ANA))
    assert (facts.release_id, facts.verified) == (4, True)


def test_a_fix_rebuilds_only_the_month_its_line_falls_in(home: Path) -> None:
    path, number = line_of(home, "bad_date")
    decided(home, lambda request: fix(request, path, number, "2024-02-05|101|17|4", ANA))
    log = home / "tables" / "silver" / "product_days" / "_delta_log"
    actions = [json.loads(line) for line in max(log.glob("*.json")).read_text().splitlines()]
    assert {a["add"]["partitionValues"]["month"] for a in actions if "add" in a} == {"2024-02"}


def test_waived_lines_are_counted_as_lost_and_still_there(home: Path) -> None:
    before = digests(home)
    path, number = line_of(home, "bad_store")
    decided(home, lambda request: waive(request, path, number, ANA))
    facts = decided(home, lambda request: waive_rule(request, "bad_date", None, ANA))
    assert {r.rule: (r.open, r.waived) for r in facts.quarantine_rules if r.waived} == {
        "bad_date": (0, 2),
        "bad_store": (1, 1),
    }
    assert waived_and_wrong(home) == (3, [])
    assert (len(with_status(home, "waived")), len(rows_of(home, "ops.quarantine"))) == (3, 16)
    assert digests(home) == before


def test_a_decision_can_be_taken_back_and_both_are_kept(home: Path) -> None:
    path, number = line_of(home, "bad_date")
    before = digests(home)
    decided(home, lambda request: fix(request, path, number, BETTER, ANA))
    assert digests(home) != before
    decided(home, lambda request: waive(request, path, number, ANA))
    assert digests(home) == before
    assert waived_and_wrong(home) == (1, [])
    rows = rows_of(home, "ops.corrections")
    assert sorted((row["decision"], row["action"]) for row in rows) == [(1, "fix"), (2, "waive")]


def test_replay_publishes_nothing_while_the_rules_are_the_same(home: Path) -> None:
    done = lakehouse(home, "quarantine", "replay")
    assert done.returncode == 0, done.stderr
    assert "Nothing new since release 1" in done.stdout
    assert release.latest(Storage(str(home / "tables"))).release_id == 1


def test_replay_brings_in_what_other_rules_keep_and_leaves_a_trace(home: Path) -> None:
    before = totals(home)
    old = [line for line in with_status(home, "open") if line.startswith("1899")]
    done = lakehouse(home, "quarantine", "replay", before=WIDER)
    assert done.returncode == 0, done.stderr
    assert totals(home)[0] == before[0] + len(old) > before[0]
    assert waived_and_wrong(home) == (0, [])
    assert with_status(home, "replayed") == old


def test_a_superseding_file_drops_its_decisions_and_the_first_bytes_bring_them_back(
    home: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    path, number = line_of(home, "bad_date")
    decided(home, lambda request: fix(request, path, number, BETTER, ANA))
    fixed = digests(home)
    folder = tmp_path / "landing"
    shutil.copytree(sample[0], folder)
    first = (folder / path).read_bytes()
    (folder / path).write_bytes(first + b"2024-01-05|101|17|4\n")
    run(home, folder)
    assert with_status(home, "replayed") == []
    assert waived_and_wrong(home) == (0, [])
    (folder / path).write_bytes(first)
    run(home, folder)
    assert digests(home) == fixed
    assert waived_and_wrong(home) == (0, [])


def test_a_withdrawn_file_leaves_every_table_and_stays_out(
    home: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    path, _ = line_of(home, "bad_date")
    done = lakehouse(home, "withdraw", path, *SAID)
    assert done.returncode == 0, done.stderr
    assert f"{path}: by Ana: read from the till roll" in done.stdout
    assert waived_and_wrong(home) == (0, [])
    again = lakehouse(home, "run", "--source", sample[0], "--no-prefect", "--no-checks")
    assert "Nothing new since release 2" in again.stdout, again.stderr
    (source_id,) = [row["source_id"] for row in rows_of(home, "ops.sources") if row["path"] == path]
    for table in ("bronze.transactions", "silver.receipts", "ops.quarantine", "ops.ledger"):
        assert source_id not in {row["source_id"] for row in rows_of(home, table)}
    folder = tmp_path / "landing"
    shutil.copytree(sample[0], folder)
    content = (folder / path).read_bytes()
    (folder / path).unlink()
    run(tmp_path / "fresh", folder)
    assert digests(home) == digests(tmp_path / "fresh")
    (folder / path).write_bytes(content + b"2024-01-05|101|17|4\n")
    run(home, folder)
    statuses = [row["status"] for row in rows_of(home, "ops.sources") if row["path"] == path]
    assert sorted(statuses) == ["current", "superseded"]


def test_a_withdrawn_file_whose_bytes_came_under_another_name_says_that_they_still_count(
    sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    home, folder = tmp_path / "home", tmp_path / "landing"
    shutil.copytree(sample[0], folder)
    first = min((folder / "transactions").iterdir())
    shutil.copy(first, first.with_name("999_Tran.csv"))
    run(home, folder)
    before = totals(home)
    done = lakehouse(home, "withdraw", f"transactions/{first.name}", *SAID)
    assert done.returncode == 0, done.stderr
    assert "the same bytes go on counting as transactions/999_Tran.csv" in " ".join(done.stdout.split())
    assert totals(home) == before
    again = lakehouse(home, "withdraw", "transactions/999_Tran.csv", *SAID)
    assert again.returncode == 0, again.stderr
    assert "go on counting" not in " ".join(again.stdout.split()).rpartition("999_Tran.csv")[2]
    assert totals(home)[0] < before[0]


def test_the_listing_gives_raw_line_rule_file_and_age(published: Path) -> None:
    rows = answer(published, "quarantine")
    assert [(r["rule"], r["path"], r["line_number"]) for r in rows] == sorted(
        (r["rule"], r["path"], r["line_number"]) for r in rows
    )
    assert {r["age_days"] for r in rows} <= {0, 1}
    path = rows[0]["path"]
    asked = ("--path", path, "--rule", rows[0]["rule"], "--status", "open")
    assert answer(published, "quarantine", *asked) == [
        r for r in rows if (r["path"], r["rule"]) == (path, rows[0]["rule"])
    ]
    assert "No such line" in lakehouse(published, "quarantine", "--path", "nowhere").stderr


FILE = "transactions/101_Tran.csv"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("fix", "nowhere.csv", 1, BETTER, *SAID), "SOURCE_PATH is 'nowhere.csv': it must be a path that"),
        (("fix", FILE, 1_000_000, BETTER, *SAID), "LINE_NUMBER is 1000000: it must be the number of a line of"),
        (("waive", FILE, 1, *SAID), "LINE_NUMBER is 1: it must be the number of a line of"),
        (("fix", FILE, "LINE", BETTER, "--who", " ", "--why", "x"), "--who is ' ': it must be a text"),
        (("waive", FILE, "LINE", "--who", "Ana", "--why", "a\nb"), "--why is 'a\\nb': it must be a text"),
        (("fix", FILE, "LINE", "2024-02-30|101|17|4", *SAID), "it breaks bad_date: '2024-02-30' is no date"),
        (("fix", FILE, "LINE", f"{BETTER}\n", *SAID), "it breaks bad_product"),
        (("fix", FILE, "LINE", BETTER), "--who"),
        (("fix", FILE, 2**63, BETTER, *SAID), "Input should be less than or equal to 2147483647"),
        (("waive", FILE, 2**63, *SAID), "Input should be less than or equal to 2147483647"),
        (
            ("waive", FILE, *SAID),
            f"What to waive is '{FILE}': it must be either SOURCE_PATH and LINE_NUMBER, or --rule",
        ),
        (("waive", "--rule", "bad_dates", *SAID), "There is no rule 'bad_dates'"),
        (("waive", "--rule", "bad_category", *SAID), "a rule that open lines broke"),
        (("--status", "closed"), "There is no status 'closed'"),
    ],
)
def test_wrong_use_is_told_and_starts_nothing(
    asked: tuple[Any, ...], said: str, published: Path, told: Callable[..., str]
) -> None:
    number = line_of(published, "not_utf8")[1]
    assert said in told(published, 2, "quarantine", *(number if word == "LINE" else word for word in asked))
    assert release.latest(Storage(str(published / "tables"))).release_id == 1


@pytest.mark.parametrize(
    ("path", "said"), [("nowhere.csv", "it must be a path that"), ("postgres/categories", "a transactions file")]
)
def test_only_current_transactions_files_can_be_withdrawn(
    path: str, said: str, published: Path, told: Callable[..., str]
) -> None:
    assert said in told(published, 2, "withdraw", path, *SAID)


def test_nothing_can_be_decided_before_the_first_release(tmp_path: Path, told: Callable[..., str]) -> None:
    assert "There is no release" in told(tmp_path, 1, "quarantine", "replay")
