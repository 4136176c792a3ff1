"""The sample is what it says it is, recounted by a reader of its own."""

import json
import re
from collections import Counter
from datetime import date
from itertools import combinations
from pathlib import Path

import pytest

from lakehouse.errors import StorageFailed, WrongUse
from lakehouse.sources.sample import SampleCounts, write_sample

MARK = b"\xef\xbb\xbf"
RULES = (
    "not_utf8",
    "wrong_field_count",
    "bad_date",
    "date_out_of_range",
    "bad_store",
    "bad_customer",
    "no_products",
    "bad_product",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleCounts]:
    into = tmp_path_factory.mktemp("sample") / "landing"
    return into, write_sample(into)


def lines_of(path: Path) -> list[bytes]:
    lines = [line.removesuffix(b"\r") for line in path.read_bytes().removeprefix(MARK).split(b"\n")]
    return lines if lines[-1] else lines[:-1]


def broken_rule(line: bytes) -> str | None:
    """Name the first rule a line breaks, the slow and plain way."""
    try:
        fields = line.decode("utf-8").split("|")
    except UnicodeDecodeError:
        return "not_utf8"
    if len(fields) != 4:
        return "wrong_field_count"
    try:
        day = date.fromisoformat(fields[0])
    except ValueError:
        return "bad_date"
    if not date(1990, 1, 1) <= day <= date(2100, 1, 1):
        return "date_out_of_range"
    products = fields[3].split()
    checks = {
        "bad_store": fields[1].isdigit(),
        "bad_customer": fields[2].isdigit(),
        "no_products": bool(products),
        "bad_product": all(product.isdigit() for product in products),
    }
    return next((rule for rule, kept in checks.items() if not kept), None)


def good_receipts(into: Path) -> list[list[str]]:
    lines = [line for path in sorted((into / "transactions").iterdir()) for line in lines_of(path)]
    return [line.decode().split("|") for line in lines if broken_rule(line) is None]


def content(into: Path) -> dict[str, bytes]:
    return {str(path.relative_to(into)): path.read_bytes() for path in sorted(into.rglob("*")) if path.is_file()}


