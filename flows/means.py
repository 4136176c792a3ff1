"""What runs are done with: they come before a run and go with it, or stay for the next one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from flows.order import Order
from lakehouse.engine import Engine, running
from lakehouse.settings import Settings
from quality.worker import Worker, started


@dataclass(frozen=True)
class Means:
    """An engine and the process of the checks, each there while a run needs it."""

    engine: Callable[[Settings], AbstractContextManager[Engine]] = running
    checks: Callable[[], AbstractContextManager[Worker]] = started


MEANS = Means()


@contextmanager
def checking(order: Order, means: Means = MEANS) -> Iterator[Worker]:
    """Start the process of the checks, which imports what suites need while there is other work."""
    with means.checks() as checks:
        if order.parameters.enable_quality_checks:
            checks.prepare()
        yield checks
