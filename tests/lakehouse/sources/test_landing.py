"""What waits in the landing: each file read once, looked at again while it is young, known by what it begins with."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import BadInput
from lakehouse.ops import sources
from lakehouse.sources import landing
from lakehouse.sources.admission import admit
from lakehouse.sources.landing import WRITTEN, Delivery, Growth, Head, delivery, settled_deliveries, transaction_files

GOOD = b"2013-02-01|103|1008848|34 2\n"
NOW = datetime(2024, 5, 1, tzinfo=UTC)
NONE = sources.TABLE.arrow_schema.empty_table()


def test_a_file_is_known_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    found = delivery("transactions", "transactions/a.csv", tmp_path / "a.csv")
    digest = hashlib.sha256(GOOD)
    assert (found.sha256, found.bytes, found.problem, found.is_changing) == (digest.hexdigest(), len(GOOD), None, False)
    assert found.source_id == int.from_bytes(digest.digest()[:8], "big", signed=True)
    assert found.location == str(tmp_path / "a.csv")


def test_a_file_of_many_blocks_is_hashed_whole(tmp_path: Path) -> None:
    content = GOOD * 100_000
    (tmp_path / "a.csv").write_bytes(content)
    found = delivery("transactions", "a", tmp_path / "a.csv")
    assert (found.sha256, found.bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    ("entity", "content"),
    [
        ("transactions", GOOD),
        ("transactions", b"\xef\xbb\xbf" + GOOD),
        ("transactions", GOOD.replace(b"\n", b"\r\n")),
        ("transactions", GOOD.rstrip()),
        ("transactions", b"rubbish\n\n\xff\xfe\n" + GOOD),
        ("transactions", b"a;b;c\n" * 999 + GOOD),
        ("transactions", GOOD + b"2024-01-01|101|7|1\x002\n"),
        ("transactions", GOOD + b"\0" * 512),
        ("categories", b"1|FRUIT, FRESH"),
        ("product_categories", b"v.Code_pr|v.code\n"),
    ],
)
def test_a_file_with_some_lines_of_its_entity_is_taken(tmp_path: Path, entity: str, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert delivery(entity, "a", tmp_path / "a.csv").problem is None


SHAPELESS = "none of its first {} lines has the fields of {} separated by |"


@pytest.mark.parametrize(
    ("entity", "content", "problem"),
    [
        ("transactions", b"", "it is empty"),
        ("transactions", b"\xef\xbb\xbf", "it is empty"),
        ("transactions", b"\xef\xbb\xbf\r\n\n\n", "it is empty"),
        ("transactions", b"PK\3\4\0\0", "it is binary, not text"),
        ("transactions", b"\0" * 512, "it is binary, not text"),
        ("transactions", GOOD.decode().encode("utf-16"), "it is binary, not text"),
        ("transactions", GOOD.decode().encode("utf-32-le"), "it is binary, not text"),
        ("transactions", GOOD.replace(b"|", b";"), SHAPELESS.format(2, "transactions")),
        ("transactions", GOOD.replace(b"|", b",") * 5_000, SHAPELESS.format(1000, "transactions")),
        ("transactions", b"1|FRUIT\n", SHAPELESS.format(2, "transactions")),
        ("transactions", b"a;b;c\n" * 1000 + GOOD, SHAPELESS.format(1000, "transactions")),
        ("categories", b"1,FRUIT\n", SHAPELESS.format(2, "categories")),
        ("product_categories", b"v.Code_pr,v.code\n7,5\n", SHAPELESS.format(3, "product_categories")),
    ],
)
def test_a_file_that_cannot_be_its_entity_is_rejected_whole(
    tmp_path: Path, entity: str, content: bytes, problem: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    found = delivery(entity, "a", tmp_path / "a.csv")
    assert (found.problem, found.sha256) == (problem, hashlib.sha256(content).hexdigest())


def test_what_is_no_file_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "transactions"
    (folder / "folder.csv").mkdir(parents=True)
    (folder / "dangling.csv").symlink_to(tmp_path / "nowhere")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    os.mkfifo(folder / "pipe.csv")
    (folder / "good.csv").write_bytes(GOOD)
    found = {d.path: d for d in transaction_files(tmp_path)}
    assert found.pop("transactions/good.csv").problem is None
    assert {path: d.problem for path, d in found.items()} == {
        f"transactions/{name}.csv": "it is no file" for name in ("dangling", "folder", "loop", "pipe")
    }
    assert {d.source_id for d in found.values()} == {0}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "a.csv").chmod(0)
    assert delivery("transactions", "a", tmp_path / "a.csv").problem == "it cannot be read: Permission denied"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here fails when it is read")
def test_a_file_whose_read_fails_is_rejected() -> None:
    """The memory of this process is a regular file, and its first page can never be read."""
    found = delivery("transactions", "a", Path("/proc/self/mem"))
    assert (found.problem, found.source_id) == ("it cannot be read: Input/output error", 0)


def test_a_name_that_is_not_utf8_is_rejected_with_a_name_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "transactions").mkdir()
    with open(os.fsencode(tmp_path / "transactions") + b"/caf\xe9.csv", "wb") as file:
        file.write(GOOD)
    (found,) = transaction_files(tmp_path)
    assert (found.path, found.problem) == ("transactions/caf\\xe9.csv", "its name is not UTF-8")
    (row,) = admit(NONE, [found], "run", NOW).rows.to_pylist()
    assert (row["status"], row["path"]) == ("rejected", "transactions/caf\\xe9.csv")


def test_a_file_that_grows_while_it_is_read_is_changing(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(GOOD)
    os.truncate(file, 64 << 20)
    begun, stop = threading.Event(), threading.Event()

    def grow() -> None:
        with file.open("ab", buffering=0) as end:
            while not stop.is_set():
                end.write(GOOD)
                begun.set()

    writer = threading.Thread(target=grow)
    writer.start()
    begun.wait()
    try:
        found = delivery("transactions", "a", file)
    finally:
        stop.set()
        writer.join()
    assert (found.is_changing, found.problem) == (True, None)


def test_files_are_listed_by_name(tmp_path: Path) -> None:
    (tmp_path / "transactions").mkdir()
    for name in ("b.csv", "a.csv", "a.csv.part", "readme.txt", "ñ|,1.csv"):
        (tmp_path / "transactions" / name).write_bytes(GOOD)
    assert [d.path for d in transaction_files(tmp_path)] == [
        "transactions/a.csv",
        "transactions/b.csv",
        "transactions/ñ|,1.csv",
    ]


def test_a_missing_landing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        transaction_files(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/transactions: there is no such folder. "
        "Put transactions/*.csv under DATA_PATH, or name another --source."
    )


def test_an_empty_landing_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "transactions").mkdir()
    (tmp_path / "transactions" / "notes.txt").write_bytes(b"")
    with pytest.raises(BadInput, match=r"/transactions: there is no \*\.csv file\. Put transactions/\*\.csv"):
        transaction_files(tmp_path)


# What a file grew from.


def head_of(content: bytes) -> Head:
    digest = hashlib.sha256(content)
    return Head(int.from_bytes(digest.digest()[:8], "big", signed=True), digest.hexdigest(), len(content))


def growth_of(folder: Path, old: bytes, new: bytes) -> Growth | None:
    (folder / "a.csv").write_bytes(new)
    found = delivery("transactions", "a", folder / "a.csv", head_of(old))
    assert found.sha256 == hashlib.sha256(new).hexdigest()
    return found.growth


@pytest.mark.parametrize(
    ("old", "new", "lines", "whole"),
    [
        (GOOD, GOOD + GOOD, 1, len(GOOD)),
        (GOOD, GOOD + b"2013", 1, len(GOOD)),
        (GOOD + GOOD[:-1], GOOD * 2, 1, len(GOOD)),
        (GOOD + GOOD[:-3], GOOD * 2, 1, len(GOOD)),
        (GOOD[:-1] + b"\r", GOOD[:-1] + b"\r\n", 0, 0),
        (GOOD[:-1], GOOD + GOOD, 0, 0),
        (GOOD * 3 + b"\n", GOOD * 3 + b"\n\n", 4, 3 * len(GOOD) + 1),
    ],
)
def test_a_file_that_begins_with_the_bytes_known_of_it_has_grown(
    tmp_path: Path, old: bytes, new: bytes, lines: int, whole: int
) -> None:
    assert growth_of(tmp_path, old, new) == Growth(head_of(old).source_id, lines, whole)


@pytest.mark.parametrize("new", [GOOD * 2, GOOD, GOOD * 3, b"3" + GOOD * 2, GOOD + GOOD[::-1] + GOOD])
def test_a_file_that_begins_otherwise_has_not(tmp_path: Path, new: bytes) -> None:
    old = GOOD * 2 if new == GOOD * 2 else GOOD + GOOD.replace(b"34", b"35")
    assert growth_of(tmp_path, old, new) is None


@given(st.integers(0, 70), st.integers(1, 70), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_growth_is_found_wherever_blocks_end(old: int, more: int, block: int) -> None:
    content = (GOOD * 6)[: old + more]
    with pytest.MonkeyPatch.context() as inside, TemporaryDirectory() as folder:
        inside.setattr(landing, "BLOCK", block)
        found = growth_of(Path(folder), content[:old], content)
    whole = content[:old].rfind(b"\n") + 1
    expected = Growth(head_of(content[:old]).source_id, content[:old].count(b"\n"), whole)
    assert found == (expected if old else None)


# What is still being written.


def young(folder: Path, name: str = "a.csv", age: float = 0) -> Delivery:
    file = folder / name
    file.write_bytes(GOOD)
    written = time.time() - age
    os.utime(file, (written, written))
    return delivery("transactions", name, file)


def untouched(_: float) -> None:
    """Wait, while nobody writes."""


def test_a_new_file_that_is_written_to_before_it_has_settled_is_changing(tmp_path: Path) -> None:
    found = [young(tmp_path), young(tmp_path, "b.csv")]
    waits = list[float]()

    def write(seconds: float) -> None:
        waits.append(seconds)
        with (tmp_path / "b.csv").open("ab") as end:
            end.write(GOOD)

    first, second = settled_deliveries(found, {}, 60, write)
    assert (first, second.changes) == (found[0], WRITTEN)
    assert len(waits) == 1
    assert 0 < waits[0] <= 60


def test_a_file_that_was_read_before_anything_was_in_it_is_changing_and_not_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    found = [delivery("transactions", "a.csv", tmp_path / "a.csv")]
    assert found[0].problem == "it is empty"
    assert settled_deliveries(found, {}, 60, untouched) == found
    (one,) = settled_deliveries(found, {}, 60, lambda _: (tmp_path / "a.csv").write_bytes(GOOD) and None)
    assert (one.changes, one.problem) == (WRITTEN, None)


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(GOOD[::-1])])
def test_a_file_that_went_or_was_written_over_is_changing(tmp_path: Path, change: Callable[[Path], object]) -> None:
    found = [young(tmp_path, age=1)]
    (one,) = settled_deliveries(found, {}, 60, lambda _: change(tmp_path / "a.csv") and None)
    assert one.is_changing


def test_a_file_nobody_writes_to_is_taken_in_after_the_rest_of_the_time(tmp_path: Path) -> None:
    found = [young(tmp_path, age=20)]
    waits = list[float]()
    assert settled_deliveries(found, {}, 60, waits.append) == found
    assert 0 < waits[0] <= 40


def test_a_time_to_come_is_not_waited_for(tmp_path: Path) -> None:
    waits = list[float]()
    settled_deliveries([young(tmp_path, age=-3600)], {}, 60, waits.append)
    assert waits == [60]


def test_older_and_known_and_unreadable_files_cost_nothing(tmp_path: Path) -> None:
    known = young(tmp_path)
    found = [young(tmp_path, "old.csv", age=61), known, Delivery("transactions", "z", "/z", problem="it is no file")]

    def wait(_: float) -> None:
        raise AssertionError("nothing is waited for")

    heads = {"a.csv": Head(known.source_id, known.sha256, known.bytes)}
    assert settled_deliveries(found, heads, 60, wait) == found
    assert settled_deliveries(found, {}, 0, wait) == found


def test_an_older_file_that_changed_since_it_was_read_is_changing(tmp_path: Path) -> None:
    found = [young(tmp_path, age=3600)]
    (tmp_path / "a.csv").write_bytes(GOOD * 2)
    assert [one.changes for one in settled_deliveries(found, {}, 60, untouched)] == [WRITTEN]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_landing_that_may_not_be_entered_says_so(tmp_path: Path) -> None:
    (tmp_path / "closed" / "transactions").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(BadInput, match=r"it cannot be opened \(Permission denied\)"):
            transaction_files(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_landing_that_may_not_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "transactions").mkdir()
    monkeypatch.setattr("lakehouse.sources.landing.os.scandir", refused)
    with pytest.raises(BadInput, match=r"it cannot be opened \(Permission denied\)"):
        transaction_files(tmp_path, {"transactions/a.csv": Head(1, "", 0)})