def test_the_same_parameters_give_the_same_bytes(written: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    assert write_sample(tmp_path / "again") == written[1]
    assert content(tmp_path / "again") == content(written[0])


def test_the_bytes_are_those_of_every_other_machine(tmp_path: Path) -> None:
    write_sample(tmp_path, receipts=400, days=10, stores=1)
    lines = lines_of(tmp_path / "transactions/101_Tran.csv")
    assert lines[0] == b"2024-01-01|101|1000|122 68 28 6 91 127 159 183 13 113 15"
    assert lines[-1] == b"2024-01-10|101|1301|19 3 90 106 183 175"


def test_another_seed_gives_other_receipts(written: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    write_sample(tmp_path, seed=8)
    assert content(tmp_path)["transactions/101_Tran.csv"] != content(written[0])["transactions/101_Tran.csv"]


def test_the_counts_are_true(written: tuple[Path, SampleCounts]) -> None:
    into, counts = written
    receipts = good_receipts(into)
    assert (counts.receipts, len(receipts)) == (20_000, 20_000)
    assert counts.units == sum(len(products.split()) for *_, products in receipts)
    assert counts.customers == len({customer for _, _, customer, _ in receipts})
    assert counts.files == {name: len(lines_of(into / name)) for name in content(into) if name != "sample.json"}
    assert json.loads((into / "sample.json").read_bytes())["counts"]["units"] == counts.units


@pytest.mark.parametrize(("receipts", "stores"), [(400, 1), (400, 4), (2_000, 20), (20_000, 4)])
def test_every_rule_is_broken_as_often_as_stated_and_rarely(receipts: int, stores: int, tmp_path: Path) -> None:
    counts = write_sample(tmp_path, receipts=receipts, days=30, stores=stores)
    broken = {
        path.name: [broken_rule(line) for line in lines_of(path)] for path in (tmp_path / "transactions").iterdir()
    }
    assert Counter(rule for rules in broken.values() for rule in rules if rule) == counts.bad
    assert tuple(counts.bad) == RULES
    assert set(counts.bad.values()) <= {1, 2, 3}
    assert all(sum(rule is not None for rule in rules) < 0.04 * len(rules) for rules in broken.values())
    assert sum(rules.count(None) for rules in broken.values()) == receipts


def test_bad_lines_are_spread_over_the_files_and_one_is_blank(written: tuple[Path, SampleCounts]) -> None:
    files = [lines_of(path) for path in (written[0] / "transactions").iterdir()]
    assert all(any(broken_rule(line) for line in lines) for lines in files)
    assert sum(lines.count(b"") for lines in files) == 1


def test_line_ends_and_the_mark_differ_from_file_to_file(written: tuple[Path, SampleCounts]) -> None:
    plain, returns, unended, marked = (
        (written[0] / f"transactions/{n}_Tran.csv").read_bytes() for n in (101, 102, 103, 104)
    )
    assert plain.endswith(b"\n") and b"\r" not in plain
    assert returns.endswith(b"\r\n") and returns.count(b"\r\n") == returns.count(b"\n")
    assert not unended.endswith(b"\n")
    assert marked.startswith(MARK) and marked.endswith(b"\n")
    assert not any(file.startswith(MARK) for file in (plain, returns, unended))


def test_each_file_holds_the_same_line_twice_and_a_product_twice_in_a_line(written: tuple[Path, SampleCounts]) -> None:
    for path in (written[0] / "transactions").iterdir():
        good = [line for line in lines_of(path) if broken_rule(line) is None]
        assert good[0] == good[1]
        assert any(len(set(products)) < len(products) for products in (line.split(b"|")[3].split() for line in good))


def test_a_file_is_one_store_sorted_by_date_and_customer(written: tuple[Path, SampleCounts]) -> None:
    for path in (written[0] / "transactions").iterdir():
        good = [line.decode().split("|") for line in lines_of(path) if broken_rule(line) is None]
        keys = [(day, int(customer)) for day, _, customer, _ in good]
        assert keys == sorted(keys)
        assert {store for _, store, _, _ in good} == {path.name[:3]}


def test_every_day_has_receipts_and_weekends_more(written: tuple[Path, SampleCounts]) -> None:
    days = Counter(date.fromisoformat(day) for day, *_ in good_receipts(written[0]))
    assert (min(days), max(days), len(days)) == (date(2024, 1, 1), date(2024, 3, 30), 90)
    weekend = [n for day, n in days.items() if day.weekday() >= 5]
    assert sum(weekend) / len(weekend) > 1.2 * sum(days.values()) / len(days)


def test_few_customers_come_often(written: tuple[Path, SampleCounts]) -> None:
    visits = sorted(Counter(customer for _, _, customer, _ in good_receipts(written[0])).values())
    assert len(visits) == 2_500
    assert visits[0] < 3 and visits[-1] > 4 * 20_000 / 2_500


def test_baskets_hold_about_nine_units_of_two_hundred_products(written: tuple[Path, SampleCounts]) -> None:
    assert written[1].units / written[1].receipts == pytest.approx(9, abs=0.5)
    sold = Counter(product for *_, products in good_receipts(written[0]) for product in set(products.split()))
    assert len(sold) == 200
    assert max(sold.values()) > 15 * min(sold.values())


def test_topics_give_rules(written: tuple[Path, SampleCounts]) -> None:
    baskets = [set(products.split()) for *_, products in good_receipts(written[0])]
    alone = Counter(product for basket in baskets for product in basket)
    pairs = Counter(pair for basket in baskets for pair in combinations(sorted(basket), 2))
    frequent = {pair: n for pair, n in pairs.items() if n >= 0.005 * len(baskets)}
    directed = [(a, b, n) for (x, y), n in frequent.items() for a, b in ((x, y), (y, x))]
    lifts = [n * len(baskets) / alone[a] / alone[b] for a, b, n in directed if n >= 0.2 * alone[a]]
    assert sum(lift > 1.5 for lift in lifts) > 100
    assert max(lifts) > 4


def test_the_reference_files_hold_their_traps(written: tuple[Path, SampleCounts]) -> None:
    categories = (written[0] / "products/Categories.csv").read_bytes()
    header, *rows = lines_of(written[0] / "products/ProductCategory.csv")
    assert re.fullmatch(rb"(\d+\|[A-Z, ]+\n)+\d+\|[A-Z, ]+", categories) and b"," in categories
    assert header == b"v.Code_pr|v.code"
    assert len(set(rows)) < len(rows)
    listed = Counter(row.split(b"|")[0].decode() for row in set(rows))
    sold = {product for *_, products in good_receipts(written[0]) for product in products.split()}
    assert max(listed.values()) == 2
    assert listed.keys() - sold
    assert len(sold - listed.keys()) == 50
    assert {row.split(b"|")[1] for row in rows} <= {line.split(b"|")[0] for line in categories.split(b"\n")}


def test_a_sample_of_these_parameters_is_left_as_it_is(tmp_path: Path) -> None:
    first = write_sample(tmp_path, receipts=400)
    (tmp_path / "transactions/101_Tran.csv").write_bytes(b"touched")
    assert write_sample(tmp_path, receipts=400) == first
    assert (tmp_path / "transactions/101_Tran.csv").read_bytes() == b"touched"


def test_a_sample_of_other_parameters_is_replaced(tmp_path: Path) -> None:
    write_sample(tmp_path, receipts=400, stores=4)
    counts = write_sample(tmp_path, receipts=400, stores=2)
    assert sorted(content(tmp_path)) == sorted([*counts.files, "sample.json"])


def test_a_sample_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    counts = write_sample(tmp_path, receipts=400)
    stated = json.loads((tmp_path / "sample.json").read_bytes())
    (tmp_path / "sample.json").write_text(json.dumps(stated | {"counts": None}))
    (tmp_path / "transactions/101_Tran.csv").unlink()
    assert write_sample(tmp_path, receipts=400) == counts
    assert (tmp_path / "transactions/101_Tran.csv").exists()


@pytest.mark.parametrize("name", ["101_Tran.csv", "sample.json"])
def test_a_folder_that_holds_something_else_is_refused_and_untouched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(WrongUse, match="new, empty or an earlier sample"):
        write_sample(tmp_path)
    assert content(tmp_path) == {name: b'{"mine": 1}'}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongUse, match="a folder, not a file"):
        write_sample(tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"receipts": -1}, "receipts"),
        ({"receipts": 399}, "receipts"),
        ({"stores": 0}, "stores"),
        ({"receipts": 1_000, "stores": 11}, "stores"),
        ({"days": 0}, "days"),
        ({"receipts": 400, "days": 400}, "days"),
        ({"receipts": 50_000, "days": 30_000}, "days"),
        ({"seed": -7}, "seed"),
    ],
)
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, int], what: str, tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as raised:
        write_sample(tmp_path / "new", **wrong)
    assert raised.value.what == what
    assert not (tmp_path / "new").exists()


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match=r"Could not make .*/file/x/products: Not a directory\. Name a folder"):
        write_sample(tmp_path / "file" / "x")
