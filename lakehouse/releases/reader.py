"""A release opened for reading, for notebooks, scripts and tools: what `lakehouse.open` gives."""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple, Self

import pyarrow as pa
from pyarrow.dataset import Dataset
from pyspark.errors import PySparkException

from lakehouse import catalog
from lakehouse.errors import NotFound, NothingPublished, StorageFailed, WrongUse
from lakehouse.releases import release as published
from lakehouse.releases.release import Release, Snapshot
from lakehouse.settings import load_settings
from lakehouse.storage.places import problem_of, whole_place
from lakehouse.storage.tables import Storage, storage_errors
from lakehouse.table import Layer, Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pandas import DataFrame as PandasFrame
    from pyspark.sql import DataFrame, SparkSession

HIDDEN = "__of_release__"  # between layer and name of what the views of DuckDB stand on
REASON_CHARACTERS = 300
ENGINE_REMEDY = (
    "Check that the engine of that session reads this place. Sail finds no table under a path with spaces, or with "
    "letters beyond a to z: open the lakehouse by a link that has none."
)


class ReadableTable(NamedTuple):
    """A table of a release: its name, the version readers see, its rows, and what a row is."""

    name: str
    version: int
    rows: int
    doc: str


class ReleaseReader:
    """A release opened for reading: every table as of that release, by its name, such as "gold.product_sales".

    The logs (`ops.runs`, ...) are of no release: they are read as they are when one is first asked for.
    As a context manager it closes the connections it gave, and says of a release that expired meanwhile that it did.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._connections: list[DuckDBPyConnection] = []

    @property
    def release(self) -> Release:
        """The release: its number, when it was published, its parameters, digests and more."""
        return self.snapshot.release

    @property
    def storage(self) -> Storage:
        """Where its tables are."""
        return self.snapshot.storage

    def tables(self) -> list[ReadableTable]:
        """List the tables of the release, inputs before what is made of them; errors: StorageFailed, NotKept.

        >>> import lakehouse
        >>> names = [table.name for table in lakehouse.open().tables()]
        """
        with self._kept_or_told():
            return [
                ReadableTable(table.qualified_name, version, self.storage.count(table, version), table.doc)
                for table, version in self._tables.values()
            ]

    def logs(self) -> list[str]:
        """Name the logs that are there; they can be read, and asked in SQL, like tables."""
        return list(self._logs)

    def arrow(self, name: str) -> pa.Table:
        """Read a table into memory as Arrow's; errors: NotFound, StorageFailed, NotKept."""
        with self._kept_or_told():
            return self.storage.rows(*self._named(name))

    def pandas(self, name: str) -> "PandasFrame":
        """Read a table into memory as a frame of pandas; errors: as `arrow`.

        Dates become datetime64. An integer column with gaps becomes one of floats, as pandas has it; `arrow` keeps it.
        """
        frame: PandasFrame = self.arrow(name).to_pandas(date_as_object=False, maps_as_pydicts="strict")
        return frame

    def dataset(self, name: str) -> Dataset:
        """Open a table for Arrow, DuckDB or Polars to read later, only the columns and rows that are asked for.

        >>> import lakehouse
        >>> from pyarrow.compute import field
        >>> receipts = lakehouse.open().dataset("silver.receipts")
        >>> store = receipts.to_table(columns=["sold_on", "units"], filter=field("store_id") == 101)

        Errors: NotFound, StorageFailed, NotKept. What cannot be read later Arrow says in its own words.
        """
        self._require_kept()
        return self.storage.dataset(*self._named(name))

    def duckdb(self) -> "DuckDBPyConnection":
        """Connect a DuckDB of its own, in memory, to a view per table and log; rows are read as a query needs them.

        >>> import lakehouse
        >>> with lakehouse.open() as sales:
        ...     totals = sales.duckdb().sql("SELECT receipts, units FROM gold.sales_totals").fetchall()

        The views belong to the connection: a cursor of it does not see them. Times are in UTC.
        Errors: StorageFailed, NotKept. What a query finds wrong DuckDB says in its own words.
        """
        self._require_kept()
        import duckdb  # a module that keeps it is told of as a leak when the interpreter ends

        database = duckdb.connect()
        self._connections.append(database)
        for layer in Layer:
            database.execute(f"create schema if not exists {layer.value}")
        for name, (table, version) in (self._tables | self._logs).items():
            hidden = name.replace(".", HIDDEN)
            database.register(hidden, self.storage.dataset(table, version))
            database.execute(f"create view {name} as select * from {hidden}")
        database.execute("set TimeZone = 'UTC'")
        return database

    def spark(self, session: "SparkSession", name: str) -> "DataFrame":
        """Give a table at its version as a frame of somebody's session, of Spark or of Sail.

        The engine must reach the place: a folder on its machine, or the object store. Sail finds no table under a path
        with spaces, or with letters beyond a to z; a link of a plain name to the folder, opened in its place, is found.
        Errors: NotFound, NotKept, StorageFailed where the engine does not open it.
        """
        self._require_kept()
        table, version = self._named(name)
        uri = self.storage.uri(table)
        try:
            frame = session.read.format("delta").option("versionAsOf", version).load(uri)
            _ = frame.schema  # asked for now: otherwise who uses the frame is told what is wrong, and in other words
        except PySparkException as error:
            reason = str(error).strip().partition("\n")[0][:REASON_CHARACTERS]
            raise StorageFailed("open", uri, reason, ENGINE_REMEDY) from error
        return frame

    def close(self) -> None:
        """Close the connections to DuckDB that it gave; the rest holds nothing open."""
        while self._connections:
            self._connections.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.close()
        if error is not None and _is_of_reading(error):
            self._tell_if_expired()

    def __repr__(self) -> str:
        return f"<release {self.release.release_id} of {self.storage.root}>"

    @cached_property
    def _tables(self) -> dict[str, tuple[Table, int]]:
        return {t.qualified_name: (t, self.release.tables[t.qualified_name]) for t in self.release.known_tables}

    @cached_property
    def _logs(self) -> dict[str, tuple[Table, int]]:
        logs = [table for table in catalog.tables(Layer.OPS) if table.is_log]
        return {t.qualified_name: (t, v) for t in logs if (v := self.storage.version(t)) is not None}

    def _named(self, name: str) -> tuple[Table, int]:
        if (found := self._tables.get(name) or self._logs.get(name)) is None:
            raise NotFound("table", name, sorted({*self._tables, *self._logs}))
        return found

    @contextmanager
    def _kept_or_told(self) -> Iterator[None]:
        try:
            yield
        except StorageFailed:
            self._tell_if_expired()
            raise

    def _tell_if_expired(self) -> None:
        """Say of a release that could not be read that it expired, where that is why; errors: NotKept."""
        with suppress(StorageFailed):  # where nobody can tell, what failed is told as it was
            self._require_kept()

    def _require_kept(self) -> None:
        published.require_kept(self.storage, self.release.release_id)


