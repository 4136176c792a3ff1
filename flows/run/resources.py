"""What runs are done with: they come before a run and go with it, or stay for the next one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

from flows.run.request import Order
from lakehouse.engine.session import Engine, running
from lakehouse.settings import Settings
from quality.suites.worker import Worker, started


@dataclass(frozen=True)
class Means:
    """An engine and the process of the checks, each there while a run needs it."""

    engine: Callable[[Settings], AbstractContextManager[Engine]] = running
    checks: Callable[[], AbstractContextManager[Worker]] = started


MEANS = Means()


@contextmanager
def lasting(settings: Settings) -> Iterator[Means]:
    """Give means for several runs, one after the other: the first that needs one starts it, and it ends here."""
    with ExitStack() as until_the_end:
        engine = cache(lambda: until_the_end.enter_context(running(settings)))
        checks = cache(lambda: until_the_end.enter_context(started()))
        yield Means(lambda _: nullcontext(engine()), lambda: nullcontext(checks()))


@contextmanager
def checking(order: Order, means: Means = MEANS) -> Iterator[Worker]:
    """Start the process of the checks, which imports what suites need while there is other work."""
    with means.checks() as checks:
        if order.parameters.enable_quality_checks:
            checks.prepare()
        yield checks
