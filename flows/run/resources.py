"""What runs are done with: they come before a run and go with it, or stay for the next one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

from flows.run.request import RunRequest
from lakehouse.engine.session import Engine, running_engine
from lakehouse.settings import Settings
from quality.suites.worker import Worker, take_worker


@dataclass(frozen=True)
class Resources:
    """An engine and the process of the checks, each there while a run needs it."""

    engine: Callable[[Settings], AbstractContextManager[Engine]] = running_engine
    checks: Callable[[], AbstractContextManager[Worker]] = take_worker


DEFAULT_RESOURCES = Resources()


@contextmanager
def kept_open(settings: Settings) -> Iterator[Resources]:
    """Give resources for several runs, one after the other: the first that needs one starts it, and it ends here."""
    with ExitStack() as until_the_end:
        engine = cache(lambda: until_the_end.enter_context(running_engine(settings)))
        checks = cache(lambda: until_the_end.enter_context(take_worker()))
        yield Resources(lambda _: nullcontext(engine()), lambda: nullcontext(checks()))


@contextmanager
def quality_worker(request: RunRequest, resources: Resources = DEFAULT_RESOURCES) -> Iterator[Worker]:
    """Start the process of the checks, which imports what suites need while there is other work."""
    with resources.checks() as checks:
        if request.parameters.enable_quality_checks:
            checks.prepare()
        yield checks
