"""Modules that are loaded when something of them is first asked for, or not at all."""

import sys
from importlib import import_module
from types import ModuleType


class Deferred(ModuleType):
    """Stands for a module until an attribute of it is asked for."""

    def __getattr__(self, attribute: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), attribute)


def deferred(*names: str) -> None:
    """Have imports of these modules, unless they are loaded already, cost nothing before their first use."""
    for name in names:
        sys.modules.setdefault(name, Deferred(name))


def absent(*names: str) -> None:
    """Have imports of these modules fail, unless they are loaded already, as where nobody installed them."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # how Python is told so
