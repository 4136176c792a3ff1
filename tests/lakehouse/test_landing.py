"""What waits in the landing, and what becomes of each delivery."""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.admission import Admission, admit, withdraw
from lakehouse.errors import BadInput
from lakehouse.landing import READ, Delivery, delivery, transaction_files
from lakehouse.ops import sources

GOOD = b"2013-02-01|103|1008848|34 2\n"
NOW = datetime(2024, 5, 1, tzinfo=UTC)
NONE = sources.TABLE.arrow_schema.empty_table()


def of(path: str, content: str, entity: str = "transactions", **facts: Any) -> Delivery:
    octets = content.encode()
    return Delivery(entity, path, f"/landing/{path}", hashlib.sha256(octets).hexdigest(), len(octets), **facts)


def admitted(known: pa.Table, found: Iterable[Delivery], run_id: str = "run") -> Admission:
    return admit(known, found, run_id, NOW)


def after(*deliveries: dict[str, str]) -> Admission:
    """Admit deliveries {path: content}, one after the other; give the last admission."""
    known, admission = NONE, admitted(NONE, [])
    for number, files in enumerate(deliveries, 1):
        admission = admitted(known, [of(path, content) for path, content in files.items()], f"run {number}")
        known = admission.rows
    return admission


def source(content: str) -> int:
    return of("", content).source_id


def statuses(admission: Admission, *contents: str) -> dict[tuple[str, str], str]:
    named = {source(content): content for content in (*contents, *"XYZ")}
    return {(row["path"], named.get(row["source_id"], "?")): row["status"] for row in admission.rows.to_pylist()}


def news(admission: Admission) -> tuple[list[str], set[int]]:
    """Give the paths to take in and the sources to take out."""
    return [d.path for d in admission.new], set(admission.superseded)


# What a file is.


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
        ("transactions", GOOD + b"\0", "it is binary, not text"),
        ("transactions", b"PK\3\4\0\0" + GOOD, "it is binary, not text"),
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
    (row,) = admitted(NONE, [found]).rows.to_pylist()
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


# What becomes of a delivery.


def test_a_new_file_is_taken_in() -> None:
    admission = after({"a": "X"})
    (row,) = admission.rows.to_pylist()
    assert row == {
        "source_id": source("X"),
        "entity": "transactions",
        "path": "a",
        "location": "/landing/a",
        "sha256": hashlib.sha256(b"X").hexdigest(),
        "bytes": 1,
        "delivered_at": NOW,
        "status": "current",
        "supersedes": None,
        "admitted_by": "run 1",
        "detail": None,
        "carried_lines": None,
        "carried_bytes": None,
        "fingerprint": None,
    }
    assert news(admission) == (["a"], set())
    assert admission.touched == {source("X")}
    assert admission.rows.schema == sources.TABLE.arrow_schema


def test_the_same_file_again_is_no_news() -> None:
    first, again = after({"a": "X"}), after({"a": "X"}, {"a": "X"})
    assert not again.is_news
    assert again.rows == first.rows
    assert again.touched == frozenset()


def test_a_file_that_is_gone_stays_what_it_was() -> None:
    admission = after({"a": "X", "b": "Y"}, {"b": "Y"})
    assert not admission.is_news
    assert statuses(admission) == {("a", "X"): "current", ("b", "Y"): "current"}


def test_the_same_bytes_under_another_name_are_a_duplicate() -> None:
    admission = after({"a": "X"}, {"a": "X", "b": "X"})
    assert not admission.is_news
    assert statuses(admission) == {("a", "X"): "current", ("b", "X"): "duplicate"}
    assert [row["detail"] for row in admission.rows.to_pylist()] == [None, "the same bytes as a"]


def test_twins_of_one_delivery_are_taken_in_once_by_the_first_name() -> None:
    admission = after({"b": "X", "a": "X"})
    assert statuses(admission) == {("a", "X"): "current", ("b", "X"): "duplicate"}
    assert news(admission) == (["a"], set())


def test_the_name_that_was_there_first_stays_the_current_one() -> None:
    admission = after({"b": "X"}, {"a": "X", "b": "X"})
    assert statuses(admission) == {("a", "X"): "duplicate", ("b", "X"): "current"}


def test_other_bytes_under_the_same_name_replace_the_earlier_ones() -> None:
    admission = after({"a": "X"}, {"a": "Y"})
    assert statuses(admission) == {("a", "X"): "superseded", ("a", "Y"): "current"}
    assert news(admission) == (["a"], {source("X")})
    assert admission.touched == {source("X"), source("Y")}
    assert {row["supersedes"] for row in admission.rows.to_pylist()} == {None, source("X")}


