"""Tables in storage: contracts on write, versions, readers of three kinds, and a storage that refuses."""

import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.engine.session import Engine
from lakehouse.errors import BrokenContract, StorageFailed
from lakehouse.frames.schemas import spark_schema
from lakehouse.storage.tables import Storage, checked_rows, storage_errors
from lakehouse.table import BIGINT, INT, INTS, STRING, Append, Column, Layer, ReplaceMonths, ReplaceSources, Table
from tests.file_systems import mounted

COLUMNS = (
    Column("source_id", BIGINT, "The file."),
    Column("month", STRING, "The month."),
    Column("units", INT, "Units."),
    Column("items", INTS, "Items.", nullable=True),
)
MONTHS = Table(
    layer=Layer.SILVER,
    name="months",
    doc="One row per source and month.",
    columns=COLUMNS,
    keys=("source_id", "month"),
    write=ReplaceMonths(),
    partition="month",
    grows_with="receipts",
)
SOURCES = Table(
    layer=Layer.SILVER,
    name="of_sources",
    doc="One row per source and month.",
    columns=COLUMNS,
    keys=("source_id", "month"),
    write=ReplaceSources(),
    partition="month",
    grows_with="receipts",
)
LOG = Table(layer=Layer.OPS, name="log", doc="One row per entry.", columns=COLUMNS[:1], keys=(), write=Append())
Row = tuple[int, str, int]
Write = Callable[..., int]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "tables"))


@pytest.fixture
def write(engine: Engine, storage: Storage) -> Write:
    """Write rows the way the engine's growing tables are written: by Spark itself, or by delta-rs from Sail."""

    def write(table: Table, rows: list[Row], touched: str | None = None, types: str = "bigint, string, int") -> int:
        storage.create(table, "r1")
        names = ("source_id", "month", "units")
        schema = ", ".join(f"{name} {kind}" for name, kind in zip(names, types.split(", "), strict=True))
        frame = engine.session.createDataFrame(rows, schema).selectExpr(*names, "array(1, 2) as items")
        if engine.commits:
            return storage.write_frame(table, frame, "r2", touched)
        return storage.write(table, engine.rows(frame, pa.schema(frame.toArrow().schema)), "r2", touched)

    return write


def put(storage: Storage, table: Table, *rows: Row) -> int:
    """Write rows without an engine, which takes milliseconds."""
    storage.create(table, "r1")
    made = [{"source_id": source_id, "month": month, "units": units} for source_id, month, units in rows]
    return storage.write(table, pa.Table.from_pylist(made, table.arrow_schema).to_reader(), "r1")


def read(storage: Storage, table: Table, version: int) -> list[Row]:
    rows = storage.rows(table, version).to_pylist()
    return sorted((row["source_id"], row["month"], row["units"]) for row in rows)


