"""What the command line shows of values that come from outside."""

import json
from decimal import Decimal

import pytest

from flows.commands.output import print_facts, print_table


def test_what_comes_from_outside_is_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither markup nor a terminal's control characters, in names as in values."""
    print_table([{"products[units]": "\x1b[31m[red]1[/red]", "[/]": 2}], as_json=False)
    print_facts({"[/x]": "a\nb"}, as_json=False)
    said = capsys.readouterr().out
    assert [word in said for word in ("products[units]", "[/]", "[/x]", "\\x1b[31m[red]1[/red]", "a\\nb")] == [True] * 5
    assert "\x1b" not in said


def test_identifiers_can_be_copied_and_amounts_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"source_id": -5774654550954470612, "units": 1234567}], as_json=False)
    assert capsys.readouterr().out.split() == ["source_id", "units", "-5774654550954470612", "1,234,567"]


def test_a_list_of_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"different": [], "equal": 16}, as_json=False)
    assert capsys.readouterr().out.split() == ["different", "none", "equal", "16"]


def test_json_has_no_number_that_json_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"a": float("nan"), "b": [float("inf"), 1.5], "c": Decimal(2)}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 1.5], "c": 2}]
