"""Find the table modules: build order, groups, what is downstream of what."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.errors import NotFound
from lakehouse.table import Layer, Table

LAYERS = tuple(layer.value for layer in Layer)


@dataclass(frozen=True)
class Entry:
    """A table with its build; `build` is None where rows are recorded by the run itself (ops).

    A build gives a frame; or rows that it has already, as declared and without doubles, which would not be rounded, and
    of a table that is not written source by source.
    """

    table: Table
    build: Callable[..., DataFrame | pa.Table] | None
    module: str

    @property
    def takes_parameters(self) -> bool:
        return self._takes("parameters")

    @property
    def takes_earlier(self) -> bool:
        """Say whether it is made of its earlier rows and what was touched since, where there are any."""
        return self._takes("earlier")

    def _takes(self, name: str) -> bool:
        return self.build is not None and name in inspect.signature(self.build).parameters


@cache
def entries() -> tuple[Entry, ...]:
    """Give every table, inputs before what is made of them, else by layer and name."""
    found = {e.table.qualified_name: e for e in map(_entry, _modules()) if e is not None}
    order = TopologicalSorter(
        {n: sorted(t.qualified_name for t in e.table.inputs.values()) for n, e in sorted(found.items())}
    )
    return tuple(found[name] for name in order.static_order() if name in found)


def entry(name: str) -> Entry:
    """Look up a table by its qualified name; errors: NotFound."""
    for candidate in entries():
        if candidate.table.qualified_name == name:
            return candidate
    raise NotFound("table", name, sorted(e.table.qualified_name for e in entries()))


def tables(layer: Layer | None = None, group: str | None = None) -> tuple[Table, ...]:
    """Give the tables of a layer or group in build order."""
    chosen = (e.table for e in entries())
    return tuple(t for t in chosen if layer in (None, t.layer) and group in (None, t.group))


def released_tables() -> tuple[Table, ...]:
    """Give the tables a release names a version of: all but the logs."""
    return tuple(t for t in tables() if not t.is_log)


def groups() -> tuple[str, ...]:
    """Give the gold groups, sorted."""
    return tuple(sorted({t.group for t in tables(Layer.GOLD) if t.group}))


def downstream(name: str) -> frozenset[str]:
    """Give the qualified names of every table made, at any distance, of this one."""
    made_of = {t.qualified_name: {i.qualified_name for i in t.inputs.values()} for t in tables()}
    reached = {name}
    for table in tables():
        if made_of[table.qualified_name] & reached:
            reached.add(table.qualified_name)
    return frozenset(reached - {name})


def _modules() -> list[str]:
    prefixes = tuple(f"lakehouse.{layer}." for layer in LAYERS)
    walk = pkgutil.walk_packages([str(Path(__file__).parent)], "lakehouse.")
    return sorted(m.name for m in walk if m.name.startswith(prefixes) and not m.ispkg)


def _entry(module: str) -> Entry | None:
    loaded = importlib.import_module(module)
    table = getattr(loaded, "TABLE", None)
    if table is None:
        return None
    build = getattr(loaded, "build", None)
    expected = set(table.inputs)
    if build is not None:
        given = set(inspect.signature(build).parameters) - {"parameters", "earlier"}
        if given != expected:
            raise ValueError(f"{module}: build takes {sorted(given)}, its inputs are {sorted(expected)}")
    return Entry(table, build, module)
