"""Bytes of a file to numbered lines."""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

BLOCK = 8 << 20
MARK = b"\xef\xbb\xbf"
OCTET = 0xEF00  # a byte that is not UTF-8 becomes the private-use character U+EF00 + byte
_OCTETS = re.compile("[\uef80-\uefff]")
LF, CR = 10, 13


class Bytes(Protocol):
    """What is read from its place on."""

    def read(self, size: int) -> bytes: ...
    def tell(self) -> int: ...


def numbered_lines(
    file: Bytes, source_id: int, block: int = BLOCK, before: int = 0, until: int = sys.maxsize
) -> Iterator[pa.RecordBatch]:
    """Split a file at line feeds, drop a carriage return before one and a UTF-8 mark at the start.

    Gives batches of `source_id` int64, `line_number` int32 (from 1), `line` string. What follows the last line
    feed is a line when it is not empty; an empty line is a line. The file stands after its first `before` lines; what
    was written after its first `until` bytes is not read. Memory: a few blocks.
    """
    head, count = file.read(min(len(MARK), until - file.tell())), before
    rest = b"" if head == MARK and not before else head
    for data in iter(lambda: file.read(min(block, until - file.tell())), b""):
        whole, feed, rest = (rest + data).rpartition(b"\n")
        if feed:
            yield _batch(whole + feed, source_id, count)
            count += whole.count(b"\n") + 1
    if rest:
        yield _batch(rest if rest.endswith(b"\n") else rest + b"\n", source_id, count)


def text_of(octets: bytes) -> str:
    """Decode UTF-8 losslessly: bytes that are not become private-use characters.

    Those characters themselves, should they be delivered, are taken byte by byte: each text has one reading.
    """
    decoded = _OCTETS.sub(_spelled, octets.decode("utf-8", "surrogateescape"))
    return "".join(chr(ord(c) - 0xDC00 + OCTET) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in decoded)


def delivered_lines(lines: Iterable[str]) -> Iterator[bytes]:
    """Write lines as a file that `numbered_lines` reads as the same lines: the mark, and CR LF after each.

    One mark and one carriage return are dropped on reading, so that a line's own ones stay.
    """
    yield MARK
    for line in lines:
        yield octets_of(line) + b"\r\n"


def octets_of(text: str) -> bytes:
    """Give the bytes that `text_of` made a text of."""
    escaped = _OCTETS.sub(lambda found: chr(ord(found.group()) - OCTET + 0xDC00), text)
    return escaped.encode("utf-8", "surrogateescape")


def _spelled(character: re.Match[str]) -> str:
    return "".join(chr(OCTET + octet) for octet in character.group().encode())


def _batch(data: bytes, source_id: int, before: int) -> pa.RecordBatch:
    octets = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(octets == LF)
    preceded = feeds[feeds > 0] - 1
    returns = preceded[octets[preceded] == CR]
    ends = feeds - np.arange(len(feeds)) - np.searchsorted(returns, feeds)
    kept = np.delete(octets, np.concatenate([feeds, returns]))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lines = pa.StringArray.from_buffers(len(feeds), pa.py_buffer(offsets), pa.py_buffer(kept))
    if not _is_plain(data):
        lines = pa.array([text_of(bytes(v)) for v in lines.cast(pa.binary(), safe=False).to_pylist()], pa.string())
    numbers = np.arange(before + 1, before + 1 + len(feeds), dtype=np.int32)
    ids = np.full(len(feeds), source_id, np.int64)
    return pa.record_batch([pa.array(ids), pa.array(numbers), lines], ["source_id", "line_number", "line"])


def _is_plain(lines: bytes) -> bool:
    """Say whether text of these lines is their bytes: each UTF-8, without the characters that stand for bytes.

    Without their line feeds the end of one and the beginning of the next could make a character.
    """
    if lines.isascii():
        return True
    try:
        lines.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\xee\xbe" not in lines and b"\xee\xbf" not in lines
