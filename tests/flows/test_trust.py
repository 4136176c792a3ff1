"""What a release may claim: of whose code its tables are, that they were checked, that its exports are there."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.run import steps
from lakehouse.exports.folders import hold_exports
from lakehouse.ops import runs
from lakehouse.releases import release
from lakehouse.settings import load_settings
from lakehouse.sources.sample import write_sample
from lakehouse.storage.tables import Storage
from tests.contracts.test_new_table import PROJECT, STORE_SALES
from tests.flows import warm
from tests.flows.command import answer, lakehouse

PLAIN = ("run", "--no-prefect", "--min-rows-threshold", 1, "--source")
OTHER_CODE = "import lakehouse.version as module; module.code_version = lambda: 'other'\n"
UPDATED = "import lakehouse.version as module; module._hash_of_package = lambda: 'updated meanwhile'\n"
GROUP = """
from functools import partial
from flows.report.events import Events
from flows.run.console import error_console
from flows.run.steps import run_group
from flows.run.request import new_request
from flows.report.recorded import plain_step, print_summary, run_recorded
from lakehouse.parameters import new_parameters
from lakehouse.settings import load_settings
settings = load_settings()
request = new_request('clustering', settings, new_parameters(enable_quality_checks=False))
events = Events(settings.logs, 'clustering', request.run_id, error_console())
from lakehouse.errors import LakehouseError
try:
    run_recorded(request, events, plain_step(events), partial(run_group, 'clustering'), print_summary)
except LakehouseError as error:
    sys.exit(str(error))
sys.exit(0)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_sample(tmp_path / "source", receipts=400, days=40)
    return tmp_path / "source"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a release of the sample that nothing checked; nobody changes it."""
    folder = tmp_path_factory.mktemp("published")
    write_sample(folder / "source", receipts=400, days=40)
    ran(folder / "home", folder / "source", "--no-checks")
    return folder / "home"


@pytest.fixture
def unchecked(published: Path, tmp_path: Path) -> Path:
    """A home of the test's own with such a release."""
    another = shutil.ignore_patterns("postgres")  # whose server may still run: the next run makes one
    return shutil.copytree(published, tmp_path / "home", symlinks=True, ignore=another)


def done(home: Path, *arguments: object, before: str = "", code: int = 0, **env: str) -> str:
    ended = lakehouse(home, *arguments, before=before, env=env)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return " ".join((ended.stdout + ended.stderr).split())


def ran(home: Path, source: Path, *options: object) -> str:
    """Run the main job, hold it to success, and give what it says: a warm one, of the code and settings there are."""
    return " ".join(warm.done(home, *PLAIN, source, *options, env=warm.lasting_postgres()).split())


