"""The steps of a run that outlive it, by name: where a test can cut a run off."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watcher = Callable[[str, str], None]


def nobody(_step: str, _moment: str) -> None:
    """Watch nothing."""


_watchers: list[Watcher] = [nobody]


def watch(watcher: Watcher) -> None:
    """Have every durable step told to a watcher: its name, and the moment, "before" or "after"."""
    _watchers[:] = [watcher]


@contextmanager
def durable(step: str) -> Iterator[None]:
    """Name what is done inside; it has happened wholly or not at all once the process is gone."""
    _watchers[0](step, "before")
    yield
    _watchers[0](step, "after")
