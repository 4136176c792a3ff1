"""Import the suites without what Great Expectations imports for expectations that are not used here.

The one place that puts a placeholder into `sys.modules`, and only in the process of the checks. With placeholders for
`UNUSED` the import takes 1.8 s of CPU time, without them 2.3 s (medians of eleven each); `make run` takes 9.9 s.
"""

import gc
import sys
from importlib import import_module
from types import ModuleType

UNUSED = ("altair", "scipy.stats")


class Placeholder(ModuleType):
    """Stand for a module until something of it is asked for."""

    def __getattr__(self, attribute: str) -> object:
        if isinstance(sys.modules.get(self.__name__), Placeholder):
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), attribute)


def import_suites() -> None:
    """Import the suites, and with them Great Expectations: it takes seconds."""
    for name in UNUSED:
        sys.modules.setdefault(name, Placeholder(name))
    gc.disable()  # the imports leave nothing to collect, and looking for it takes a fifth of their time
    import quality.suites.suites  # noqa: F401

    gc.freeze()
    gc.set_threshold(50_000)  # what suites leave is little; looking for it every 700 objects is not
    gc.enable()
