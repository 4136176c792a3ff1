"""The oracle's reading of files, held to the kernels': two readings of one definition."""

from collections.abc import Iterator
from datetime import date
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.kernels.lines import numbered_lines
from lakehouse.kernels.receipt_rules import Receipt, Refusal, read_line
from lakehouse.sources import landing
from lakehouse.sources.landing import Delivery
from lakehouse.sources.sample import BAD_LINES
from quality.oracle import landed_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARK = b"\xef\xbb\xbf"
DATES = [b"2024-01-02", b"2024-02-30", b"0000-01-01", b"1989-12-31", b"1990-01-01", b"2100-01-01", b"2100-01-02"]
NUMBERS = [b"0", b"7", b"7 7 3", b"007", b"2147483647", b"2147483648", b"9223372036854775807", b"9223372036854775808"]
NUMBERS += [b"0000000000000000001", b"00000000000000000001", b"+1", b"-1", b"1.5", b"1e3", b"\xef\xbc\x91"]
ENDS = [b"\r", b"\n", b"\r\n", b"\r\r\n"]
OTHERS = [b"|", b" ", b"  ", b"x", b"\\", b"\\x0A", b"'", b'"', b"\t", b"\0", b"\xff", b"\xc3", b"\xc3\xa9", MARK]
OTHERS += [b"\xed\xa0\x80", b"\xc0\x80", b"\xee\xbe\x80", b"\xee\xbf\xb0", b"\xee\xbc\x80", b"\xf0\x9f\x8d\x9e"]
PIECES = [*DATES, *NUMBERS, *ENDS, *OTHERS]
GOOD = [b"2024-01-02|101|17|4 9", b"2024-01-02|101|17| 4  9 4 ", b"1990-01-01|2147483647|9223372036854775807|0"]
LINES = [line + b"\n" for line in (*GOOD, *(line for lines in BAD_LINES.values() for line in lines))]
FIELDS = st.tuples(*(st.sampled_from(some) for some in (DATES, NUMBERS, NUMBERS, NUMBERS, ENDS)))
BRONZE = pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("landed") / "delivered.csv"


@pytest.fixture(scope="module")
def duck() -> "Iterator[DuckDBPyConnection]":
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(landed_files.MACROS)
        yield connection


def read(duck: "DuckDBPyConnection", file: Path, content: bytes) -> None:
    duck.execute(landed_files.TABLES.replace("CREATE", "CREATE OR REPLACE"))
    file.write_bytes(content)
    landed_files.read_landed(duck, [Delivery("transactions", "delivered.csv", str(file), "00" * 32, len(content))])


def by_duckdb(duck: "DuckDBPyConnection", file: Path, content: bytes) -> list[tuple[Any, ...]]:
    """Give number, spelling, rule and receipt of each line of the blocks read last."""
    read(duck, file, content)
    receipt = "if(rule IS NULL, (sold_on, store_id, customer_id, products), NULL)"
    return duck.execute(f"SELECT line_number, delivered, rule, {receipt} FROM judged ORDER BY 1").fetchall()


def by_kernels(duck: "DuckDBPyConnection", content: bytes) -> list[tuple[Any, ...]]:
    lines = pa.Table.from_batches(numbered_lines(BytesIO(content), 1), BRONZE)
    duck.register("bronze", lines)
    rows = duck.execute("SELECT line_number, line, spelled(line) FROM bronze ORDER BY 1").fetchall()
    told = []
    for number, line, spelled in rows:
        match read_line(line):
            case Refusal() as refusal:
                told.append((number, spelled, refusal.rule, None))
            case Receipt() as receipt:
                told.append((number, spelled, None, tuple(receipt)))
    return told


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from(PIECES) | st.sampled_from(LINES) | FIELDS.map(lambda f: b"|".join(f[:4]) + f[4]),
        min_size=1,
        max_size=40,
    )
)
@example([MARK])
@example([MARK, MARK, b"\n"])
@example([b"\n"])
@example([b"\r"])
@example([b"2024-01-01|1|1|1 \xc3\n\xa9\n2024-01-01|1|1|1\n"])
@example([b"2024-01-02|1|2|3\r\r\n2024-01-02|1|2|3\r"])
@example([b"2024-01-02|1|2|3\r2024-01-02|1|2|4\n"])
def test_any_bytes_are_read_as_the_kernels_read_them(
    duck: "DuckDBPyConnection", file: Path, pieces: list[bytes]
) -> None:
    content = b"".join(pieces)
    assert by_duckdb(duck, file, content) == by_kernels(duck, content)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=20))
