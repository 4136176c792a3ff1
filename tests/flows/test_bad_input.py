"""What bad input gets: one sentence, the right exit code, nothing half-written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.sources.sample import write_sample
from tests.flows.command import answer, lakehouse

RUN = ("run", "--no-prefect", "--no-checks")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, receipts=1_500, days=40)
    return folder


def refused(home: Path, code: int, *arguments: object, **environment: str) -> str:
    """Run a command that must fail with one sentence on standard error, and give it."""
    done = lakehouse(home, *arguments, env=environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--n-clusters", "0", "n_clusters is 0: it must be greater than or equal to 2"),
        ("--n-clusters", "many", "Invalid value for '--n-clusters'"),
        ("--min-support", "2", "min_support is 2.0: it must be less than or equal to 1"),
        ("--min-support", "nan", "min_support is nan"),
        ("--min-confidence", "-1", "min_confidence is -1.0: it must be greater than or equal to 0"),
        ("--max-itemset-size", "21", "max_itemset_size is 21: it must be less than or equal to 20"),
        ("--min-rows-threshold", "-5", "min_rows_threshold is -5"),
        ("--max-quarantine-pct", "101", "max_quarantine_pct is 101"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_starts(option: str, value: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, 2, "run", option, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ENGINE", "flink", "ENGINE is 'flink'"),
        ("ENGINE_PARTITIONS", "0", "ENGINE_PARTITIONS is '0'"),
        ("POSTGRES_PORT", "port", "POSTGRES_PORT is 'port'"),
        ("TRANSACTIONS_SOURCE", "kafka", "TRANSACTIONS_SOURCE is 'kafka'"),
        ("LAKEHOUSE_ROOT", "gs://bucket/tables", "LAKEHOUSE_ROOT is 'gs://bucket/tables': it must be a folder, or"),
        ("DATA_PATH", "http://host/landing", "DATA_PATH is 'http://host/landing'"),
        ("OUTPUT_PATH", "s3://", "OUTPUT_PATH is 's3://'"),
    ],
)
def test_a_bad_environment_variable_is_named(name: str, value: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, 2, "run", **{name: value})


@pytest.mark.parametrize("name", ["100%", "a#b", "what?", "a[b]", "a|b", "a^b", "back\\slash", "two\nlines"])
def test_a_home_where_no_table_opens_is_refused(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    assert "The folder of the tables is" in refused(home, 2, *RUN)
    assert not home.exists()


def test_without_a_landing_it_says_how_to_name_one(tmp_path: Path) -> None:
    assert "DATA_PATH: it is not set. Set it" in refused(tmp_path, 1, *RUN)
    assert "there is no such folder" in refused(tmp_path, 1, *RUN, DATA_PATH=str(tmp_path / "nowhere"))
    (tmp_path / "landing" / "transactions").mkdir(parents=True)
    assert "there is no *.csv file" in refused(tmp_path, 1, *RUN, DATA_PATH=str(tmp_path / "landing"))


def test_files_that_cannot_be_transactions_are_rejected_and_stop_nothing(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "landing"
    shutil.copytree(sample, folder)
    files = folder / "transactions"
    (files / "a.csv").mkdir()
    (files / "b.csv").write_bytes(b"\x89PNG\0\0\0")
    (files / "c.csv").write_text("2024-01-01;101;7;1 2\n" * 5)
    (files / "d.csv").write_bytes(b"")
    (files / "e.csv").symlink_to(tmp_path / "nowhere")
    done = lakehouse(tmp_path / "home", *RUN, "--source", folder)
    assert done.returncode == 0, done.stderr
    rows = answer(
        tmp_path / "home", "query", "select path, detail from ops.sources where status = 'rejected' order by path"
    )
    assert [(row["path"].split("/")[1], row["detail"].split(" of ")[0]) for row in rows] == [
        ("a.csv", "it is no file"),
        ("b.csv", "it is binary, not text"),
        ("c.csv", "none"),
        ("d.csv", "it is empty"),
        ("e.csv", "it is no file"),
    ]
    assert "c.csv" in done.stdout
    assert "Rejected" in done.stdout


def test_a_postgres_that_is_down_is_named_without_its_password(sample: Path, tmp_path: Path) -> None:
    server = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1", "POSTGRES_USER": "u", "POSTGRES_PASSWORD": "s3cret"}
    said = refused(tmp_path, 1, *RUN, "--source", str(sample), **server)
    assert "127.0.0.1:1" in said
    assert "s3cret" not in said


def test_a_missing_table_says_how_to_make_it(sample: Path, tmp_path: Path) -> None:
    said = refused(tmp_path, 1, *RUN, DATA_PATH=str(sample))
    assert "there is no table categories. Make it with `lakehouse load --source DIR`" in said


def test_reference_files_that_cannot_be_read_change_nothing(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "landing"
    shutil.copytree(sample, folder)
    (folder / "products" / "ProductCategory.csv").write_text("code;category\n1;2\n")
    assert "ProductCategory.csv" in refused(tmp_path / "home", 1, *RUN, "--source", str(folder))


def test_reading_before_the_first_release_says_what_to_do(tmp_path: Path) -> None:
    for command in ("status", "ledger", "quarantine", "tables", "digest", "export"):
        assert "`lakehouse run` makes the first" in refused(tmp_path, 1, command)
    assert "There is no release '7'" in refused(tmp_path, 2, "rollback", "7")


def test_a_query_that_is_wrong_is_one_sentence(sample: Path, tmp_path: Path) -> None:
    done = lakehouse(tmp_path, *RUN, "--source", sample)
    assert done.returncode == 0, done.stderr
    assert "The query failed" in refused(tmp_path, 2, "query", "select nothing from nowhere")
    assert "The query failed" in refused(tmp_path, 2, "query", "select * from read_csv('/etc/passwd')")
    for sql, count in (("", 0), ("select 1; select 2", 2)):
        assert f"It holds {count} statements: ask one at a time" in refused(tmp_path, 2, "query", sql)
    assert "There is no release '9'. There is: 1." in refused(tmp_path, 2, "ledger", "--release", "9")
    assert "There is no release '9'" in refused(tmp_path, 2, "rollback", "9")


@pytest.mark.parametrize("form", ["", " --json"])
@pytest.mark.parametrize(("output", "code"), [("/dev/full", 1), ("&-", 0)])
def test_an_answer_nobody_can_take_is_told_in_a_sentence(output: str, code: int, form: str, tmp_path: Path) -> None:
    start = f'"{sys.executable}" -c "from deployments.entry import main; main()"'
    command = f'{start} sample --into "{tmp_path}/sample"{form}'
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # it hides what waits
    done = subprocess.run(f"{command} >{output}", env=kept, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("No space left on device: what was being written" in done.stderr) == (code == 1)


def test_a_root_that_cannot_be_written_is_named(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = refused(
        tmp_path / "home", 1, *RUN, "--source", str(sample), LAKEHOUSE_ROOT=str(tmp_path / "file" / "tables")
    )
    assert "Could not create" in said