def test_who_makes_a_table_at_the_same_time_finds_the_other_s(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage.create(LOG, "the faster one") == 0
    storage.append(LOG, [{"source_id": 1}], "the faster one")
    version = Storage.version
    answers = iter([None])
    monkeypatch.setattr(Storage, "version", lambda self, table: next(answers, version(self, table)))
    assert storage.create(LOG, "the slower one") == 1


def test_version_zero_is_an_empty_table_of_the_declared_columns(storage: Storage) -> None:
    assert storage.version(MONTHS) is None
    assert storage.create(MONTHS, "r1") == 0
    assert storage.create(MONTHS, "r2") == 0
    assert storage.rows(MONTHS, 0).schema.equals(MONTHS.arrow_schema)
    assert storage.count(MONTHS, 0) == 0


def test_a_write_replaces_everything(write: Write, storage: Storage) -> None:
    put(storage, MONTHS, (1, "2024-01", 5), (2, "2024-02", 6))
    assert write(MONTHS, [(3, "2024-03", 7)]) == 2
    assert read(storage, MONTHS, 2) == [(3, "2024-03", 7)]
    assert read(storage, MONTHS, 1) == [(1, "2024-01", 5), (2, "2024-02", 6)]


def test_a_write_replaces_the_touched_months(write: Write, storage: Storage) -> None:
    put(storage, MONTHS, (1, "2024-01", 5), (2, "2024-02", 6))
    assert write(MONTHS, [(3, "2024-02", 7)], "month in ('2024-02', '2024-03')") == 2
    assert read(storage, MONTHS, 2) == [(1, "2024-01", 5), (3, "2024-02", 7)]


def test_a_write_replaces_the_touched_sources_in_every_month(write: Write, storage: Storage) -> None:
    put(storage, SOURCES, (-1, "2024-01", 5), (2, "2024-01", 6), (2, "2024-02", 6))
    assert write(SOURCES, [(2, "2024-03", 7)], "source_id in (2)") == 2
    assert read(storage, SOURCES, 2) == [(-1, "2024-01", 5), (2, "2024-03", 7)]


@pytest.mark.parametrize(("touched", "left"), [("month in ('2024-02')", [(1, "2024-01", 5)]), (None, [])])
def test_a_write_of_no_rows_empties_what_is_touched(
    write: Write, storage: Storage, touched: str | None, left: list[Row]
) -> None:
    put(storage, MONTHS, (1, "2024-01", 5), (2, "2024-02", 6))
    assert read(storage, MONTHS, write(MONTHS, [], touched)) == left


def test_a_null_where_none_may_be_is_refused_and_nothing_is_written(write: Write, storage: Storage) -> None:
    put(storage, MONTHS, (1, "2024-01", 5))
    with pytest.raises(BrokenContract, match=r"silver\.months: the build gave .*nulls in units, .* declares none"):
        write(MONTHS, [(2, "2024-01", None)])
    assert storage.version(MONTHS) == 1


def test_a_null_is_kept_where_it_may_be(storage: Storage) -> None:
    storage.create(MONTHS, "r1")
    rows = pa.Table.from_pylist([{"source_id": 1, "month": "2024-01", "units": 1, "items": None}], MONTHS.arrow_schema)
    assert storage.rows(MONTHS, storage.write(MONTHS, rows.to_reader(), "r2"))["items"].null_count == 1


def test_other_columns_are_refused(engine: Engine, storage: Storage) -> None:
    storage.create(MONTHS, "r1")
    frame = engine.session.range(3)
    with pytest.raises(BrokenContract, match=r"the build gave columns \['id'\], the table declares columns"):
        if engine.commits:
            storage.write_frame(MONTHS, frame, "r2")
        else:
            storage.write(MONTHS, frame.toArrow().to_reader(), "r2")
    assert storage.version(MONTHS) == 0


def test_columns_are_put_in_their_declared_order_and_type() -> None:
    rows = pa.table({"items": [[1]], "units": [3], "month": ["2024-01"], "source_id": [1]})
    assert checked_rows(rows.to_reader(), MONTHS).read_all().schema.equals(MONTHS.arrow_schema)


def test_a_column_added_to_a_table_comes_with_the_next_whole_write(write: Write, storage: Storage) -> None:
    storage.create(replace(MONTHS, columns=COLUMNS[:2]), "r0")
    version = write(MONTHS, [(1, "2024-01", 5)])
    assert storage.dataset(MONTHS, version).schema.equals(MONTHS.arrow_schema)


def test_a_restored_version_is_written_on(write: Write, storage: Storage) -> None:
    put(storage, MONTHS, (1, "2024-01", 5))
    put(storage, MONTHS, (2, "2024-01", 6))
    assert storage.restore(MONTHS, 1, "r3") == 3
    assert storage.restore(MONTHS, 3, "r3") == 3
    assert read(storage, MONTHS, 3) == [(1, "2024-01", 5)]
    assert write(MONTHS, [(3, "2024-02", 7)], "month in ('2024-02')") == 4
    assert read(storage, MONTHS, 4) == [(1, "2024-01", 5), (3, "2024-02", 7)]
    assert storage.restore(MONTHS, 2, "r4") == 5
    assert read(storage, MONTHS, 5) == [(2, "2024-01", 6)]


def test_a_version_is_opened_once_and_holds_what_is_on_the_disk(write: Write, storage: Storage) -> None:
    for rows, touched in (
        ([(1, "2024-01", 5), (2, "2024-02", 6)], None),
        ([(3, "2024-02", 7)], "month in ('2024-02')"),
    ):
        version = write(MONTHS, rows, touched)
        opened, anew = storage.dataset(MONTHS, version), Storage(storage.root).dataset(MONTHS, version)
        assert storage.dataset(MONTHS, version) is opened
        assert (sorted(opened.files), opened.schema) == (sorted(anew.files), anew.schema)
        assert opened.to_table().sort_by("source_id") == anew.to_table().sort_by("source_id")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pc.field("source_id") == 3, [(3, "2024-02", 7)]),
        (pc.field("source_id").isin([1, 3]), [(1, "2024-01", 5), (3, "2024-02", 7)]),
        (pc.field("month") == "2024-02", [(2, "2024-02", 6), (3, "2024-02", 7)]),
        (pc.field("source_id") == 9, []),
        (pc.field("source_id") == 6, []),  # between the smallest and the largest of a file
    ],
)
def test_only_files_with_such_rows_are_opened(
    wanted: pc.Expression, expected: list[Row], write: Write, storage: Storage
) -> None:
    write(SOURCES, [(1, "2024-01", 5), (2, "2024-02", 6), (4, "2024-03", 8), (8, "2024-03", 9)])
    opened = storage.holding(SOURCES, write(SOURCES, [(3, "2024-02", 7)], "source_id in (3)"), wanted)
    found = opened.to_table(filter=wanted).to_pylist()
    assert sorted((row["source_id"], row["month"], row["units"]) for row in found) == expected
    assert len(opened.files) == len(expected)  # each row is in a file of its own


