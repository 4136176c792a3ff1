"""What a check found."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """One check of one table's version: what must be true, whether it is, what was found, what finding it cost."""

    table: str
    version: int
    check: str
    severity: str
    passed: bool
    observed: str
    seconds: float
