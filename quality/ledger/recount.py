"""Count what a source holds, independently of how it is read: the ledger's source side.

Standard library only, and nothing shared with the kernels: a mistake there must not repeat itself here.
"""

import hashlib
import re
import sys
from typing import BinaryIO, NamedTuple

BLOCK = 1 << 20
MARK = b"\xef\xbb\xbf"
HEADER = b"v.Code_pr|v.code"
_WORD = rb"[^ |\r\n]++"
_PLAIN = re.compile(rb"(?:%b\|%b\|%b\|%b(?: %b)*+\r?\n)*+" % ((_WORD,) * 5))


class Count(NamedTuple):
    """What a source holds; `sha256` is hexadecimal, `headers` is 1 when the first line names columns."""

    lines: int
    units: int
    bytes: int
    sha256: str
    headers: int


def recount(location: str, until: int = sys.maxsize) -> Count:
    """Count the lines and units of a file, and hash its bytes, in one pass: see `count_lines`. Errors: OSError."""
    with open(location, "rb") as file:
        return count_lines(file, until)


def count_lines(file: BinaryIO, until: int = sys.maxsize) -> Count:
    """Count the lines and units of what is read, and hash its bytes, in one pass.

    What was written after the first `until` bytes is not looked at. A line is what a line feed ends, and what follows
    the last one when it is not empty. A UTF-8 mark at the start is hashed, but is no line content. Units: see
    `line_units`. Memory: a block and the longest line. Errors: OSError.
    """
    lines = units = size = headers = 0
    digest = hashlib.sha256()
    while data := _whole_lines(file, until - size):
        digest.update(data)
        text = data.removeprefix(MARK) if size == 0 else data
        headers = headers if size else int(_is_header(text))
        size += len(data)
        lines += text.count(b"\n") + (text != b"" and not text.endswith(b"\n"))
        units += _units_of(text)
    return Count(lines, units, size, digest.hexdigest(), headers)


def _whole_lines(file: BinaryIO, left: int) -> bytes:
    data = file.read(min(BLOCK, left))
    return data + file.readline(left - len(data))


def _is_header(lines: bytes) -> bool:
    return lines.split(b"\n", 1)[0].removesuffix(b"\r") == HEADER


def _units_of(lines: bytes) -> int:
    """Count the units of whole lines: at once where every line is plain, else line by line.

    In a plain line one space separates two products, and none is anywhere else.
    """
    if _PLAIN.fullmatch(lines):
        return lines.count(b" ") + lines.count(b"\n")
    return sum(map(_units, lines.split(b"\n")))


def line_units(line: str) -> int:
    """Count the products a line lists: the words after its third `|`, when it has exactly three; otherwise 0.

    Words are separated by spaces; carriage returns at the end are none. A byte that was not UTF-8 is a character.
    """
    return _units(line.encode("utf-8", "surrogatepass"))


def _units(line: bytes) -> int:
    if line.count(b"|") != 3:
        return 0
    words = line[line.rindex(b"|") + 1 :].rstrip(b"\n").rstrip(b"\r").split(b" ")
    return len(words) - words.count(b"")
