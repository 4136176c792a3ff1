"""`lakehouse.open` on a real S3 store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import lakehouse
from lakehouse.engine.session import running_engine
from lakehouse.errors import NotFound, NothingPublished, NotKept, ServiceDown
from lakehouse.releases import retention
from lakehouse.releases.pins import Change
from lakehouse.releases.retention import Rule
from lakehouse.settings import load_settings
from lakehouse.sources.sample import write_sample
from lakehouse.storage.objects import list_objects
from lakehouse.storage.tables import Storage
from tests.flows import command

RUN = ("run", "--no-prefect", "--no-checks", "--min-support", "0.02", "--source")


@pytest.mark.timeout(600)
def test_releases_on_a_store_are_opened_side_by_side(tmp_path: Path, at_store: dict[str, str]) -> None:
    home, sample, root = tmp_path / "home", tmp_path / "sample", "s3://lakehouse/opened"
    write_sample(sample, receipts=400, days=40, stores=3)
    for _ in range(2):
        done = command.lakehouse(home, *RUN, sample, env=at_store | {"LAKEHOUSE_ROOT": root})
        assert done.returncode == 0, done.stderr
        (sample / "transactions" / "900_Tran.csv").write_text("2024-02-03|900|7|1 2 3\n")
    with lakehouse.open(root, 1) as before, lakehouse.open(f"{root}/") as after:
        assert [one.release.release_id for one in (before, after)] == [1, 2]
        for opened, receipts in ((before, 400), (after, 401)):
            assert opened.pandas("gold.sales_totals")["receipts"].tolist() == [receipts]
            assert opened.dataset("silver.receipts").count_rows() == receipts
            database = opened.duckdb()
            for table in opened.tables():
                assert database.sql(f"select count(*) from {table.name}").fetchall() == [(table.rows,)], table.name
        with running_engine(load_settings(lakehouse_home=home)) as engine:
            assert before.spark(engine.session, "silver.receipts").count() == 400
            assert after.spark(engine.session, "silver.receipts").count() == 401
        with pytest.raises(NotFound, match=r"There is no release '3'\. There is: 1, 2\."):
            lakehouse.open(root, 3)
        later = Change("a run", "somebody", datetime.now(UTC) + timedelta(days=2))
        retention.vacuum(Storage(root), Rule(daily=1, monthly=0), later)
        for ask in (lambda: before.arrow("gold.sales_totals"), before.duckdb, lambda: lakehouse.open(root, 1)):
            with pytest.raises(NotKept, match=r"Release 1 was not kept .* Choose one of: 2\."):
                ask()
        assert after.arrow("gold.sales_totals")["receipts"].to_pylist() == [401]


def test_a_place_in_a_store_without_a_release_is_one_sentence_and_stays_empty(at_store: dict[str, str]) -> None:
    with pytest.raises(NothingPublished, match=r"There is no release in s3://lakehouse/never yet\. `lakehouse run`"):
        lakehouse.open("s3://lakehouse/never/")
    assert list_objects("s3://lakehouse/never") == []
    with pytest.raises(ServiceDown, match=r"^The object store at \S+ failed: .*s3://never/tables"):
        lakehouse.open("s3://never/tables")


@pytest.mark.parametrize(
    "wrong",
    [
        {"MINIO_SECRET_KEY": "not-the-secret"},
        {"MINIO_ACCESS_KEY": "", "MINIO_SECRET_KEY": ""},
        {"MINIO_ENDPOINT": "http://127.0.0.1:1"},
    ],
    ids=["wrong", "none", "nothing answers"],
)
def test_a_store_that_lets_nobody_in_is_one_sentence_to_a_reader(
    at_store: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: dict[str, str]
) -> None:
    """Nor do the files or the network of this machine say who asks."""
    elsewhere = {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}
    files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    for name, value in (wrong | elsewhere | files).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ServiceDown, match=r"^The object store at http://127\.0\.0\.1:\d+ failed: ") as told:
        lakehouse.open(f"s3://lakehouse/opened-by-{wrong.get('MINIO_SECRET_KEY', 'nobody')}")
    assert at_store["MINIO_SECRET_KEY"] not in str(told.value)