def test_the_first_bytes_delivered_again_are_current_again() -> None:
    admission = after({"a": "X"}, {"a": "Y"}, {"a": "X"})
    assert statuses(admission) == {("a", "X"): "current", ("a", "Y"): "superseded"}
    assert news(admission) == (["a"], {source("Y")})
    (current,) = [row for row in admission.rows.to_pylist() if row["status"] == "current"]
    assert (current["supersedes"], current["admitted_by"]) == (source("Y"), "run 3")


def test_a_duplicate_whose_twin_is_corrected_becomes_current_and_keeps_its_rows() -> None:
    admission = after({"a": "X", "b": "X"}, {"a": "Y", "b": "X"})
    assert statuses(admission) == {("a", "X"): "superseded", ("a", "Y"): "current", ("b", "X"): "current"}
    assert news(admission) == (["a"], set())
    assert [row["detail"] for row in admission.rows.to_pylist()] == [None, None, None]


def test_a_duplicate_that_is_gone_becomes_current_when_its_twin_is_corrected() -> None:
    admission = after({"a": "X", "b": "X"}, {"a": "Y"})
    assert statuses(admission) == {("a", "X"): "superseded", ("a", "Y"): "current", ("b", "X"): "current"}
    assert admission.superseded == frozenset()


def test_files_that_exchange_their_names_are_no_news() -> None:
    admission = after({"a": "X", "b": "Y"}, {"a": "Y", "b": "X"})
    assert not admission.is_news
    assert sorted(admission.current) == sorted([source("X"), source("Y")])


def test_a_file_corrected_into_a_twin_of_another_takes_its_rows_out() -> None:
    admission = after({"a": "X", "b": "Y"}, {"a": "Y", "b": "Y"})
    assert news(admission) == ([], {source("X")})
    assert statuses(admission)["a", "Y"] == "duplicate"


def test_a_rejected_file_is_recorded_and_stops_nothing_else() -> None:
    broken = of("b", "bad", problem="it is empty")
    admission = admitted(NONE, [of("a", "X"), broken])
    assert statuses(admission, "bad") == {("a", "X"): "current", ("b", "bad"): "rejected"}
    assert (news(admission), admission.rejected) == ((["a"], set()), (broken,))
    assert admission.rows.to_pylist()[1]["detail"] == "it is empty"


def test_a_rejected_correction_leaves_the_earlier_bytes_current() -> None:
    admission = admitted(after({"a": "X"}).rows, [of("a", "bad", problem="it is empty")])
    assert statuses(admission, "bad") == {("a", "X"): "current", ("a", "bad"): "rejected"}
    assert not admission.is_news


def test_an_unreadable_file_is_recorded_without_a_source() -> None:
    unreadable = Delivery("transactions", "a", "/landing/a", problem="it is no file")
    (row,) = admitted(NONE, [unreadable]).rows.to_pylist()
    assert (row["source_id"], row["sha256"], row["status"]) == (0, "", "rejected")


def test_a_file_rejected_once_is_taken_when_it_no_longer_is() -> None:
    first = admitted(NONE, [of("a", "X", problem="it is empty")])
    admission = admitted(first.rows, [of("a", "X")])
    assert statuses(admission) == {("a", "X"): "current"}
    assert news(admission) == (["a"], set())


def test_a_changing_file_is_left_for_the_next_time() -> None:
    changing = of("a", "half", changes=READ)
    first = admitted(NONE, [changing])
    assert (statuses(first), first.is_news, first.changing) == ({("a", "?"): "changing"}, False, (changing,))
    assert admitted(first.rows, [changing]).rows == first.rows
    assert statuses(admitted(first.rows, [of("a", "X")])) == {("a", "X"): "current"}
    then = admitted(after({"a": "X"}).rows, [changing])
    assert statuses(then) == {("a", "X"): "current", ("a", "?"): "changing"}


def test_reference_entities_keep_only_their_newest_source() -> None:
    first = admitted(NONE, [of("postgres/categories", "X", "categories"), of("a", "Y")])
    admission = admitted(first.rows, [of("postgres/categories", "Z", "categories"), of("a", "Y")])
    current = {row["path"]: row["source_id"] for row in admission.rows.to_pylist() if row["status"] == "current"}
    assert current == {"postgres/categories": source("Z"), "a": source("Y")}
    assert admission.superseded == {source("X")}


def test_a_file_delivered_again_from_elsewhere_is_read_from_there() -> None:
    known = after({"a": "X", "b": "Y"}).rows
    moved = Delivery("transactions", "a", "/other/a", of("a", "X").sha256, 1)
    admission = admitted(known, [moved])
    assert not admission.is_news
    assert {r["path"]: r["location"] for r in admission.rows.to_pylist()} == {"a": "/other/a", "b": "/landing/b"}
    assert {r["admitted_by"] for r in admission.rows.to_pylist()} == {"run 1"}


PATHS = st.sampled_from(["a", "b", "c"])
STATES = st.sampled_from(["X", "Y", "Z", "rejected", "changing"])
HISTORIES = st.lists(st.dictionaries(PATHS, STATES), max_size=8)


