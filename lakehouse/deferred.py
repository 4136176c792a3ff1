"""Modules that are loaded when something of them is first asked for, or not at all."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module until an attribute of it is asked for."""

    def __getattr__(self, attribute: str) -> object:
        return getattr(_loaded(self.__name__), attribute)


class Unused(Deferred):
    """Stands for a module of which others import functions by name, until one of these is used."""

    def __getattr__(self, attribute: str) -> "Later":
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Later(self.__name__, attribute)


class Later:
    """Stands for a function of a module, or another object that is called or asked for what it has."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *given: Any, **named: Any) -> Any:
        return getattr(_loaded(self._module), self._name)(*given, **named)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(_loaded(self._module), self._name), attribute)


def _loaded(name: str) -> ModuleType:
    if isinstance(sys.modules.get(name), Deferred):
        sys.modules.pop(name, None)
    return import_module(name)


def deferred(*names: str) -> None:
    """Have imports of these modules, unless they are loaded already, cost nothing before their first use."""
    for name in names:
        sys.modules.setdefault(name, Deferred(name))


def unused(*names: str) -> None:
    """Have imports of these modules, and of their functions by name, cost nothing before one of these is used."""
    for name in names:
        sys.modules.setdefault(name, Unused(name))


def absent(*names: str) -> None:
    """Have imports of these modules fail, unless they are loaded already, as where nobody installed them."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # how Python is told so
