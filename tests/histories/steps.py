"""The steps of a history, and how random ones are made: plain values, so that a history can be printed and replayed."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.histories.shop import BROKEN, REFERENCES, UNREADABLE

PATHS = ("transactions/a.csv", "transactions/b.csv", "transactions/c.csv")
DAYS = ("2024-01-10", "2024-01-31", "2024-02-01", "2024-02-29", "2024-03-31", "2019-05-01")
MOST_STEPS = 12


@dataclass(frozen=True)
class Deliver:
    """A file of these bytes comes under a path: a new one, a correction, or one that cannot be read."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Grow:
    """Lines are added to the end of a file that is there."""

    path: str
    lines: bytes


@dataclass(frozen=True)
class Spoil:
    """The first line of a file becomes another one."""

    path: str
    line: bytes


@dataclass(frozen=True)
class Again:
    """The bytes of one path come under another one too, or instead."""

    path: str
    to: str
    moves: bool


@dataclass(frozen=True)
class Refer:
    """Other categories and products are delivered."""

    number: int


@dataclass(frozen=True)
class Run:
    """The main job runs, alone or twice at once, with or without the gates that cost most."""

    twice: bool = False
    checks: bool = False


@dataclass(frozen=True)
class Kill:
    """The main job runs, and dies before or after its so many-th durable step, if it has that many."""

    at: int
    moment: str


@dataclass(frozen=True)
class Fix:
    """A refused line is read as corrected, or waived when there is no correction."""

    which: int
    line: bytes | None


@dataclass(frozen=True)
class Replay:
    """Open lines are tried again; the rules are the same."""


@dataclass(frozen=True)
class Withdraw:
    """A file is taken out."""

    path: str


@dataclass(frozen=True)
class RollBack:
    """An earlier release is published again."""

    which: int


Step = Deliver | Grow | Spoil | Again | Refer | Run | Kill | Fix | Replay | Withdraw | RollBack


@dataclass(frozen=True)
class History:
    """Steps, from an empty lakehouse or from one with a release."""

    begins_empty: bool
    steps: tuple[Step, ...]


def _line(day: str, store: int, customer: int, products: list[int]) -> bytes:
    return f"{day}|{store}|{customer}|{' '.join(map(str, products))}".encode()


paths = st.sampled_from(PATHS)
good_lines = st.builds(
    _line,
    st.sampled_from(DAYS),
    st.integers(1, 2),
    st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
bad_lines = st.sampled_from(tuple(BROKEN))
lines = st.one_of(good_lines, good_lines, bad_lines)


def _content(listed: list[bytes], end: bytes, is_ended: bool) -> bytes:
    return end.join(listed) + (end if is_ended else b"")


contents = st.builds(
    _content, st.lists(lines, min_size=1, max_size=4), st.sampled_from((b"\n", b"\r\n")), st.booleans()
)
landings = st.one_of(
    st.builds(Deliver, paths, contents),
    st.builds(Deliver, paths, contents),
    st.builds(Deliver, paths, st.sampled_from(UNREADABLE)),
    st.builds(Grow, paths, st.builds(_content, st.lists(lines, min_size=1, max_size=2), st.just(b"\n"), st.booleans())),
    st.builds(Spoil, paths, bad_lines),
    st.builds(Again, paths, paths, st.booleans()),
    st.builds(Refer, st.integers(0, len(REFERENCES) - 1)),
)
runs = st.one_of(
    st.just(Run()),
    st.builds(Run, twice=st.booleans(), checks=st.sampled_from((False,) * 9 + (True,))),
    st.builds(Kill, st.integers(0, 70), st.sampled_from(("before", "after"))),
    st.builds(Fix, st.integers(0, 9), st.one_of(good_lines, st.none())),
    st.builds(Withdraw, paths),
    st.builds(RollBack, st.integers(0, 5)),
    st.just(Replay()),
)
steps = st.one_of(landings, landings, runs)
histories = st.builds(History, st.booleans(), st.lists(steps, min_size=1, max_size=MOST_STEPS).map(tuple))