def found_in(files: dict[str, str]) -> list[Delivery]:
    facts: dict[str, dict[str, Any]] = {"rejected": {"problem": "it is empty"}, "changing": {"changes": READ}}
    return [of(path, state, **facts.get(state, {})) for path, state in files.items()]


@given(HISTORIES)
@settings(deadline=None, max_examples=120)
def test_after_any_history_each_newest_content_is_current_once(history: list[dict[str, str]]) -> None:
    """And bronze, which takes in and out what it is told, holds just the current sources."""
    known, newest, bronze = NONE, dict[str, str](), Counter[int]()
    for files in history:
        admission = admitted(known, found_in(files))
        newest |= {path: state for path, state in files.items() if state in "XYZ"}
        rows = admission.rows.to_pylist()
        current = {row["source_id"]: row["path"] for row in rows if row["status"] == "current"}
        assert admission.current == sorted(map(source, set(newest.values())))
        assert all(source(newest[path]) == source_id for source_id, path in current.items())
        duplicates = {(row["path"], row["source_id"]) for row in rows if row["status"] == "duplicate"}
        heads = {(path, source(content)) for path, content in newest.items()}
        assert duplicates == heads - {(path, source_id) for source_id, path in current.items()}
        bronze -= Counter(admission.superseded)
        bronze += Counter(d.source_id for d in admission.new)
        assert bronze == Counter(current.keys())
        assert all(current[d.source_id] == d.path for d in admission.new)
        assert len({(row["path"], row["source_id"]) for row in rows}) == len(rows)
        assert [d.path for d in admission.rejected] == [p for p, state in files.items() if state == "rejected"]
        assert admitted(admission.rows, found_in(files)).rows == admission.rows
        assert not admitted(admission.rows, found_in(files)).is_news
        known = admission.rows


@given(HISTORIES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_files_in_a_delivery_does_not_show(history: list[dict[str, str]], draw: Any) -> None:
    known = NONE
    for files in history:
        found = found_in(files)
        shuffled, admission = admitted(known, draw.sample(found, len(found))), admitted(known, found)
        assert shuffled.rows == admission.rows
        assert (shuffled.new, shuffled.superseded) == (admission.new, admission.superseded)
        known = admission.rows


# What is withdrawn.


WHY = "by Ana: wrong month"


def test_what_is_withdrawn_goes_and_says_by_whom_and_why() -> None:
    admission = withdraw(after({"a": "X", "b": "Y"}).rows, "a", WHY)
    assert statuses(admission) == {("a", "X"): "withdrawn", ("b", "Y"): "current"}
    assert news(admission) == ([], {source("X")})
    assert [row["detail"] for row in admission.rows.to_pylist()] == [WHY, None]


def test_the_same_bytes_stay_out_of_the_path_they_were_withdrawn_from() -> None:
    known = withdraw(after({"a": "X", "b": "Y"}).rows, "a", WHY).rows
    admission = admitted(known, [of("a", "X"), of("b", "Y")])
    assert not admission.is_news
    assert admission.rows == known


def test_other_bytes_come_after_a_withdrawal_and_then_the_first_again() -> None:
    known = withdraw(after({"a": "X"}).rows, "a", WHY).rows
    other = admitted(known, [of("a", "Z")])
    assert statuses(other) == {("a", "X"): "superseded", ("a", "Z"): "current"}
    assert news(other) == (["a"], set())
    assert {row["detail"] for row in other.rows.to_pylist()} == {WHY, None}
    assert admitted(other.rows, [of("a", "Z")]).rows == other.rows
    again = admitted(other.rows, [of("a", "X")])
    assert statuses(again) == {("a", "X"): "current", ("a", "Z"): "superseded"}
    assert news(again) == (["a"], {source("Z")})


def test_a_twin_goes_on_when_the_current_name_is_withdrawn() -> None:
    admission = withdraw(after({"a": "X", "b": "X"}).rows, "a", WHY)
    assert statuses(admission) == {("a", "X"): "withdrawn", ("b", "X"): "current"}
    assert not admission.is_news
    rest = withdraw(admission.rows, "b", WHY)
    assert (rest.current, rest.superseded) == ([], {source("X")})


def test_what_was_superseded_before_stays_so_when_the_newer_bytes_are_withdrawn() -> None:
    admission = withdraw(after({"a": "X"}, {"a": "Y"}).rows, "a", WHY)
    assert statuses(admission) == {("a", "X"): "superseded", ("a", "Y"): "withdrawn"}
    assert admission.current == []


def test_only_what_counts_for_a_path_can_be_withdrawn() -> None:
    known = after({"a": "X"}).rows
    for path in ("b", ""):
        with pytest.raises(KeyError):
            withdraw(known, path, WHY)
    with pytest.raises(KeyError):
        withdraw(withdraw(known, "a", WHY).rows, "a", WHY)