@pytest.mark.parametrize("filters", [None, pc.field("source_id") == 1])
def test_a_damaged_file_is_told_in_a_sentence(filters: pc.Expression | None, storage: Storage) -> None:
    version = put(storage, MONTHS, (1, "2024-01", 5))
    (file,) = Path(storage.uri(MONTHS)).rglob("*.parquet")
    file.write_bytes(b"damaged" + file.read_bytes()[7:-8] + b"damaged!")
    with pytest.raises(StorageFailed, match="Could not read"):
        storage.rows(MONTHS, version, filters=filters)


def test_a_table_without_its_log_is_told_in_a_sentence(storage: Storage) -> None:
    version = put(storage, MONTHS, (1, "2024-01", 5))
    shutil.rmtree(Path(storage.uri(MONTHS), "_delta_log"))
    later = Storage(storage.root)
    assert later.version(MONTHS) is None
    with pytest.raises(StorageFailed, match="Could not read .*/months: .*Check that it is there"):
        later.rows(MONTHS, version)
    with pytest.raises(StorageFailed, match="Could not restore .*/months: .*`lakehouse rebuild --keep FOLDER`"):
        later.restore(MONTHS, version, "r2")


@pytest.mark.parametrize(
    ("commit", "said"),
    [(b"", "is cut short"), (b'{"commitInfo":{"run_id":"r1', "is cut short"), (None, "No such file")],
)
def test_a_commit_that_cannot_be_read_is_told(commit: bytes | None, said: str, storage: Storage) -> None:
    version = put(storage, MONTHS, (1, "2024-01", 5))
    assert storage.writers(MONTHS, 0, version) == {version: "r1"}
    file = Path(storage.uri(MONTHS), "_delta_log", f"{version:020d}.json")
    file.unlink()
    if commit is not None:
        file.write_bytes(commit)
    with pytest.raises(StorageFailed, match=said):
        storage.writers(MONTHS, 0, version)


def test_a_commit_that_says_nothing_of_itself_is_nobody_s(storage: Storage) -> None:
    version = put(storage, MONTHS, (1, "2024-01", 5))
    file = Path(storage.uri(MONTHS), "_delta_log", f"{version:020d}.json")
    file.write_bytes(b"".join(line for line in file.read_bytes().splitlines(True) if b"commitInfo" not in line))
    assert storage.writers(MONTHS, 0, version) == {version: ""}


def test_the_log_says_whether_a_version_is_the_newest(write: Write, storage: Storage) -> None:
    other = replace(MONTHS, name="other")
    assert not storage.is_newest(other, 0)
    storage.create(other, "r1")
    assert storage.is_newest(other, 0)
    version = write(MONTHS, [(1, "2024-01", 5)])
    assert [storage.is_newest(MONTHS, v) for v in (version - 1, version, version + 1)] == [False, True, False]


def test_every_reader_sees_the_same_version(write: Write, storage: Storage, spark: Engine) -> None:
    version = write(MONTHS, [(1, "2024-01", 5), (2, "2024-02", 6)])
    put(storage, MONTHS, (9, "2024-09", 9))
    expected = [(1, "2024-01", 5), (2, "2024-02", 6)]
    months = storage.dataset(MONTHS, version)
    with duckdb.connect() as connection:
        connection.register("months", months)
        asked = "SELECT source_id, month, units FROM months ORDER BY 1"
        assert connection.execute(asked).fetchall() == expected
    assert read(storage, MONTHS, version) == expected
    frame = spark.session.read.format("delta").option("versionAsOf", version).load(storage.uri(MONTHS))
    assert sorted(map(tuple, frame.select("source_id", "month", "units").collect())) == expected


def test_a_commit_names_its_run_and_asks_readers_for_nothing_special(write: Write, storage: Storage) -> None:
    delta = DeltaTable(storage.uri(MONTHS), write(MONTHS, [(1, "2024-01", 5)]))
    assert "r2" in str(delta.history()[0])
    assert delta.protocol().min_reader_version == 1
    assert not delta.protocol().reader_features


