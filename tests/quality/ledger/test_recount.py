"""The independent reader: lines, units and the hash of a source."""

import hashlib
import subprocess
import sys
import tempfile
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.kernels.lines import numbered_lines
from quality.ledger.recount import MARK, line_units, recount


@pytest.mark.parametrize(
    ("content", "lines", "units"),
    [
        (b"", 0, 0),
        (b"2013-01-01|102|530|20 3 1\n", 1, 3),
        (b"2013-01-01|102|530|20 3 1\n2013-01-01|102|587|11", 2, 4),
        (b"2013-01-01|102|530|20 3 1\r\n2013-01-01|102|587|11\r\n", 2, 4),
        (MARK + b"2013-01-01|102|530|20 3 1\n", 1, 3),
        (MARK, 0, 0),
        (MARK + b"\n", 1, 0),
        (b"\n\n", 2, 0),
        (b"a|b|c|5  5 5\n", 1, 3),
        (b"a|b|c| 5 \n", 1, 1),
        (b"a|b|c|\n", 1, 0),
        (b"a|b|c|   \n", 1, 0),
        (b"a|b|5 5\n", 1, 0),
        (b"a|b|c|5 5|d\n", 1, 0),
        (b"a|b|c|1\t2 x\xff\n", 1, 2),
        (b"1|2\n3|4\n", 2, 0),
    ],
)
def test_lines_and_units_are_counted(tmp_path: Path, content: bytes, lines: int, units: int) -> None:
    source = tmp_path / "source.csv"
    source.write_bytes(content)
    assert recount(str(source)) == (lines, units, len(content), hashlib.sha256(content).hexdigest(), 0)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_what_is_written_behind_the_bytes_admitted_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    admitted = b"2013-01-01|102|530|20 3 1\n2013-01-02|102|5"
    source = tmp_path / "source.csv"
    source.write_bytes(admitted)
    expected = recount(str(source))
    source.write_bytes(admitted + b"30|1 2\n" * 9)
    monkeypatch.setattr("quality.ledger.recount.BLOCK", block)
    assert recount(str(source), len(admitted)) == expected
    assert recount(str(source)).lines == 10


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([b"|", b" ", b"5", b"x", b"\t", b"\r", b"\n", b"\xff", b"\xc3\xa9", MARK])).map(b"".join)
)
def test_the_kernels_read_as_many_lines_and_their_text_as_many_units(content: bytes) -> None:
    texts = [t for batch in numbered_lines(BytesIO(content), 1) for t in batch["line"].to_pylist()]
    counted = _recounted(content)
    assert counted == (len(texts), sum(map(line_units, texts)))


@pytest.mark.parametrize(
    ("line", "units"),
    [
        ("2013-01-01|102|530|20 3 1", 3),
        ("2013-01-01|102|530|20 3 x\uefff1", 3),
        ("\uefff|102|530|20", 1),
        ("2013-01-01|102|530|", 0),
        ("2013-01-01;102;530;20", 0),
        ("", 0),
    ],
)
def test_a_quarantined_line_has_the_units_of_its_text(line: str, units: int) -> None:
    assert line_units(line) == units


def test_memory_does_not_grow_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.csv"
    source.write_bytes(b"2013-01-01|102|530|20 3 1\n" * 40_000)
    monkeypatch.setattr("quality.ledger.recount.BLOCK", 1 << 14)
    tracemalloc.start()
    try:
        assert recount(str(source)).units == 120_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


def test_the_reader_stands_on_the_standard_library_alone() -> None:
    asked = "import sys, quality.ledger.recount; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", asked], text=True).split()
    assert not {"lakehouse", "numpy", "pyarrow"} & set(loaded)


def _recounted(content: bytes) -> tuple[int, int]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return recount(file.name)[:2]
