"""What becomes of each delivery, against the sources of the last release."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.growth import Grown
from lakehouse.ops import sources
from lakehouse.sources import landing
from lakehouse.sources.admission import DELETED, Admission, admit, in_declared_columns, withdraw
from lakehouse.sources.landing import READ, Delivery, Growth

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
    assert admission.touched_ids == {source("X")}
    assert admission.rows.schema == sources.TABLE.arrow_schema


def test_the_same_file_again_is_no_news() -> None:
    first, again = after({"a": "X"}), after({"a": "X"}, {"a": "X"})
    assert not again.is_news
    assert again.rows == first.rows
    assert again.touched_ids == frozenset()


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
    assert admission.touched_ids == {source("X"), source("Y")}
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


def test_readable_content_ends_what_was_rejected_before_until_that_is_there_again() -> None:
    broken = of("a", "bad", problem="it is empty")
    first = admitted(NONE, [broken])
    then = admitted(first.rows, [of("a", "X")])
    assert statuses(then, "bad") == {("a", "bad"): "superseded", ("a", "X"): "current"}
    assert [row["detail"] for row in then.rows.to_pylist() if row["status"] == "superseded"] == ["it is empty"]
    again = admitted(then.rows, [broken])
    assert statuses(again, "bad") == {("a", "bad"): "rejected", ("a", "X"): "current"}


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


# What has grown at its end.


def grown(path: str, old: str, new: str) -> Delivery:
    return of(path, new, growth=Growth(source(old), 1, 2))


def test_a_grown_file_takes_over_the_lines_of_what_it_grew_from() -> None:
    admission = admitted(after({"a": "X", "b": "Y"}).rows, [grown("a", "X", "XY"), of("b", "Y")])
    assert statuses(admission, "XY") == {("a", "X"): "superseded", ("a", "XY"): "current", ("b", "Y"): "current"}
    assert admission.grown == (Grown(source("XY"), source("X"), 1),)
    (row,) = (row for row in admission.rows.to_pylist() if row["source_id"] == source("XY"))
    assert (row["carried_lines"], row["carried_bytes"], row["supersedes"]) == (1, 2, source("X"))
    assert row["detail"] == f"grown from source {source('X')}, of which 1 lines were kept"
    again = admitted(admission.rows, [of("a", "XY"), of("b", "Y")])
    assert (again.rows, again.grown) == (admission.rows, ())


@pytest.mark.parametrize("decided", ["X", "XY"])
def test_lines_that_were_decided_about_are_not_taken_over(decided: str) -> None:
    admission = admit(after({"a": "X"}).rows, [grown("a", "X", "XY")], "run", NOW, decided={source(decided)})
    assert (news(admission), admission.grown) == ((["a"], {source("X")}), ())
    assert {row["detail"] for row in admission.rows.to_pylist()} == {None}


def test_what_goes_on_elsewhere_is_not_taken_over() -> None:
    known = after({"a": "X", "b": "X"}).rows
    admission = admitted(known, [grown("a", "X", "XY"), of("b", "X")])
    assert (news(admission), admission.grown) == ((["a"], set()), ())


def test_what_two_files_grew_from_is_taken_over_by_none() -> None:
    known = after({"a": "X", "b": "X"}).rows
    admission = admitted(known, [grown("a", "X", "XY"), grown("b", "X", "XZ")])
    assert (news(admission), admission.grown) == ((["a", "b"], {source("X")}), ())
    alike = admitted(known, [grown("a", "X", "XY"), grown("b", "X", "XY")])
    assert alike.grown == (Grown(source("XY"), source("X"), 1),)


def test_a_file_that_grew_into_a_twin_of_another_takes_nothing_over() -> None:
    admission = admitted(after({"a": "X", "b": "XY"}).rows, [grown("a", "X", "XY"), of("b", "XY")])
    assert (news(admission), admission.grown) == (([], {source("X")}), ())
    assert statuses(admission, "XY")["a", "XY"] == "duplicate"


def test_a_grown_file_that_shrinks_and_grows_again_grows_each_time() -> None:
    known = admitted(after({"a": "X"}).rows, [grown("a", "X", "XY")]).rows
    back = admitted(known, [of("a", "X")])
    assert (news(back), back.grown) == ((["a"], {source("XY")}), ())
    assert admitted(back.rows, [of("a", "XY")]).grown == ()
    last = admitted(back.rows, [of("a", "XY")]).rows.to_pylist()
    assert {row["carried_lines"] for row in last} == {None}


# What is gone from PostgreSQL.


def test_a_deleted_day_goes_and_comes_back_with_its_rows() -> None:
    known = after({"a": "X", "b": "Y"}).rows
    admission = admit(known, [], "run", NOW, deleted={"a", "unheard of"})
    assert statuses(admission) == {("a", "X"): "deleted", ("b", "Y"): "current"}
    assert news(admission) == ([], {source("X")})
    assert [row["detail"] for row in admission.rows.to_pylist()] == [DELETED, None]
    assert admit(admission.rows, [], "run", NOW, deleted={"a"}).rows == admission.rows
    again = admitted(admission.rows, [of("a", "X")])
    assert (statuses(again), news(again)) == ({("a", "X"): "current", ("b", "Y"): "current"}, (["a"], set()))


def test_other_rows_of_a_deleted_day_come_in() -> None:
    known = admit(after({"a": "X"}).rows, [], "run", NOW, deleted={"a"}).rows
    admission = admitted(known, [of("a", "Y")])
    assert statuses(admission) == {("a", "X"): "superseded", ("a", "Y"): "current"}
    assert news(admission) == (["a"], set())


def test_a_fingerprint_stays_with_its_source() -> None:
    known = admitted(NONE, [of("a", "X", fingerprint="1:2")]).rows
    assert [row["fingerprint"] for row in admitted(known, [of("b", "Y")]).rows.to_pylist()] == ["1:2", None]
    assert [row["fingerprint"] for row in admitted(known, [of("a", "X", fingerprint="1:3")]).rows.to_pylist()] == [
        "1:3"
    ]


def test_sources_of_earlier_code_are_read_as_declared() -> None:
    rows = after({"a": "X"}).rows
    assert in_declared_columns(rows.drop_columns(["carried_lines", "carried_bytes", "fingerprint"])) == rows


def same_id() -> tuple[str, str]:
    """Give two contents whose hashes begin with the same bytes, as many as an id has."""
    seen: dict[int, str] = {}
    for content in map(str, range(10_000)):
        if (other := seen.setdefault(source(content), content)) != content:
            return other, content
    raise AssertionError("ids are too long to meet by trying")


@pytest.mark.parametrize("path", ["a", "b"])
def test_other_bytes_with_the_same_id_are_refused_by_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "ID_BYTES", 2)
    first, second = same_id()
    before = after({"a": first})
    admission = admitted(before.rows, [of("a", first) if path != "a" else of("c", "X"), of(path, second)], "run 2")
    refused = [row for row in admission.rows.to_pylist() if row["status"] == "rejected"]
    assert [(row["path"], row["source_id"]) for row in refused] == [(path, 0)]
    assert refused[0]["detail"].startswith("other bytes, those of a, have its id already")
    assert source(first) in admission.current


def test_of_two_new_files_with_the_same_id_the_second_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "ID_BYTES", 2)
    first, second = same_id()
    admission = after({"a": first, "b": second})
    assert [(row["path"], row["status"]) for row in admission.rows.to_pylist()] == [("a", "current"), ("b", "rejected")]
    assert [one.path for one in admission.rejected] == ["b"]
