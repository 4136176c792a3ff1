"""Cut a run off at a durable step, within this process."""

import itertools
from dataclasses import dataclass, field


class Killed(BaseException):
    """The process is gone: nobody may catch it, and nothing durable happens after it."""


class Counted:
    """Number the durable steps of a run as they begin; builds run beside each other, so one may end after the next.

    Heartbeats have no number: they come when they come.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._begun = itertools.count()

    def number(self, step: str, moment: str) -> int:
        if step == "heartbeat":
            return -1
        if moment == "before":
            self._numbers[step] = next(self._begun)
        return self._numbers[step]


@dataclass
class Killer:
    """Die at the so many-th durable step and stay dead; what would only keep or give back the lease ends silently."""

    at: int
    moment: str
    counted: Counted = field(default_factory=Counted)
    is_dead: bool = False

    def __call__(self, step: str, moment: str) -> None:
        self.is_dead |= (self.counted.number(step, moment), moment) == (self.at, self.moment)
        if self.is_dead and step in ("heartbeat", "give back the lease"):
            raise OSError("the process is gone")
        if self.is_dead:
            raise Killed
