"""Every line of a file is loaded or refused, and a reader sees the old rows or the new ones."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lakehouse.errors import BadInput, ServiceDown
from lakehouse.postgres.connection import connection, stop_embedded
from lakehouse.settings import Settings, load_settings
from lakehouse.sources import postgres_load
from lakehouse.sources.postgres_load import LoadCount, load

CATEGORIES = b"1|WATER\n2|MEAT, FISH"
PAIRS = b"v.Code_pr|v.code\n10|1\n10|2\n10|1\n11|2\n"
RECEIPTS = b"2024-01-01|102|7|10 11\n2024-01-02|102|8|11\n"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    chosen = load_settings(lakehouse_home=tmp_path_factory.mktemp("home"), postgres_host="")
    yield chosen
    stop_embedded(chosen)


@pytest.fixture(autouse=True)
def no_tables(settings: Settings) -> None:
    with connection(settings) as opened:
        opened.execute("DROP TABLE IF EXISTS categories, product_categories, transactions, refused_lines")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return delivered(tmp_path / "source")


def delivered(
    source: Path, categories: bytes = CATEGORIES, pairs: bytes = PAIRS, receipts: bytes | None = RECEIPTS
) -> Path:
    for folder in ("products", "transactions"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    (source / "products" / "Categories.csv").write_bytes(categories)
    (source / "products" / "ProductCategory.csv").write_bytes(pairs)
    if receipts is not None:
        (source / "transactions" / "102_Tran.csv").write_bytes(receipts)
    return source


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connection(settings) as opened:
        return opened.execute(query.encode()).fetchall()


def test_the_three_entities_are_loaded_with_repeats_kept(settings: Settings, source: Path) -> None:
    assert load(settings, source, transactions=True) == {
        "categories": LoadCount(lines=2, loaded=2, refused=0),
        "product_categories": LoadCount(lines=4, loaded=4, refused=0),
        "transactions": LoadCount(lines=2, loaded=2, refused=0),
    }
    assert rows(settings, "SELECT * FROM categories ORDER BY 1") == [(1, "WATER"), (2, "MEAT, FISH")]
    assert rows(settings, "SELECT * FROM product_categories ORDER BY 1, 2") == [(10, 1), (10, 1), (10, 2), (11, 2)]
    found = rows(settings, "SELECT sold_on::text, store_id, customer_id, products FROM transactions ORDER BY 1")
    assert found == [("2024-01-01", 102, 7, "10 11"), ("2024-01-02", 102, 8, "11")]


def test_transactions_are_left_alone_unless_asked_for(settings: Settings, source: Path) -> None:
    load(settings, source, transactions=True)
    assert "transactions" not in load(settings, source)
    assert rows(settings, "SELECT count(*) FROM transactions") == [(2,)]


def test_loading_again_replaces_and_without_truncate_appends(settings: Settings, source: Path) -> None:
    for _ in range(2):
        load(settings, source, transactions=True)
    assert rows(settings, "SELECT count(*) FROM transactions") == [(2,)]
    delivered(source, categories=b"3|NEW\n1|WATER\n")
    counts = load(settings, source, truncate=False, transactions=True)
    assert counts["categories"] == LoadCount(lines=2, loaded=1, refused=1)
    assert rows(settings, "SELECT count(*) FROM transactions") == [(4,)]
    assert rows(settings, "SELECT count(*) FROM product_categories") == [(8,)]
    delivered(source, categories=b"3|NEW\n1|WATER\n")
    assert load(settings, source, truncate=False)["categories"] == LoadCount(lines=2, loaded=0, refused=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.rstrip(b"\n"),
        lambda data: data.rstrip(b"\n") + b"\n",
        lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n").rstrip(),
    ],
    ids=["crlf", "mark", "no last feed", "last feed", "all"],
)
def test_line_ends_and_marks_do_not_matter(
    settings: Settings, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    source = delivered(tmp_path, change(CATEGORIES), change(PAIRS), change(RECEIPTS))
    counts = load(settings, source, transactions=True)
    assert [(count.loaded, count.refused) for count in counts.values()] == [(2, 0), (4, 0), (2, 0)]
    assert rows(settings, "SELECT category_name FROM categories ORDER BY category_id") == [("WATER",), ("MEAT, FISH",)]


def test_names_keep_every_character(settings: Settings, tmp_path: Path) -> None:
    names = ["a\\b", "\\N", "\\.", "tab\there", "back\rhere", "piñata", " blank ", '"quoted"']
    lines = "".join(f"{number}|{name}\n" for number, name in enumerate(names, 1))
    load(settings, delivered(tmp_path, categories=lines.encode()))
    assert [name for (name,) in rows(settings, "SELECT category_name FROM categories ORDER BY 1 DESC")]
    assert dict(rows(settings, "SELECT category_id, category_name FROM categories")) == dict(enumerate(names, 1))


def test_a_line_that_breaks_a_rule_is_kept_whole_with_the_rule(settings: Settings, tmp_path: Path) -> None:
    receipts = {
        b"2024-01-01|102|7|10": None,
        b"2024-01-01|102|7|10  11": None,
        b"caf\xe9|102|7|10": "not_utf8",
        b"2024-01-01|102|7": "wrong_field_count",
        b"": "wrong_field_count",
        b"2024-02-30|102|7|10": "bad_date",
        b"2024-01-01|x|7|10": "bad_store",
        b"2024-01-01|102|9223372036854775808|10": "bad_customer",
        b"2024-01-01|102|9223372036854775807|2147483647": None,
        b"2024-01-01|102|7|": "no_products",
        b"2024-01-01|102|7|10 2147483648": "bad_product",
        b"2024-01-01|102|7|10\\N": "bad_product",
        b"2024-01-01|102|7|1\x000": "bad_product",
    }
    pairs = {
        b"10|1": None,
        b"10": "wrong_field_count",
        b"x|1": "bad_product",
        b"1|x": "bad_category",
        b"\xff|1": "not_utf8",
    }
    categories = {
        b"1|A": None,
        b"1|B": "duplicate_category",
        b"1": "wrong_field_count",
        b"x|C": "bad_category",
        b"2|\xff": "not_utf8",
    }
    source = delivered(
        tmp_path, b"\n".join(categories), b"\n".join([b"v.Code_pr|v.code", *pairs]), b"\n".join(receipts)
    )
    counts = load(settings, source, transactions=True)
    for entity, file, first, lines in [
        ("categories", "products/Categories.csv", 1, categories),
        ("product_categories", "products/ProductCategory.csv", 2, pairs),
        ("transactions", "transactions/102_Tran.csv", 1, receipts),
    ]:
        refused = [(file, n, line, rule) for n, (line, rule) in enumerate(lines.items(), first) if rule]
        query = (
            f"SELECT file, line_number, line, rule FROM refused_lines WHERE entity = '{entity}' ORDER BY line_number"
        )
        assert rows(settings, query) == refused
        assert counts[entity] == LoadCount(len(lines), len(lines) - len(refused), len(refused))
    load(settings, delivered(tmp_path), transactions=True)
    assert rows(settings, "SELECT count(*) FROM refused_lines") == [(0,)]


def test_lines_are_counted_across_blocks_and_files(
    settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_load, "_BLOCK", 7)
    (source / "transactions" / "103_Tran.csv").write_bytes(RECEIPTS + b"broken\n" + RECEIPTS)
    assert load(settings, source, transactions=True)["transactions"] == LoadCount(lines=7, loaded=6, refused=1)
    assert rows(settings, "SELECT file, line_number FROM refused_lines") == [("transactions/103_Tran.csv", 3)]


def is_missing(file: Path) -> None:
    file.unlink()


def is_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def is_empty(file: Path) -> None:
    file.write_bytes(b"")


def is_binary(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 50)


def has_another_delimiter(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"|", b";"))


@pytest.mark.parametrize("break_it", [is_missing, is_a_folder, is_empty, is_binary, has_another_delimiter])
@pytest.mark.parametrize(
    "name", ["products/Categories.csv", "products/ProductCategory.csv", "transactions/102_Tran.csv"]
)
def test_a_file_that_cannot_be_its_entity_changes_nothing(
    settings: Settings, source: Path, name: str, break_it: Callable[[Path], None]
) -> None:
    load(settings, source, transactions=True)
    before = content(settings)
    delivered(source, categories=b"9|OTHER", pairs=b"v.Code_pr|v.code\n9|9", receipts=b"2024-09-09|9|9|9")
    break_it(source / name)
    with pytest.raises(BadInput) as caught:
        load(settings, source, transactions=True)
    assert str(source / name.partition("/")[0]) in caught.value.where
    assert content(settings) == before


def content(settings: Settings) -> list[list[tuple[Any, ...]]]:
    return [rows(settings, f"SELECT * FROM {table} ORDER BY 1, 2") for table in postgres_load.COLUMNS]


def test_a_wrong_header_and_a_header_alone_are_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be the header 'v.Code_pr|v.code'"):
        load(settings, delivered(tmp_path, pairs=b"product,category\n1|1\n"))
    with pytest.raises(BadInput, match="holds no line"):
        load(settings, delivered(tmp_path, pairs=b"v.Code_pr|v.code\n"))


def test_many_repeated_lines_first_cost_no_line(
    settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_load, "_ENOUGH_REFUSED", 2)
    monkeypatch.setattr(postgres_load, "_BLOCK", 8)
    load(settings, source)
    again = delivered(source, categories=b"1|WATER\n2|MEAT, FISH\n1|WATER\n3|BREAD\n")
    counts = load(settings, again, truncate=False)
    assert counts["categories"] == LoadCount(lines=4, loaded=1, refused=3)


def test_a_name_that_is_not_utf8_is_kept_with_its_refused_lines(settings: Settings, source: Path) -> None:
    with open(os.fsencode(source / "transactions") + b"/\xff.csv", "wb") as file:
        file.write(b"2024-01-01|102|7|10\nno line\n")
    assert load(settings, source, transactions=True)["transactions"] == LoadCount(lines=4, loaded=3, refused=1)
    assert rows(settings, "SELECT * FROM refused_lines")[0][1] == r"transactions/\xff.csv"


def test_no_folder_and_no_receipts_are_said(settings: Settings, source: Path) -> None:
    with pytest.raises(BadInput, match="there is no such folder"):
        load(settings, source / "nowhere")
    (source / "transactions" / "102_Tran.csv").unlink()
    with pytest.raises(BadInput, match=r"holds no \*\.csv"):
        load(settings, source, transactions=True)


def test_a_failure_in_the_middle_leaves_the_old_rows(
    settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(settings, source, transactions=True)
    before = content(settings)
    delivered(source, categories=b"9|OTHER")

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres_load, "_plain_receipts", fails)
    with pytest.raises(KeyboardInterrupt):
        load(settings, source, transactions=True)
    assert content(settings) == before


def test_a_killed_load_leaves_the_old_rows(settings: Settings, source: Path) -> None:
    load(settings, source, transactions=True)
    before = content(settings)
    delivered(source, categories=b"9|OTHER", receipts=b"2024-09-09|9|9|9\n" * 500_000)
    process = multiprocessing.get_context("fork").Process(target=load, args=(settings, source, True, True))
    process.start()
    while not rows(settings, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY \"transactions\"%'"):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert content(settings) == before


def test_readers_see_the_old_rows_or_the_new_ones(settings: Settings, source: Path) -> None:
    load(settings, source, transactions=True)
    with connection(settings) as repeatable:
        repeatable.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        repeatable.execute("SELECT 1")
        delivered(source, receipts=b"2024-09-09|9|9|9\n" * 100_000)
        process = multiprocessing.get_context("fork").Process(target=load, args=(settings, source, True, True))
        process.start()
        seen = set()
        while process.is_alive():
            seen.add(rows(settings, "SELECT count(*), min(sold_on)::text FROM transactions")[0])
        process.join()
        assert seen <= {(2, "2024-01-01"), (100_000, "2024-09-09")}
        assert repeatable.execute("SELECT count(*) FROM transactions").fetchone() == (2,), "its snapshot was older"
    assert rows(settings, "SELECT count(*) FROM transactions") == [(100_000,)]


def test_loading_again_and_again_does_not_grow_the_table(settings: Settings, source: Path) -> None:
    delivered(source, receipts=RECEIPTS * 5_000)
    sizes = []
    for _ in range(6):
        load(settings, source, transactions=True)
        sizes += rows(settings, "SELECT pg_relation_size('transactions')")
    assert sizes[5] <= sizes[2]


def test_a_table_of_another_shape_is_said_and_left(settings: Settings, source: Path) -> None:
    with connection(settings) as opened:
        opened.execute("CREATE TABLE categories (category_id int, name text)")
    with pytest.raises(ServiceDown, match="category_name"):
        load(settings, source)
    assert rows(settings, "SELECT to_regclass('product_categories')") == [(None,)]