def test_of_two_that_append_on_one_version_one_wins(storage: Storage) -> None:
    version = storage.create(LOG, "r1")
    outcomes: list[Any] = []
    ready = threading.Barrier(2)

    def append(source_id: int) -> None:
        ready.wait()
        try:
            outcomes.append(storage.append(LOG, [{"source_id": source_id}], "r2", after=version))
        except StorageFailed as error:
            outcomes.append(error)

    threads = [threading.Thread(target=append, args=(k,)) for k in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [found for found in outcomes if isinstance(found, StorageFailed)]
    assert len(failed) == 1 and str(failed[0]).startswith(f"Could not append to {storage.uri(LOG)}: ")
    assert storage.count(LOG, 1) == 1 and storage.version(LOG) == 1


def test_a_failing_build_keeps_its_own_error(engine: Engine, storage: Storage) -> None:
    def broken(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ValueError("no such basket")
        yield

    storage.create(MONTHS, "r1")
    frame = engine.session.range(3).mapInArrow(broken, spark_schema(MONTHS.arrow_schema))
    with pytest.raises(Exception, match="no such basket") as raised:
        if engine.commits:
            storage.write_frame(MONTHS, frame, "r2")
        else:
            storage.write(MONTHS, engine.rows(frame, MONTHS.arrow_schema), "r2")
    assert not isinstance(raised.value, BrokenContract)
    assert storage.version(MONTHS) == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    with mounted(tmp_path / "small", "1m") as folder:
        yield folder


def test_a_full_storage_says_so_and_keeps_what_was_there(small: Path) -> None:
    storage = Storage(str(small / "tables"))
    storage.create(MONTHS, "r1")
    kept = storage.write(MONTHS, _many(10), "r2")
    (small / "filler").write_bytes(bytes(900_000))
    with pytest.raises(StorageFailed, match=r"^Could not write .*silver/months: .*(?i:no space|full).* has room\.$"):
        storage.write(MONTHS, _many(200_000), "r3")
    assert storage.count(MONTHS, kept) == 10
    assert storage.version(MONTHS) == kept
    (small / "filler").unlink()
    assert storage.count(MONTHS, storage.write(MONTHS, _many(20), "r4")) == 20


def test_a_full_storage_is_told_of_spark_too(small: Path, spark: Engine) -> None:
    storage = Storage(str(small / "tables"))
    storage.create(MONTHS, "r1")
    (small / "filler").write_bytes(bytes(900_000))
    frame = spark.session.range(200_000).selectExpr(
        "id as source_id", "'2024-01' as month", "cast(hash(id) as int) as units", "array(cast(id as int)) as items"
    )
    with pytest.raises(StorageFailed, match=r"^Could not write .*silver/months: .*No space left"):
        storage.write_frame(MONTHS, frame, "r2")
    assert storage.version(MONTHS) == 0


def test_a_storage_that_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(StorageFailed, match=r"^Could not create .*/tables/silver/months: .*\. Check that it exists"):
        Storage(str(tmp_path / "tables")).create(MONTHS, "r1")


def test_a_storage_that_may_not_be_written_says_so_and_is_read_on(small: Path) -> None:
    storage = Storage(str(small / "tables"))
    kept = put(storage, MONTHS, (1, "2024-01", 5))
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    with pytest.raises(StorageFailed, match=r"^Could not write .*/silver/months: .*(?i:read-only).* may be written"):
        put(storage, MONTHS, (2, "2024-01", 5))
    assert read(storage, MONTHS, kept) == [(1, "2024-01", 5)]


def _many(count: int) -> pa.RecordBatchReader:
    """Make rows that do not compress."""
    noise = pa.py_buffer(random.Random(count).randbytes(8 * count))
    numbers = pa.Array.from_buffers(pa.int64(), count, [None, noise])
    columns = [numbers, pa.array(["2024-01"] * count), pa.array(range(count), pa.int32()), pa.nulls(count, INTS.arrow)]
    return pa.table(columns, MONTHS.arrow_schema.names).to_reader()


def test_tables_that_may_not_be_seen_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str) -> None:
        assert path == f"{tmp_path}/silver/months"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lakehouse.storage.tables.os.listdir", refused)
    with pytest.raises(StorageFailed, match="Permission denied"):
        Storage(str(tmp_path)).version(MONTHS)


def test_colours_in_what_the_storage_says_are_not_passed_on() -> None:
    with (
        pytest.raises(StorageFailed, match=r"Could not open here: Generic error ↳ no room\. Check"),
        storage_errors("open", "here"),
    ):
        raise DeltaError("Generic error \x1b[31m↳\x1b[0m no room")