def open_release(root: str | PathLike[str] | None, release: int | None) -> ReleaseReader:
    """Open a release for reading; `lakehouse.open` says of what and how, and which errors there are."""
    storage = _settled_storage() if root is None else _named_storage(os.fspath(root))
    chosen = published.latest(storage) if release is None else published.at(storage, _number(release))
    return ReleaseReader(Snapshot(storage, chosen))


def _settled_storage() -> Storage:
    return Storage(whole_place(load_settings().root))


def _named_storage(root: str) -> Storage:
    """Open a place that somebody named; errors: WrongUse, and NothingPublished where no lakehouse can be."""
    if not root:
        raise WrongUse("root", root, "a folder, or an address like s3://bucket/prefix")
    storage = Storage(whole_place(load_settings(lakehouse_root=root).root))
    with storage_errors("open", storage.root):
        if problem := problem_of(storage.root):
            raise NothingPublished(storage.root, remedy=problem)
    return storage


def _number(release: object) -> int:
    """Give the number of a release, also where it is one of numpy or pandas; errors: WrongUse."""
    try:
        return operator.index(release)  # type: ignore[arg-type]  # that is what is tried
    except TypeError:
        raise WrongUse("release", release, "the number of a release, or None for the newest") from None


def _is_of_reading(error: BaseException) -> bool:
    """Say whether it is one of those that Arrow, DuckDB or an engine raises where rows cannot be read."""
    import duckdb

    return isinstance(error, StorageFailed | OSError | pa.ArrowException | PySparkException | duckdb.Error)