def test_any_bytes_in_a_line_have_one_spelling(duck: "DuckDBPyConnection", file: Path, octets: list[bytes]) -> None:
    content = b"".join(b"2024-01-02|1|2|3"[: n % 17] + some + b"\n" for n, some in enumerate(octets))
    assert by_duckdb(duck, file, content) == by_kernels(duck, content)


def test_lines_are_numbered_across_blocks(
    duck: "DuckDBPyConnection", file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"".join(b"2024-01-%02d|101|%d|4 %d\n" % (1 + n % 28, n, n) for n in range(1_000))
    monkeypatch.setattr(landed_files, "BLOCK", 5_000)
    assert by_duckdb(duck, file, MARK + content) == by_kernels(duck, content)


def test_at_the_edges_of_the_short_way_lines_are_judged_as_by_the_kernels(
    duck: "DuckDBPyConnection", file: Path
) -> None:
    stores = [b"999999999", b"1000000000", b"2147483647", b"2147483648"]
    customers = [b"999999999999999999", b"9223372036854775807", b"9223372036854775808"]
    products = [b"999999999 7", b"7 2147483647", b"7 2147483648", b"7  8", b" 7", b"7 ", b""]
    content = b"".join(b"|".join(fields) + b"\n" for fields in product(DATES, stores, customers, products))
    assert by_duckdb(duck, file, content) == by_kernels(duck, content)


def test_a_right_line_that_was_decided_about_is_read_once_and_as_decided(
    duck: "DuckDBPyConnection", file: Path
) -> None:
    duck.execute(landed_files.TABLES.replace("CREATE", "CREATE OR REPLACE"))
    file.write_bytes(b"2024-01-02|101|17|4 9\n2024-01-02|101|18|4\n")
    delivery = Delivery("transactions", "delivered.csv", str(file), "00" * 32, file.stat().st_size)
    decided = [delivery.source_id, 1, "2024-01-02|101|17|5", "bad_product"]
    duck.execute("INSERT INTO decided VALUES (?, ?, ?, ?)", decided)
    landed_files.read_landed(duck, [delivery])
    found = duck.execute("SELECT line_number, delivered, broken, products FROM judged ORDER BY ALL").fetchall()
    assert found == [(1, "2024-01-02|101|17|4 9", "bad_product", [5]), (2, "2024-01-02|101|18|4", None, [4])]


def test_a_product_twice_in_a_line_is_two_units_and_one_receipt(duck: "DuckDBPyConnection", file: Path) -> None:
    read(duck, file, b"2024-01-02|101|17|4 9 4\n2024-01-02|101|18|4\n2024-01-03|101|17|4\n")
    sold = duck.execute(
        "SELECT sold_on, store_id, product_id, sum(units), sum(receipts) FROM sold GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    visits = duck.execute("FROM visits ORDER BY ALL").fetchall()
    first, second = date(2024, 1, 2), date(2024, 1, 3)
    assert sold == [(first, 101, 4, 3, 2), (first, 101, 9, 1, 1), (second, 101, 4, 1, 1)]
    assert visits == [(first, 17), (first, 18), (second, 17)]


def test_a_file_is_there_as_long_as_it_has_the_bytes_admitted(tmp_path: Path) -> None:
    file = tmp_path / "delivered.csv"
    file.write_bytes(b"2024-01-02|101|17|4\n")
    found = landing.delivery("transactions", "delivered.csv", file)
    assert landed_files.is_there(found)
    file.write_bytes(b"2024-01-02|101|17|4\n2024-")
    assert landed_files.is_there(found)
    file.write_bytes(b"2024-01-02|101|17|5\n")
    assert not landed_files.is_there(found)
    file.unlink()
    assert not landed_files.is_there(found)


@pytest.mark.parametrize("repeats", [landed_files._repeats, landed_files._sorted_repeats])
@given(lists=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), max_size=12), ticked=st.integers(1, 40))
def test_a_list_with_a_product_twice_is_found(repeats: Any, lists: list[list[int]], ticked: int) -> None:
    """By ticking off, however few lists are looked at together, as by sorting."""
    units = np.array([len(one) for one in lists], np.int32)
    products = np.array([product for one in lists for product in one], np.int32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(landed_files, "TICKED", ticked)
        found = repeats(units, products)
    assert found.tolist() == [at for at, one in enumerate(lists) if len(set(one)) < len(one)]
