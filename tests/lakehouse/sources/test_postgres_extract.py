"""The tables become the files the source delivers, from one snapshot, and unchanged days cost nothing."""

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import BadInput, ServiceDown, StorageFailed
from lakehouse.kernels.receipt_rules import Refusal, read_line
from lakehouse.postgres import server
from lakehouse.postgres.connection import connection, stop_embedded
from lakehouse.settings import Settings, load_settings
from lakehouse.sources import postgres_extract as extraction
from lakehouse.sources.extract_files import Extract
from lakehouse.sources.postgres_extract import Known, extract
from lakehouse.sources.postgres_load import load

RECEIPTS = [
    "2024-01-02|102|8|11",
    "2024-01-01|103|7|10 11",
    "2024-01-01|102|7|11",
    "2024-01-01|102|7|10 10",
    "2024-01-01|102|7|11",
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    chosen = load_settings(lakehouse_home=tmp_path_factory.mktemp("home"), postgres_host="")
    yield chosen
    stop_embedded(chosen)


@pytest.fixture(autouse=True)
def loaded(settings: Settings, tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for folder in ("products", "transactions"):
        (source / folder).mkdir(parents=True)
    (source / "products" / "Categories.csv").write_text("2|MEAT, FISH\n1|WATER \\ ICE")
    (source / "products" / "ProductCategory.csv").write_text("v.Code_pr|v.code\n11|2\n10|1\n11|2\n")
    (source / "transactions" / "102_Tran.csv").write_text("\n".join(RECEIPTS))
    with connection(settings) as opened:
        opened.execute("DROP TABLE IF EXISTS categories, product_categories, transactions")
    load(settings, source, transactions=True)
    return source


def run(settings: Settings, statement: str) -> None:
    with connection(settings) as opened:
        opened.execute(statement.encode())


def known(extracts: list[Extract]) -> dict[str, Known]:
    return {found.name: Known(found.fingerprint, found.sha256) for found in extracts}


def text(found: Extract) -> str:
    assert found.path is not None
    return found.path.read_bytes().decode()


def test_tables_become_files_of_the_source_format(settings: Settings, tmp_path: Path) -> None:
    categories, pairs, *days = extract(settings, tmp_path / "landing", include_transactions=True)
    assert (categories.name, categories.entity, categories.rows) == ("postgres/categories", "categories", 2)
    assert text(categories) == "1|WATER \\ ICE\n2|MEAT, FISH\n"
    assert (pairs.name, pairs.entity, pairs.rows) == ("postgres/product_categories", "product_categories", 3)
    assert text(pairs) == "v.Code_pr|v.code\n10|1\n11|2\n11|2\n"
    assert [(day.name, day.rows) for day in days] == [
        ("postgres/transactions/2024-01-01", 4),
        ("postgres/transactions/2024-01-02", 1),
    ]
    assert text(days[0]).splitlines() == [RECEIPTS[3], RECEIPTS[2], RECEIPTS[4], RECEIPTS[1]]
    assert text(days[1]) == RECEIPTS[0] + "\n"


def test_only_the_entities_asked_for_are_extracted(settings: Settings, tmp_path: Path) -> None:
    assert [found.name for found in extract(settings, tmp_path, ["categories"])] == ["postgres/categories"]
    assert len(extract(settings, tmp_path, [], include_transactions=True)) == 2


def test_files_are_named_by_content_and_not_written_again(settings: Settings, tmp_path: Path) -> None:
    into = tmp_path / "landing"
    first = extract(settings, into, include_transactions=True)
    written = {path: path.stat().st_mtime_ns for path in into.rglob("*.*")}
    assert extract(settings, into, include_transactions=True) == first
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*.*")} == written
    assert sorted(path.suffix for path in written) == [".csv"] * 4 + [".json"]
    assert first[0].path == into / "categories" / f"{first[0].fingerprint[:16]}.csv"


def test_a_file_that_was_damaged_is_written_again(settings: Settings, tmp_path: Path) -> None:
    (found,) = extract(settings, tmp_path / "landing", ["categories"])
    whole = text(found)
    assert found.path is not None
    found.path.write_text(whole[:5])
    assert text(extract(settings, tmp_path / "landing", ["categories"])[0]) == whole


def test_only_days_that_changed_are_extracted_again(settings: Settings, tmp_path: Path) -> None:
    into = tmp_path / "landing"
    first = known(extract(settings, into, [], True))
    assert [found.path for found in extract(settings, into, [], True, first)] == [None, None]
    run(settings, "INSERT INTO transactions VALUES ('2024-01-01', 102, 9, '12'), ('2023-12-31', 102, 9, '12')")
    early, changed, same = extract(settings, into, [], True, first)
    assert (early.rows, changed.rows, same.rows) == (1, 5, 1)
    assert text(early) == "2023-12-31|102|9|12\n"
    assert "2024-01-01|102|9|12" in text(changed)
    assert same.path is None
    run(settings, "UPDATE transactions SET products = '13' WHERE sold_on = '2024-01-02'")
    assert text(extract(settings, into, [], True, first)[2]) == "2024-01-02|102|8|13\n"


def test_the_order_of_rows_in_the_table_does_not_show(settings: Settings, tmp_path: Path) -> None:
    first = extract(settings, tmp_path, include_transactions=True)
    run(settings, "CREATE TABLE other AS SELECT * FROM transactions ORDER BY ctid DESC")
    run(settings, "DROP TABLE transactions")
    run(settings, "ALTER TABLE other RENAME TO transactions")
    assert extract(settings, tmp_path, include_transactions=True) == first


def test_rows_no_receipt_can_come_from_are_lines_the_rules_refuse(settings: Settings, tmp_path: Path) -> None:
    run(
        settings,
        "INSERT INTO transactions VALUES (NULL, 1, 2, '3'), (NULL, NULL, NULL, NULL), ('2024-01-02', NULL, 2, '3'), "
        "('2024-01-02', 1, NULL, '3'), ('2024-01-02', 1, 2, NULL), ('2024-01-02', 1, 2, ''), "
        "('2024-01-02', 1, 2, E'3\\n2024-01-02|1|2|4'), ('2024-01-02', 1, 2, '3|4'), ('2024-01-02', -1, 2, '3'), "
        "('infinity', 1, 2, '3'), ('-infinity', 1, 2, '3'), ('0044-03-15 BC', 1, 2, '3'), ('12024-01-02', 1, 2, '3')",
    )
    days = {found.name.removeprefix("postgres/transactions/"): found for found in extract(settings, tmp_path, [], True)}
    dated = ["-infinity", "0044-03-15 BC", "2024-01-01", "2024-01-02", "12024-01-02", "infinity"]
    assert list(days) == [*dated, "undated"]
    for day in dated:
        assert {line.partition("|")[0] for line in text(days[day]).splitlines()} == {day}
    assert text(days["undated"]) == "|1|2|3\n|||\n"
    for found in days.values():
        assert len(text(found).splitlines()) == found.rows
    refused = [
        r.rule for f in days.values() for line in text(f).splitlines() if isinstance(r := read_line(line), Refusal)
    ]
    assert len(refused) == 13
    assert extract(settings, tmp_path, [], True, known(list(days.values())))[-1].path is None
    run(settings, "UPDATE transactions SET products = '4' WHERE sold_on IS NULL AND store_id = 1")
    assert text(extract(settings, tmp_path, [], True, known(list(days.values())))[-1]) == "|1|2|4\n|||\n"


def test_rows_that_are_not_those_counted_are_never_put_in_a_day(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = extraction._days
    for wrong in (lambda days: days[::-1], lambda days: days[:1]):
        monkeypatch.setattr(extraction, "_days", lambda opened, wrong=wrong: wrong(counted(opened)))
        with pytest.raises(AssertionError, match="a snapshot that gives"):
            extract(settings, tmp_path, [], True)


@pytest.mark.parametrize("name", ["A|B", "A\nB", "A\r"])
def test_a_category_no_line_can_hold_is_named(settings: Settings, tmp_path: Path, name: str) -> None:
    with connection(settings) as opened:
        opened.execute("INSERT INTO categories VALUES (7, %s)", [name])
    with pytest.raises(BadInput, match="the name of category 7, 'A"):
        extract(settings, tmp_path / "landing")


def test_a_missing_table_is_named_with_what_makes_it(settings: Settings, tmp_path: Path) -> None:
    run(settings, "DROP TABLE transactions")
    assert len(extract(settings, tmp_path)) == 2
    with pytest.raises(BadInput, match="there is no table transactions.*lakehouse load --source DIR"):
        extract(settings, tmp_path, include_transactions=True)


def test_all_files_are_of_one_snapshot(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = extraction.keep

    def keeps_while_others_commit(folder: Path, entity: str, lines: Iterable[bytes]) -> tuple[Path, str]:
        run(settings, "INSERT INTO transactions VALUES ('2024-01-02', 102, 9, '12')")
        run(settings, "DELETE FROM product_categories")
        return keep(folder, entity, lines)

    before = extract(settings, tmp_path / "landing", include_transactions=True)
    monkeypatch.setattr(extraction, "keep", keeps_while_others_commit)
    assert extract(settings, tmp_path / "landing", include_transactions=True) == before


def test_an_empty_table_gives_no_day_and_a_header(settings: Settings, tmp_path: Path) -> None:
    run(settings, "DELETE FROM transactions")
    run(settings, "DELETE FROM product_categories")
    _, pairs = extract(settings, tmp_path, include_transactions=True)
    assert (text(pairs), pairs.rows) == ("v.Code_pr|v.code\n", 0)


def test_a_server_that_is_down_is_said(tmp_path: Path) -> None:
    down = load_settings(lakehouse_home=tmp_path, postgres_host="127.0.0.1", postgres_port=1)
    with pytest.raises(ServiceDown, match="127.0.0.1:1/lakehouse"):
        extract(down, tmp_path)


def test_a_place_that_cannot_be_written_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "landing").write_text("a file")
    with pytest.raises(StorageFailed, match="Not a directory"):
        extract(settings, tmp_path / "landing")


def test_what_is_extracted_loads_again_as_the_same(settings: Settings, tmp_path: Path) -> None:
    first = extract(settings, tmp_path / "landing", include_transactions=True)
    again = tmp_path / "again"
    for folder in ("products", "transactions"):
        (again / folder).mkdir(parents=True)
    (again / "products" / "Categories.csv").write_text(text(first[0]))
    (again / "products" / "ProductCategory.csv").write_text(text(first[1]))
    for number, day in enumerate(first[2:]):
        (again / "transactions" / f"{number}.csv").write_text(text(day))
    load(settings, again, transactions=True)
    assert extract(settings, tmp_path / "landing", include_transactions=True) == first


# What is kept of an extraction.


def manifests(into: Path) -> list[dict[str, Any]]:
    found = sorted((into / "manifests").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text()) for path in found]


def test_a_manifest_lists_the_snapshot_and_every_source_with_its_file(settings: Settings, tmp_path: Path) -> None:
    run(settings, "INSERT INTO transactions VALUES ('2024-01-02', 1, 2, ' 3  4 '), ('2024-01-02', 1, 2, NULL)")
    extracts = extract(settings, tmp_path, include_transactions=True)
    (manifest,) = manifests(tmp_path)
    assert re.fullmatch(r"\d+:\d+:[\d,]*", manifest["snapshot"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest["read_at"])
    listed = [source for table in manifest["tables"].values() for source in table["sources"]]
    assert [(s["name"], s["fingerprint"], s["sha256"]) for s in listed] == [
        (found.name, found.fingerprint, found.sha256) for found in extracts
    ]
    for source in listed:
        assert hashlib.sha256((tmp_path / source["file"]).read_bytes()).hexdigest() == source["sha256"]
    days = manifest["tables"]["transactions"]
    assert [(day["rows"], day["units"]) for day in days["sources"]] == [(4, 6), (3, 3)]
    assert (days["rows"], days["units"]) == (7, 9)


def test_an_unchanged_day_is_in_the_next_manifest_and_none_is_ever_written_again(
    settings: Settings, tmp_path: Path
) -> None:
    first = extract(settings, tmp_path, [], True)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert all(found.path is None for found in extract(settings, tmp_path, [], True, known(first)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files
    run(settings, "DELETE FROM transactions WHERE sold_on = '2024-01-02'")
    run(settings, "INSERT INTO transactions VALUES ('2024-01-05', 1, 2, '3')")
    then = extract(settings, tmp_path, [], True, known(first))
    assert [(found.name[-10:], found.path is None) for found in then] == [("2024-01-01", True), ("2024-01-05", False)]
    later = manifests(tmp_path)[1]["tables"]["transactions"]
    assert [s["sha256"] for s in later["sources"]] == [found.sha256 for found in then]
    assert {path: path.read_bytes() for path in files} == files


def test_unchanged_days_are_not_copied(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landed = known(extract(settings, tmp_path, [], True))

    def copied(*_: object) -> Iterator[bytes]:
        raise AssertionError("nothing is to be copied")

    monkeypatch.setattr(extraction, "_copied", copied)
    assert len(extract(settings, tmp_path, [], True, landed)) == 2


def test_a_day_whose_file_is_gone_is_extracted_again(settings: Settings, tmp_path: Path) -> None:
    first = extract(settings, tmp_path, [], True)
    assert first[0].path is not None
    first[0].path.unlink()
    again = extract(settings, tmp_path, [], True, known(first))
    assert [found.path for found in again] == [first[0].path, None]
    assert text(again[0]) != ""


def test_what_killed_extractions_left_is_removed_a_day_later(settings: Settings, tmp_path: Path) -> None:
    old, young = (tmp_path / "transactions" / f".{name}.part" for name in ("old", "young"))
    for part in (old, young):
        part.parent.mkdir(exist_ok=True)
        part.touch()
    os.utime(old, (0, 0))
    extract(settings, tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("victim", ["the server", "the connection"])
def test_a_server_that_is_killed_while_it_is_read_leaves_nothing_half(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    run(
        settings,
        "INSERT INTO transactions SELECT date '2024-02-01' + i % 9, 1, i, repeat('7 ', 500) || '7' "
        "FROM generate_series(1, 4000) i",
    )
    expected = extract(settings, tmp_path / "expected", include_transactions=True)
    keep, kept = extraction.keep, list[str]()

    def keeps_until_it_is_killed(folder: Path, entity: str, lines: Iterable[bytes]) -> tuple[Path, str]:
        kept.append(entity)
        if len(kept) == 5:
            kill(settings, victim)
        return keep(folder, entity, lines)

    monkeypatch.setattr(extraction, "keep", keeps_until_it_is_killed)
    with pytest.raises(ServiceDown, match="What was under way was rolled back"):
        extract(settings, tmp_path / "landing", include_transactions=True)
    left = {path.name: path.read_bytes() for path in (tmp_path / "landing").rglob("*") if path.is_file()}
    whole = {path.name: path.read_bytes() for path in (tmp_path / "expected").rglob("*") if path.is_file()}
    assert 4 <= len(left) < len(whole)
    assert left.items() <= whole.items()
    monkeypatch.undo()
    again = extract(settings, tmp_path / "landing", include_transactions=True)
    assert [(found.name, found.sha256) for found in again] == [(found.name, found.sha256) for found in expected]


def kill(settings: Settings, victim: str) -> None:
    """End the server, or the server's side of all other connections, at once."""
    if victim == "the server":
        os.kill(server.server_process(settings.lakehouse_home / "postgres")[0], signal.SIGKILL)
    else:
        run(
            settings,
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE application_name = 'lakehouse' AND pid <> pg_backend_pid()",
        )


def test_a_name_may_hold_a_carriage_return_that_ends_no_line(settings: Settings, tmp_path: Path) -> None:
    run(settings, "UPDATE categories SET category_name = E'BREAD\\rAND BUTTER' WHERE category_id = 1")
    (categories,) = extract(settings, tmp_path, ["categories"])
    assert text(categories) == "1|BREAD\rAND BUTTER\n2|MEAT, FISH\n"
