"""Lines of a file, whatever its bytes."""

from io import BytesIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.lines import MARK, delivered_lines, numbered_lines, text_of

PIECES = [b"\n", b"\r", b"\r\n", b"|", b"5", b" ", b"\0", b"\xff", b"\xc3", b"\xa9", b"\xe2", b"\x82", b"\xc3\xa9"]
PIECES += [b"\xed\xa0\x80", b"\xef", MARK]
PRIVATE = ["\uef0a", "\uef7f", "\uef80", "\uef8a", "\uefff", "\uf000", "\U0001f6d2"]


def cut(text: str, places: set[int]) -> bytes:
    """Put line feeds between the bytes of a text, within characters too."""
    return b"".join(b"\n" * (at in places) + bytes([octet]) for at, octet in enumerate(text.encode()))


BYTES = st.one_of(
    st.binary(),
    st.lists(st.sampled_from([*PIECES, *(p.encode() for p in PRIVATE)])).map(b"".join),
    st.builds(cut, st.text("aé€🛒", max_size=12), st.sets(st.integers(0, 40))),
)
BLOCKS = st.integers(1, 40)


def texts(content: bytes, block: int = 1 << 20) -> list[str]:
    return [line for batch in numbered_lines(BytesIO(content), 7, block) for line in batch["line"].to_pylist()]


def by_definition(content: bytes) -> list[bytes]:
    pieces = content.removeprefix(MARK).split(b"\n")
    return [piece.removesuffix(b"\r") for piece in (pieces if pieces[-1] else pieces[:-1])]


def octets(text: str) -> bytes:
    """Undo `text_of`."""
    return b"".join(bytes([ord(c) - 0xEF00]) if "\uef80" <= c <= "\uefff" else c.encode() for c in text)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\nb\r", ["a", "b"]),
        (b"a\r\r\n", ["a\r"]),
        (b"a\rb\n", ["a\rb"]),
        (b"\n", [""]),
        (b"\n\n\n", ["", "", ""]),
        (b"\r\n", [""]),
        (b"\r", [""]),
        (b"a\n\n", ["a", ""]),
        (MARK, []),
        (MARK + b"\n", [""]),
        (MARK + b"a\n", ["a"]),
        (MARK + MARK + b"a\n", ["\ufeffa"]),
        (b"a\n" + MARK + b"b", ["a", "\ufeffb"]),
        (b"\xef\xbb", ["\uefef\uefbb"]),
        ("Ñandú, café\n".encode(), ["Ñandú, café"]),
        (b"a\xc3\n\xa9b\n", ["a\uefc3", "\uefa9b"]),
        (b"\xe2\x82\r\n\xac\n", ["\uefe2\uef82", "\uefac"]),
        (b"a\0b\n", ["a\0b"]),
        (b"a\xffb\nc\n", ["a\uefffb", "c"]),
        (b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n", ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
def test_a_file_is_split_at_line_feeds_only(content: bytes, lines: list[str], block: int) -> None:
    assert texts(content, block) == lines


def test_lines_are_numbered_from_one_over_all_blocks() -> None:
    batches = list(numbered_lines(BytesIO(MARK + b"a\nbb\n\nccc\nd"), -5, block=4))
    assert len(batches) > 1
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["line_number"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["line"] for row in rows] == ["a", "bb", "", "ccc", "d"]
    assert {row["source_id"] for row in rows} == {-5}


def test_batches_have_the_types_of_bronze() -> None:
    (batch,) = numbered_lines(BytesIO(b"a\n"), 2**63 - 1)
    assert batch.schema == pa.schema({"source_id": pa.int64(), "line_number": pa.int32(), "line": pa.string()})


@given(BYTES, BLOCKS)
@settings(deadline=None, max_examples=250)
def test_any_bytes_in_any_blocks_give_the_lines_by_definition(content: bytes, block: int) -> None:
    batches = list(numbered_lines(BytesIO(content), 7, block))
    for batch in batches:
        batch.validate(full=True)
    assert [text for b in batches for text in b["line"].to_pylist()] == list(map(text_of, by_definition(content)))
    numbers = [number for b in batches for number in b["line_number"].to_pylist()]
    assert numbers == list(range(1, len(numbers) + 1))


@given(BYTES, BLOCKS)
@settings(deadline=None, max_examples=250)
def test_the_bytes_of_a_line_can_be_had_back(content: bytes, block: int) -> None:
    assert [octets(text) for text in texts(content, block)] == by_definition(content)


@given(BYTES)
@settings(deadline=None, max_examples=250)
def test_a_file_made_of_its_lines_has_the_same_lines(content: bytes) -> None:
    lines = texts(content)
    assert texts(b"".join(delivered_lines(lines))) == lines


@given(st.text())
@settings(deadline=None)
def test_text_without_private_characters_stays_as_it_is(text: str) -> None:
    plain = "".join(c for c in text if not "\uef80" <= c <= "\uefff")
    assert text_of(plain.encode("utf-8", "ignore")) == plain.encode("utf-8", "ignore").decode()


def test_a_private_character_is_not_taken_for_a_byte() -> None:
    """U+EF80 as three bytes of UTF-8 and the single byte 0x80 are different lines."""
    assert text_of(b"\x80") == "\uef80"
    assert text_of("\uef80".encode()) == "\uefee\uefbe\uef80"
    assert texts("a\uefff\nb\n".encode()) == ["a\uefee\uefbf\uefbf", "b"]
