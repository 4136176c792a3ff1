"""Tables, landing and lease on a real S3 store, with the engine in the process."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest

from lakehouse.errors import BadInput, LeaseTaken, ServiceDown, StorageFailed, UnsafeStore
from lakehouse.exports.manifest import MANIFEST, Manifest, file_of
from lakehouse.exports.objects import current, fetch, is_mirrored, mirror
from lakehouse.exports.publish import sync_folder
from lakehouse.ops import releases
from lakehouse.releases.lease import take
from lakehouse.settings import load_settings
from lakehouse.sources.days import span_of
from lakehouse.sources.landing import Delivery, transaction_files
from lakehouse.sources.sample import write_sample
from lakehouse.storage import durable
from lakehouse.storage.data_files import remove, unneeded_files
from lakehouse.storage.object_client import do_at_once
from lakehouse.storage.objects import list_objects, open_location, put, share
from lakehouse.storage.objects import remove as remove_objects
from lakehouse.storage.probe import probe, reach
from lakehouse.storage.tables import Storage
from lakehouse.table import STRING, Column, Layer, Table
from tests.flows.command import answer, lakehouse
from tests.stack.careless_store import careless_store
from tests.stack.conftest import put_all

RUN = ("run", "--no-prefect", "--no-checks", "--min-support", "0.02")
WRITERS = 8
NAMES = (Column("name", STRING, "A name."),)


def test_a_folder_and_a_store_come_to_the_same_gold_day_by_day(tmp_path: Path, at_store: dict[str, str]) -> None:
    load_settings()
    sample, home = tmp_path / "sample", tmp_path / "home"
    write_sample(sample, receipts=400, days=40, stores=3)
    loaded = lakehouse(home, "load", "--source", sample)
    assert loaded.returncode == 0, loaded.stderr
    last = max((sample / "transactions").iterdir())
    held_back = last.read_bytes()
    last.unlink()
    there = at_store | {"LAKEHOUSE_ROOT": "s3://lakehouse/day-by-day", "DATA_PATH": "s3://landing/day-by-day"}
    there |= {"OUTPUT_PATH": "s3://exports/day-by-day"}
    here = {"DATA_PATH": str(sample)}

    def both() -> None:
        put_all(sample, there["DATA_PATH"])
        for env in (here, there):
            done = lakehouse(home, *RUN, env=env)
            assert done.returncode == 0, done.stderr
        assert answer(home, "digest", env=there) == answer(home, "digest", env=here)
        assert not re.search(f"{at_store['MINIO_SECRET_KEY']}", done.stdout + done.stderr)

    both()
    last.write_bytes(held_back)  # a day more
    both()
    last.write_bytes(held_back.replace(b"\n", b" 7\n", 1))  # the same file again, with a unit more
    both()
    shown = current(there["OUTPUT_PATH"])
    assert shown is not None and shown.release_id == 3
    found = {one.key for one in list_objects(there["OUTPUT_PATH"])}
    with open_location(f"{there['OUTPUT_PATH']}/{shown.prefix}/manifest.json") as file:
        files = Manifest.model_validate_json(file.read()).files
    assert {f"{shown.prefix}/{path}" for path in files} < found
    assert {key.split("/")[1].split("-")[0] for key in found if "/" in key} == {"2", "3"}
    again = lakehouse(home, *RUN, env=there)
    assert "Nothing new since release 3" in again.stdout
    earlier = lakehouse(home, "export", "--release", "1", env=there)
    assert f"files of release 1 are in {there['OUTPUT_PATH']}." in earlier.stdout, earlier.stderr
    shown = current(there["OUTPUT_PATH"])
    assert shown is not None and shown.release_id == 1


def test_one_of_many_writers_on_top_of_a_version_wins(at_store: dict[str, str]) -> None:
    load_settings()
    storage = Storage("s3://lakehouse/raced")
    version = storage.create(releases.TABLE, "first")
    together = Barrier(WRITERS)

    def write(number: int) -> bool:
        together.wait()
        try:
            storage.append(releases.TABLE, [], f"run {number}", after=version)
        except StorageFailed:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as writers:
        won = list(writers.map(write, range(WRITERS)))
    assert won.count(True) == 1
    assert storage.writers(releases.TABLE, version, version + 1) == {version + 1: f"run {won.index(True)}"}


def test_a_lease_that_is_held_keeps_others_out(at_store: dict[str, str]) -> None:
    load_settings()
    storage = Storage("s3://lakehouse/leased")
    with take(storage, "one", "test", 60, 0, print), pytest.raises(LeaseTaken, match="test one"):
        take(storage, "two", "test", 60, 0, print)
    take(storage, "three", "test", 60, 0, print).give_back()


def test_files_that_nobody_needs_are_found_and_removed(at_store: dict[str, str]) -> None:
    load_settings()
    storage = Storage("s3://lakehouse/vacuumed")
    made = Table(layer=Layer.GOLD, group="g", name="names", doc="One row per name.", columns=NAMES, keys=("name",))
    storage.create(made, "r1")
    for word in ("old", "new"):
        rows = pa.table({"name": [word]}, made.arrow_schema)
        version = storage.write(made, rows.to_reader(), "r1")
    later = datetime.now(UTC) + timedelta(hours=1)
    found = unneeded_files(storage, made, [version], later)
    assert len(found) == 1
    remove(storage, made, found)
    assert unneeded_files(storage, made, [version], later) == {}
    assert storage.rows(made, version).to_pylist() == [{"name": "new"}]
    assert not [one for one in list_objects(storage.uri(made)) if one.bytes == 0]


def test_an_object_is_read_from_a_byte_on(at_store: dict[str, str]) -> None:
    load_settings()
    content = bytes(range(256)) * 20_000
    put("s3://landing/bytes/some.bin", content)
    with (
        open_location("s3://landing/bytes/some.bin") as whole,
        open_location("s3://landing/bytes/some.bin", 3_000_000) as rest,
    ):
        assert rest.tell() == 3_000_000
        assert rest.read(7) + rest.read() == content[3_000_000:]
        assert whole.read() == content
    with pytest.raises(FileNotFoundError):
        open_location("s3://landing/bytes/none.bin")


def test_another_put_while_an_object_is_read_does_not_show(at_store: dict[str, str]) -> None:
    load_settings()
    content = bytes(range(256)) * 4_000
    put("s3://landing/replaced/some.bin", content)
    with open_location("s3://landing/replaced/some.bin") as file:
        start = file.read(1_000)
        put("s3://landing/replaced/some.bin", b"another")
        assert start + file.read() == content


def test_of_an_object_that_a_store_gives_up_for_another_nothing_is_mixed(at_store: dict[str, str]) -> None:
    """MinIO breaks off what it still sends of an object that was put again; other stores send it to the end."""
    load_settings()
    content = bytes(range(256)) * 100_000
    put("s3://landing/replaced/large.bin", content)
    with open_location("s3://landing/replaced/large.bin") as file:
        start = file.read(1_000)
        put("s3://landing/replaced/large.bin", content[::-1])
        try:
            found: bytes | str = start + file.read()
        except OSError as error:
            found = error.strerror
    assert found in (content, "another object was put there meanwhile")


def test_what_is_shared_stays_as_it_is(tmp_path: Path, at_store: dict[str, str]) -> None:
    load_settings()
    for content in (b"first", b"second"):
        (tmp_path / "file").write_bytes(content)
        share(tmp_path / "file", "s3://lakehouse/shared/file")
    with open_location("s3://lakehouse/shared/file") as file:
        assert file.read() == b"first"


def test_more_objects_than_a_store_lists_at_once_are_listed_and_removed(at_store: dict[str, str]) -> None:
    load_settings()
    keys = [f"{number:04} & more" for number in range(1_003)]
    do_at_once(lambda key: put(f"s3://lakehouse/many/{key}", key.encode()), keys)
    assert list_objects("s3://lakehouse/many") == [(key, len(key)) for key in keys]
    remove_objects("s3://lakehouse/many", [*keys, "never there"])
    assert list_objects("s3://lakehouse/many") == []


@pytest.mark.parametrize(
    ("wrong", "address", "said"),
    [
        (
            {"minio_secret_key": "not-the-secret"},
            "s3://landing/one",
            r"it refuses the user .*\(SignatureDoesNotMatch\)",
        ),
        ({"minio_access_key": "nobody"}, "s3://landing/one", r"it refuses the user .*\(InvalidAccessKeyId\)"),
        ({}, "s3://nowhere/one", r"there is no such bucket|it refuses the user or the secret \(AccessDenied\)"),
    ],
    ids=["secret", "user", "bucket"],
)
def test_an_object_out_of_reach_is_told_in_a_few_words(
    tmp_path: Path, at_store: dict[str, str], wrong: dict[str, str], address: str, said: str
) -> None:
    load_settings(**wrong)
    (tmp_path / "file").touch()
    for attempt in (
        lambda: open_location(address),
        lambda: list_objects(address),
        lambda: put(address, b"content"),
        lambda: share(tmp_path / "file", address),
        lambda: remove_objects(address, ["key"]),
    ):
        with pytest.raises(OSError, match=said) as told:
            attempt()
        assert not isinstance(told.value, FileNotFoundError)


def exports_of(folder: Path, number: int) -> Path:
    """Make a folder of exports of a release, with a document that says its number."""
    folder.mkdir()
    content = f'{{"release": {number}}}'.encode()
    (folder / "totals.json").write_bytes(content)
    made = datetime(2024, 1, number, tzinfo=UTC)
    told = {"totals.json": file_of(content)}
    manifest = Manifest(release_id=number, created_at=made, verified=True, groups={}, files=told)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


def test_exports_cut_off_before_the_pointer_leave_the_earlier_ones(tmp_path: Path, at_store: dict[str, str]) -> None:
    load_settings()
    address = "s3://exports/cut-off"
    first, second = (exports_of(tmp_path / str(number), number) for number in (1, 2))
    mirror(first, address)

    def cut(step: str, moment: str) -> None:
        if (step, moment) == ("point to the exports", "before"):
            raise KeyboardInterrupt

    durable.watch(cut)
    try:
        with pytest.raises(KeyboardInterrupt):
            mirror(second, address)
    finally:
        durable.watch(durable.nobody)
    for folder, number in ((None, 1), (second, 2)):
        if folder:
            mirror(folder, address)
        found = current(address)
        assert found is not None and found.release_id == number
        with open_location(f"{address}/{found.prefix}/totals.json") as file:
            assert file.read() == f'{{"release": {number}}}'.encode()


def test_exports_that_are_objects_reach_a_front_end(tmp_path: Path, at_store: dict[str, str]) -> None:
    load_settings()
    address = "s3://exports/fetched"
    with pytest.raises(BadInput, match="it has no exports"), fetch(address):
        pass
    for number in (1, 2):
        mirror(exports_of(tmp_path / str(number), number), address)
        with fetch(address) as folder:
            sync_folder(folder, tmp_path / "front")
        assert (tmp_path / "front" / "totals.json").read_text() == f'{{"release": {number}}}'
    assert not folder.exists()


@pytest.mark.parametrize("damage", [b"{}", b'{"release": 9}'], ids=["another size", "the same size"])
def test_exports_that_were_damaged_are_written_again(tmp_path: Path, at_store: dict[str, str], damage: bytes) -> None:
    load_settings()
    address = "s3://exports/damaged"
    folder = exports_of(tmp_path / "1", 1)
    mirror(folder, address)
    assert is_mirrored(folder, address)
    found = current(address)
    assert found is not None
    put(f"{address}/{found.prefix}/totals.json", damage)
    assert is_mirrored(folder, address) == (len(damage) == len(b'{"release": 1}'))
    mirror(folder, address)
    with open_location(f"{address}/{found.prefix}/totals.json") as file:
        assert file.read() == b'{"release": 1}'


def test_the_days_of_an_object_are_read(at_store: dict[str, str]) -> None:
    load_settings()
    location = "s3://landing/days/a.csv"
    content = b"2024-01-03|1|2|3\n2024-02-30|1|2|3\n2024-01-01|1|2|3\n"
    put(location, content)
    found = span_of(Delivery("transactions", "transactions/a.csv", location, "00" * 32, len(content)))
    assert found == (date(2024, 1, 1), date(2024, 1, 3))


def test_a_landing_lists_the_files_of_its_own_folder(at_store: dict[str, str]) -> None:
    load_settings()
    for key in ("transactions/a.csv", "transactions/deeper/b.csv", "transactions/c.txt"):
        put(f"s3://landing/listed/{key}", b"2024-01-01|1|2|3\n")
    put("s3://landing/listed/transactions/empty.csv", b"")
    found = transaction_files("s3://landing/listed/")
    assert [(one.path, one.problem) for one in found] == [
        ("transactions/a.csv", None),
        ("transactions/empty.csv", "it is empty"),
    ]


def test_a_real_store_can_be_trusted_and_nothing_is_left_of_the_probe(at_store: dict[str, str]) -> None:
    load_settings()
    probe("s3://lakehouse/probed")
    assert list_objects("s3://lakehouse/probed") == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("overwrites", "it wrote over an object that was to be created"),
        ("every racer wins", "of 8 writers creating one object 8 won"),
        ("lists nothing", "of 2 objects written it lists 0"),
    ],
)
def test_a_careless_store_is_refused_by_name(at_store: dict[str, str], how: str, said: str) -> None:
    with careless_store(how) as address:
        load_settings(minio_endpoint=address)
        with pytest.raises(UnsafeStore, match=said):
            Storage("s3://lakehouse/tables").trust()


def test_a_store_that_keeps_to_the_protocol_is_not_refused(at_store: dict[str, str]) -> None:
    with careless_store("sound") as address:
        load_settings(minio_endpoint=address)
        Storage("s3://lakehouse/tables").trust()


def test_a_careless_store_ends_a_run_before_it_writes(tmp_path: Path, store: dict[str, str]) -> None:
    with careless_store("overwrites") as address:
        write_sample(tmp_path / "sample", receipts=400, days=5, stores=1)
        env = store | {"MINIO_ENDPOINT": address, "LAKEHOUSE_ROOT": "s3://lakehouse/tables"}
        done = lakehouse(tmp_path / "home", *RUN, "--source", tmp_path / "sample", env=env)
    assert done.returncode == 1
    assert "Nothing is written to s3://lakehouse/tables: it wrote over an object" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"MINIO_SECRET_KEY": "not-the-secret"}, "it refuses the user or the secret"),
        ({"MINIO_ACCESS_KEY": "nobody"}, "it refuses the user or the secret"),
        ({"LAKEHOUSE_ROOT": "s3://nowhere/tables"}, "there is no such bucket|it refuses the user or the secret"),
        ({"MINIO_ENDPOINT": "http://127.0.0.1:1"}, "nothing answers there"),
    ],
    ids=["secret", "user", "bucket", "endpoint"],
)
def test_a_wrong_setting_is_one_sentence(
    tmp_path: Path, store: dict[str, str], wrong: dict[str, str], said: str
) -> None:
    env = store | {"LAKEHOUSE_ROOT": "s3://lakehouse/tables"} | wrong
    done = lakehouse(tmp_path, "status", env=env)
    assert done.returncode == 1
    assert re.fullmatch(rf"The object store at \S+ failed: ({said}).*\n", done.stderr)
    assert env["MINIO_SECRET_KEY"] not in done.stderr


@pytest.mark.timed
@pytest.mark.timeout(150)  # seconds, where a client by itself tries again for three minutes
def test_nothing_that_answers_is_told_in_seconds(at_store: dict[str, str]) -> None:
    load_settings(minio_endpoint="http://127.0.0.1:1")
    with pytest.raises(ServiceDown, match="nothing answers there"):
        reach("s3://lakehouse/nowhere")