def test_one_group_upon_tables_of_other_code_is_refused(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    done(home, *PLAIN, source, "--no-checks", before=OTHER_CODE)
    told = done(home, before=GROUP, code=1)
    assert "Release 1 was made by other code" in told
    assert len(answer(home, "releases")) == 1
    ran(home, source, "--no-checks")
    done(home, before=GROUP)
    assert len(answer(home, "releases")) == 3


def test_a_checkout_that_changes_under_a_run_publishes_nothing(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    told = done(home, *PLAIN, source, "--no-checks", before=UPDATED, code=1)
    assert "The code was changed while the run was under way" in told
    assert "There is no release in" in done(home, "status", code=1)
    done(home, *PLAIN, source, "--no-checks")
    assert len(answer(home, "releases")) == 1


def test_a_group_alone_makes_no_unchecked_release_a_verified_one(unchecked: Path) -> None:
    done(unchecked, before=GROUP.replace("enable_quality_checks=False", "min_rows_threshold=1"))
    assert [row["verified"] for row in answer(unchecked, "releases")] == [False, False]


def stricter(folder: Path, module: str, condition: str) -> dict[str, str]:
    """Give a table one more check, in a command and in its process of the checks: what `done` is asked for that."""
    code = f"""
from dataclasses import replace
from {module.rpartition(".")[0]} import {module.rpartition(".")[2]} as module
from lakehouse.table import Expression
module.TABLE = replace(module.TABLE, checks=(*module.TABLE.checks, Expression({condition!r}, why="of a test")))
"""
    (folder / "sitecustomize.py").write_text(code)
    return {"before": code, "PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


@pytest.mark.parametrize(
    ("first", "options"), [("", ("--no-checks",)), (OTHER_CODE, ())], ids=["nobody checked", "other code checked"]
)
def test_a_checked_run_checks_what_it_leaves_unless_its_own_code_did(
    first: str, options: tuple[str, ...], tmp_path: Path, source: Path
) -> None:
    home, more = tmp_path / "home", source / "transactions" / "901_Tran.csv"
    told = done(home, *PLAIN, source, *options, before=first)
    assert ("(quality checks were off)" in told) == bool(options)
    more.write_text("2024-01-03|901|7|1 2 3\n")
    asked = stricter(tmp_path, "lakehouse.bronze.categories", "line_number > 2")
    assert "bronze.categories" in done(home, *PLAIN, source, code=3, **asked)
    ran(home, source)
    assert [row["verified"] for row in answer(home, "releases")][-1]


def test_upon_a_checked_release_the_rows_that_come_are_checked(tmp_path: Path, source: Path) -> None:
    home, more = tmp_path / "home", source / "transactions" / "901_Tran.csv"
    ran(home, source)
    asked = stricter(tmp_path, "lakehouse.silver.receipts", "customer_id <> 777777")
    more.write_text("2024-01-03|901|777777|1 2 3\n")
    assert "silver.receipts" in done(home, *PLAIN, source, code=3, **asked)
    more.write_text("2024-01-03|901|777778|1 2 3\n")
    done(home, *PLAIN, source, **asked)
    assert [row["verified"] for row in answer(home, "releases")] == [True, True]


def test_files_and_postgresql_do_not_mix(unchecked: Path, source: Path) -> None:
    told = done(unchecked, *PLAIN, source, "--no-checks", code=2, TRANSACTIONS_SOURCE="postgres")
    assert "TRANSACTIONS_SOURCE is 'postgres': it must be 'files', as in this lakehouse so far" in told


def test_exports_are_made_again_where_one_is_missing_or_they_are_anothers(tmp_path: Path, source: Path) -> None:
    home, other, out = tmp_path / "home", tmp_path / "other", tmp_path / "out"
    done(home, *PLAIN, source, "--no-checks", OUTPUT_PATH=str(out))
    totals = out / "summary" / "basic_metrics.json"
    first = json.loads(totals.read_bytes())
    totals.unlink()
    done(home, *PLAIN, source, "--no-checks", OUTPUT_PATH=str(out))
    assert json.loads(totals.read_bytes()) == first
    fewer = tmp_path / "fewer"
    shutil.copytree(source, fewer)
    max((fewer / "transactions").iterdir()).unlink()
    ran(other, fewer, "--no-checks")
    done(other, *PLAIN, fewer, "--no-checks", OUTPUT_PATH=str(out))
    assert json.loads(totals.read_bytes())["total_transactions"] < first["total_transactions"]


def test_a_front_end_that_missed_a_release_is_caught_up_without_news(
    tmp_path: Path, unchecked: Path, source: Path
) -> None:
    front = tmp_path / "front"
    front.mkdir()
    (front / ".unfinished-sync.json").write_text("garbage")
    done(unchecked, *PLAIN, source, "--no-checks", "--sync", FRONTEND_PATH=str(front))
    assert (front / "summary" / "basic_metrics.json").exists()


def test_a_table_that_the_code_has_no_more_is_in_no_later_release(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copy = tmp_path / "home", tmp_path / "project"
    for room in ("lakehouse", "quality", "flows", "deployments"):
        shutil.copytree(PROJECT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "lakehouse/gold/summary/store_sales.py").write_text(STORE_SALES, encoding="utf-8")
    with monkeypatch.context() as inside:
        inside.chdir(copy)
        done(home, *PLAIN, source)
        assert "store_sales" in done(home, "tables")
    ran(home, source)
    newest = release.latest(Storage(str(home / "tables")))
    assert (newest.release_id, newest.verified) == (2, True)
    assert "gold.store_sales" not in {**newest.tables, **newest.digests}
    for number in (1, 2):
        assert answer(home, "query", "select count(*) as days from gold.daily_sales", "-r", number) == [{"days": 40}]
    changed = {one["table"] for one in answer(home, "diff", 1, 2)["tables"]}
    assert changed == set()


def test_without_anything_in_the_landing_any_more_nothing_is_new(unchecked: Path, source: Path) -> None:
    for file in (source / "transactions").iterdir():
        file.unlink()
    assert "Nothing new since release 1" in ran(unchecked, source, "--no-checks")


def test_a_run_that_fails_at_its_first_look_is_in_the_log_of_runs(tmp_path: Path, unchecked: Path) -> None:
    assert "there is no such folder" in done(unchecked, "run", "--source", tmp_path / "nowhere", code=1)
    assert answer(unchecked, "status")["last_run"].startswith("failed")


def test_a_sync_waits_for_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(lakehouse_home=tmp_path / "home", frontend_path=tmp_path / "front")
    others = threading.Event()
    monkeypatch.setattr(steps, "sync_folder", lambda *_: others.is_set())
    with ThreadPoolExecutor() as pool, hold_exports(settings.exports.absolute()):
        second = pool.submit(steps.sync, settings)
        with pytest.raises(TimeoutError):
            second.result(0.3)
        others.set()
    assert second.result() is True


def test_a_sync_without_a_front_end_is_refused_before_anything_starts(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    assert "FRONTEND_PATH is ''" in done(home, *PLAIN, source, "--no-checks", "--sync", code=2)
    assert not (home / "tables").exists()


def test_a_run_that_fails_after_publishing_says_that_it_published(tmp_path: Path, source: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("of somebody else")
    told = done(home, *PLAIN, source, "--no-checks", code=1, OUTPUT_PATH=str(out))
    assert "Published as release 1: what should follow failed" in told
    assert "it is a folder with other files" in told
    assert "nothing was published" not in told
    storage = Storage(str(home / "tables"))
    assert storage.rows(runs.TABLE, storage.version(runs.TABLE) or 0)["state"].to_pylist() == ["unfinished"]


def test_a_group_alone_keeps_the_parameters_that_are_not_its_own(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    ran(home, source, "--no-checks", "--min-support", 0.2)
    asked = """
from flows.groups import parameters_for
from lakehouse.settings import load_settings
found = parameters_for(load_settings(), n_clusters=3)
print(found.n_clusters, found.min_support, found.min_rows_threshold, found.enable_quality_checks)
sys.exit(0)
"""
    assert done(home, before=asked) == "3 0.2 1 True"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select timestamp 'infinity' as t", "The query failed"),
        ("select 1 as a, 2 as a", "Several columns are named a"),
    ],
)
def test_a_result_that_cannot_be_shown_whole_is_refused(unchecked: Path, sql: str, said: str) -> None:
    assert said in done(unchecked, "query", sql, code=2)


@pytest.mark.parametrize("address", ["foo", "http://[bad", "ftp://host", "http://a b", "http://me:secret@host"])
def test_an_endpoint_no_client_could_read_is_named(tmp_path: Path, address: str) -> None:
    told = done(tmp_path, "status", code=2, MINIO_ENDPOINT=address, LAKEHOUSE_ROOT="s3://lakehouse/tables")
    assert "it must be an address like http://host:9000 or https://host" in told
    assert "secret" not in told


def test_a_data_file_that_is_gone_is_told_by_whoever_reads_it(unchecked: Path, source: Path) -> None:
    ran(unchecked, source, "--no-checks", "--n-clusters", 3)
    for file in (unchecked / "tables" / "gold" / "customer_segments").glob("*.parquet"):
        file.unlink()
    for command in (("digest",), ("diff", 1, 2)):
        told = done(unchecked, *command, code=1)
        assert "Could not read" in told
        assert "customer_segments" in told
        assert "an earlier release may be whole" in told


def test_an_argument_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "An argument is '\\\\xff': it must be text in UTF-8" in done(
        tmp_path, "pin", 1, "--why", b"\xff".decode(errors="surrogateescape"), code=2
    )


def test_the_last_source_can_be_withdrawn_from_a_checked_lakehouse(tmp_path: Path) -> None:
    home, landing = tmp_path / "home", tmp_path / "source" / "transactions"
    write_sample(tmp_path / "source", receipts=400, days=40, stores=1)
    (only,) = landing.iterdir()
    done(home, "run", "--no-prefect", "--source", tmp_path / "source", "--min-rows-threshold", 0)
    only.unlink()
    done(home, "withdraw", f"transactions/{only.name}", "--who", "Ana", "--why", "a test")
    assert answer(home, "query", "select * from gold.sales_totals") == []


def test_times_are_told_in_utc_wherever_somebody_asks(unchecked: Path) -> None:
    asked = "select timestamptz '2024-01-01 00:30:00+00' as moment, moment::date as day"
    assert "2024-01-01 00:30:00 UTC 2024-01-01" in done(unchecked, "query", asked, TZ="America/Sao_Paulo")
