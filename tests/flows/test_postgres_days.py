"""Transactions that live in PostgreSQL, in whole runs: what changes there, changes here, and nothing else is read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from flows.audit.origins import FILE
from flows.audit.rebuild import recompute, scratch_home
from flows.report.events import Events
from flows.report.recorded import plain_step
from flows.report.report import RunFacts
from flows.run.console import error_console
from lakehouse.postgres.connection import connection, stop_embedded
from lakehouse.releases import release
from lakehouse.releases.release import Snapshot
from lakehouse.settings import Settings, load_settings
from lakehouse.sources import postgres_extract as extraction
from lakehouse.sources.postgres_load import load
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.conftest import run_lakehouse
from tests.flows.command import digests, lakehouse

PLAIN = {"min_rows_threshold": 1, "max_quarantine_pct": 50, "enable_quality_checks": False}
DAY = "postgres/transactions/"
KILL = """
import os, signal
import lakehouse.sources.postgres_extract as module
from lakehouse.postgres import server
from lakehouse.settings import load_settings
keep, kept = module.keep, []
def keeps_until_the_server_is_killed(*given):
    kept.append(given)
    if len(kept) == 2:  # before the transactions are asked for: rows that were sent already would still arrive
        folder = load_settings().lakehouse_home / 'postgres'
        process, _ = server.server_process(folder)
        os.kill(process, signal.SIGKILL)
        server.stop(folder, process)
    return keep(*given)
module.keep = keeps_until_the_server_is_killed
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A home whose PostgreSQL holds the sample, and runs that read transactions from there."""
    monkeypatch.setenv("TRANSACTIONS_SOURCE", "postgres")
    chosen = load_settings(lakehouse_home=tmp_path / "home")
    write_sample(tmp_path / "sample", receipts=400, days=40)
    load(chosen, tmp_path / "sample", transactions=True)
    yield chosen
    stop_embedded(chosen)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the first line of every day that is copied."""
    found, keep = list[str](), extraction.keep

    def noted(into: Path, entity: str, lines: Iterable[bytes]) -> tuple[Path, str]:
        path, sha256 = keep(into, entity, lines)
        if entity == "transactions":
            found.append(path.read_text()[:10])
        return path, sha256

    monkeypatch.setattr(extraction, "keep", noted)
    return found


def change(settings: Settings, *statements: str) -> None:
    with connection(settings) as opened:
        for statement in statements:
            opened.execute(statement.encode())


def run(settings: Settings, **parameters: object) -> RunFacts:
    return run_lakehouse(settings.lakehouse_home, None, **(PLAIN | parameters))


def assert_as_fresh(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the lakehouse to a fresh one that reads the same server."""
    fresh = settings.lakehouse_home / "fresh"
    with monkeypatch.context() as inside:
        inside.setenv("LAKEHOUSE_ROOT", str(fresh / "tables"))
        inside.setenv("OUTPUT_PATH", str(fresh / "exports"))
        run(settings)
    assert digests(settings.lakehouse_home) == digests(fresh)


def test_late_commits_updates_and_deletes_reach_gold_and_only_their_days_are_copied(
    settings: Settings, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings)
    first = digests(settings.lakehouse_home)
    assert len(copied) == 40
    copied.clear()
    assert run(settings).verdict == "nothing_new"
    assert copied == []

    keep = extraction.keep

    def keeps_while_another_commits(into: Path, entity: str, lines: Iterable[bytes]) -> tuple[Path, str]:
        if entity == "categories":
            change(settings, "INSERT INTO transactions VALUES ('2024-01-20', 101, 77, '3 4')")
        return keep(into, entity, lines)

    change(
        settings,
        "CREATE TABLE gone AS SELECT * FROM transactions WHERE sold_on = '2024-01-09'",
        "DELETE FROM transactions WHERE sold_on = '2024-01-09'",
        "INSERT INTO transactions VALUES ('2024-01-02', 101, 7, '1 2 3'), ('1999-12-31', 101, 7, '1')",
        "UPDATE transactions SET products = '5 5' WHERE sold_on = '2024-01-05' AND store_id = 101",
    )
    monkeypatch.setattr(extraction, "keep", keeps_while_another_commits)
    facts = run(settings, enable_quality_checks=True)
    monkeypatch.setattr(extraction, "keep", keep)
    assert sorted(copied) == ["1999-12-31", "2024-01-02", "2024-01-05"]
    assert (f"{DAY}2024-01-09", "deleted", "PostgreSQL has no row of it any more") in facts.left_out
    assert {path.removeprefix(DAY) for path, *_ in facts.taken_in} == {"1999-12-31", "2024-01-02", "2024-01-05"}

    copied.clear()
    change(settings, "INSERT INTO transactions SELECT * FROM gone")
    facts = run(settings)
    assert sorted(copied) == ["2024-01-09", "2024-01-20"]
    assert not any(status == "deleted" for _, status, _ in facts.left_out)
    assert_as_fresh(settings, monkeypatch)

    opened = Snapshot(Storage(settings.root), release.at(Storage(settings.root), 1))
    events = Events(settings.logs, "rebuild", "rebuild", error_console())
    with scratch_home(settings, None) as home:
        rebuilt = recompute(settings, opened, home, plain_step(events))
    assert rebuilt.different == []
    assert {origin.taken_from for origin in rebuilt.origins} == {FILE}
    assert {row.table: row.rebuilt for row in rebuilt.tables} == first


def test_a_server_killed_while_it_is_read_fails_the_run_and_the_next_one_is_right(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("run", "--no-prefect", "--no-checks", "--min-rows-threshold", 1)
    env = {"TRANSACTIONS_SOURCE": "postgres"}
    killed = lakehouse(settings.lakehouse_home, *asked, env=env, before=KILL)
    assert (killed.returncode, "Traceback" in killed.stderr) == (1, False), killed.stderr
    assert "What was under way was rolled back" in " ".join(killed.stderr.split())
    assert release.history(Storage(settings.root)) == []
    assert list(settings.lakehouse_home.rglob("*.part")) == []
    run(settings)
    source = settings.lakehouse_home.parent / "sample"
    with monkeypatch.context() as inside:
        inside.setenv("TRANSACTIONS_SOURCE", "files")
        run_lakehouse(settings.lakehouse_home / "files", source, **PLAIN)
    assert digests(settings.lakehouse_home) == digests(settings.lakehouse_home / "files")
    stop_embedded(load_settings(lakehouse_home=settings.lakehouse_home / "files"))
