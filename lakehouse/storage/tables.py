"""Read, write and restore Delta tables: the only module that knows paths and Delta."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSystem, LocalFileSystem, PyFileSystem, S3FileSystem, SubTreeFileSystem
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from lakehouse.errors import BrokenContract, StorageFailed
from lakehouse.settings import object_store_access
from lakehouse.storage import delta_log
from lakehouse.storage.durable import durable
from lakehouse.storage.object_client import SCHEME
from lakehouse.storage.objects import is_address
from lakehouse.storage.probe import probe, reach
from lakehouse.table import Table

FILE_SIZE = 1 << 22  # of which a large table has many, to be read side by side
REMEDY = "Check that it exists, may be written and has room."
READ_REMEDY = (
    "Check that it is there and may be read; an earlier release may be whole: see `lakehouse rollback --help`."
)
RESTORE_REMEDY = (
    "Check that it is whole and may be written; `lakehouse rebuild --keep FOLDER` makes its release again elsewhere."
)
REMEDIES = {"read": READ_REMEDY, "restore": RESTORE_REMEDY}  # by action; REMEDY for others
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BACKTRACE = re.compile(r"\n\s+0: .*", re.DOTALL)  # of delta-rs's own code, where RUST_BACKTRACE asks for it


@dataclass(frozen=True)
class Storage:
    """The Delta tables under one root folder; `epoch` numbers the lease under which they are written.

    A version that was opened for reading stays open, also for whoever writes under another epoch: it never changes.
    """

    root: str
    epoch: int = 0
    _opened: dict[tuple[str, int], pads.Dataset] = field(default_factory=dict, repr=False, compare=False)

    def trust(self) -> None:
        """Make sure that the place of the tables keeps what one writer at a time needs.

        Errors: UnsafeStore, ServiceDown.
        """
        if is_address(self.root):
            probe(self.root)

    def uri(self, table: Table) -> str:
        return f"{self.root}/{table.layer}/{table.name}"

    def version(self, table: Table) -> int | None:
        """Give the newest version; None where there is no table."""
        with storage_errors("open", self.uri(table)):
            try:
                return int(self._open(table).version())
            except TableNotFoundError:
                self._require_readable(table)
                return None

    def is_newest(self, table: Table, version: int) -> bool:
        """Say whether the log of a table has a version and none after it; False when that cannot be told so fast."""
        with storage_errors("read", self.uri(table)):
            return delta_log.is_newest(self._files(table), version)

    def create(self, table: Table, run_id: str) -> int:
        """Make an empty table at version 0 where there is none; give the newest version."""
        with storage_errors("create", self.uri(table)):
            if (found := self.version(table)) is not None:
                return found
            if not is_address(self.root):
                Path(self.uri(table)).mkdir(parents=True, exist_ok=True)
            try:
                with durable(f"create {table.qualified_name}"):
                    DeltaTable.create(
                        self.uri(table),
                        schema=table.arrow_schema,
                        partition_by=[table.partition] if table.partition else None,
                        commit_properties=self._made_by(run_id),
                        configuration={"delta.logRetentionDuration": "interval 3650 days"},
                    )
            except DeltaError:
                if (found := self.version(table)) is None:
                    raise
                return found  # another run was faster
            return 0

    def restore(self, table: Table, version: int, run_id: str) -> int:
        """Make an earlier version the newest one; give the number it then has."""
        with storage_errors("restore", self.uri(table)):
            delta = self._open(table)
            if delta.version() == version:
                return version
            with durable(f"restore {table.qualified_name}"):
                delta.restore(version, commit_properties=self._made_by(run_id))
            return int(delta.version())

    def write(self, table: Table, rows: pa.RecordBatchReader, run_id: str, touched: str | None = None) -> int:
        """Replace the rows that fulfil the condition `touched`, or without one all rows; give the new version.

        Errors: BrokenContract, StorageFailed.
        """
        broken: list[Exception] = []
        try:
            with storage_errors("write", self.uri(table)), durable(f"write {table.qualified_name}"):
                target = self._open(table)
                write_deltalake(
                    target,
                    _noted(checked_rows(rows, table), broken),
                    mode="overwrite",
                    predicate=touched,
                    schema_mode="overwrite" if touched is None else None,
                    partition_by=[table.partition] if table.partition else None,
                    target_file_size=FILE_SIZE,
                    writer_properties=WriterProperties(compression="LZ4_RAW"),  # as small as snappy, read faster
                    commit_properties=self._made_by(run_id),
                )
            return self._kept_open(table, target)
        except StorageFailed:
            if broken:  # not the storage: the rows
                raise broken[0] from None
            raise

    def write_frame(self, table: Table, frame: DataFrame, run_id: str, touched: str | None = None) -> int:
        """Do what `write` does, committed by the engine of the frame; for engines that write Delta as declared."""
        if set(frame.columns) != set(table.arrow_schema.names):
            raise BrokenContract(
                table.qualified_name, f"columns {frame.columns}", f"columns {table.arrow_schema.names}"
            )
        with storage_errors("write", self.uri(table)):
            if touched is None and self._open(table).schema() != Schema.from_arrow(table.arrow_schema):
                self.write(table, pa.RecordBatchReader.from_batches(table.arrow_schema, []), run_id)
            writer = (
                frame.write.format("delta")
                .mode("overwrite")
                .option("userMetadata", json.dumps({"run_id": run_id, "epoch": str(self.epoch)}))
            )
            try:
                with durable(f"write {table.qualified_name}"):
                    (writer.option("replaceWhere", touched) if touched else writer).save(self.uri(table))
            except PySparkException as error:
                raise _named(error, table, self.uri(table)) from error
            return int(self._open(table).version())

    def append(
        self,
        table: Table,
        rows: list[dict[str, object]],
        run_id: str,
        after: int | None = None,
        note: dict[str, str] | None = None,
        step: str = "",
    ) -> int:
        """Add rows, or none, to a log, with a `note` in the commit; give the version it then has.

        With `after`, only on top of that version. `step` names what that does, when it is not just adding rows.
        Errors: StorageFailed, also when `after` is not the newest.
        """
        batches = [pa.RecordBatch.from_pylist(rows, table.arrow_schema)] if rows else []
        with storage_errors("append to", self.uri(table)):
            target = self._open(table, after)
            properties = self._made_by(run_id, 0 if after is not None else None, note or {})
            added = pa.Table.from_batches(batches, table.arrow_schema)
            with durable(step or f"append to {table.qualified_name}"):
                write_deltalake(target, added, mode="append", commit_properties=properties)
            return int(target.version())

    def note(self, table: Table, version: int, name: str) -> str | None:
        """Read what was noted in the commit of a version; None when nothing was."""
        return self._commit(table, version).get(name)

    def writers(self, table: Table, since: int, version: int) -> dict[int, str]:
        """Give the run that made each version after `since` up to `version`; an empty name where none says so."""
        return {made: delta_log.run_of(self._commit(table, made)) for made in range(since + 1, version + 1)}

    def _commit(self, table: Table, version: int) -> dict[str, Any]:
        with storage_errors("read", self.uri(table)):
            return delta_log.commit_info(self._files(table), version)

    def dataset(self, table: Table, version: int) -> pads.Dataset:
        """Open a version for reading by Arrow and DuckDB."""
        key = table.qualified_name, version
        if key not in self._opened:
            with storage_errors("read", self.uri(table)):
                opened = self._open(table, version)
            self._kept_open(table, opened)
        return self._opened[key]

    def _kept_open(self, table: Table, opened: DeltaTable) -> int:
        """Keep a version for those who read it; give its number."""
        version = int(opened.version())
        with storage_errors("read", self.uri(table)):
            self._opened[table.qualified_name, version] = opened.to_pyarrow_dataset(filesystem=self._files(table))
        return version

    def holding(self, table: Table, version: int, wanted: pc.Expression) -> pads.Dataset:
        """Open only the files of a version with rows that fulfil a condition: to find them, little is read."""
        with storage_errors("read", self.uri(table)):
            opened = self.dataset(table, version)
            scans = ((file, file.scanner(opened.schema, filter=wanted)) for file in opened.get_fragments(wanted))
            files = [file for file, scan in scans if scan.count_rows()]
            return pads.FileSystemDataset(files, opened.schema, opened.format, opened.filesystem)

    def rows(
        self, table: Table, version: int, columns: list[str] | None = None, filters: pc.Expression | None = None
    ) -> pa.Table:
        """Read a version into memory."""
        opened = self.dataset(table, version) if filters is None else self.holding(table, version, filters)
        with storage_errors("read", self.uri(table)):
            return opened.to_table(columns=columns, filter=filters)

    def count(self, table: Table, version: int) -> int:
        """Count a version's rows."""
        with storage_errors("read", self.uri(table)):
            return int(self.dataset(table, version).count_rows())

    def files(self, table: Table) -> FileSystem:
        """Open the folder of a table, to list and remove files: Arrow's own would put empty objects for folders."""
        return PyFileSystem(DeltaStorageHandler(self.uri(table))) if is_address(self.root) else self._files(table)

    def _files(self, table: Table) -> SubTreeFileSystem:
        """Give Arrow's own file system for a table: delta-rs's is Python, and Arrow's threads outlive Python."""
        uri = self.uri(table)
        if not is_address(uri):
            return SubTreeFileSystem(uri, LocalFileSystem())
        return SubTreeFileSystem(uri.removeprefix(SCHEME), _object_files(object_store_access().endpoint))

    def _require_readable(self, table: Table) -> None:
        """See that a table that is not there is not just out of sight; errors: PermissionError."""
        if not is_address(self.root):
            with suppress(FileNotFoundError, NotADirectoryError):
                os.listdir(self.uri(table))

    def _made_by(
        self, run_id: str, retries: int | None = None, note: Mapping[str, str] = MappingProxyType({})
    ) -> CommitProperties:
        told = {"run_id": run_id, "epoch": str(self.epoch), **note}
        return CommitProperties(custom_metadata=told, max_commit_retries=retries)

    def _open(self, table: Table, version: int | None = None) -> DeltaTable:
        if is_address(self.root):
            reach(self.root)
        return DeltaTable(self.uri(table), version=version)


@cache
def _object_files(endpoint: str) -> S3FileSystem:
    """Make Arrow's client of an object store, the only one that does not know where it is."""
    return S3FileSystem(endpoint_override=endpoint or None)


def checked_rows(rows: pa.RecordBatchReader, table: Table) -> pa.RecordBatchReader:
    """Hold a stream to the table's columns; errors: BrokenContract on other columns or a forbidden null."""
    schema = table.arrow_schema
    if set(rows.schema.names) != set(schema.names):
        raise BrokenContract(table.qualified_name, f"columns {rows.schema.names}", f"columns {schema.names}")

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            chosen = batch.select(schema.names)
            for column in table.columns:
                if not column.nullable and (nulls := chosen.column(column.name).null_count):
                    raise BrokenContract(table.qualified_name, f"{nulls} nulls in {column.name}", "none")
            yield chosen.cast(schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _noted(rows: pa.RecordBatchReader, broken: list[Exception]) -> pa.RecordBatchReader:
    """Pass a stream on, and note the error that ends it: through Arrow's C interface only its text would come."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except Exception as error:
            broken.append(error)
            raise

    return pa.RecordBatchReader.from_batches(rows.schema, batches())


def _named(error: PySparkException, table: Table, where: str) -> Exception:
    """Give what an engine says of a commit one of our names; what a build raised keeps its own."""
    said = str(error)
    if broken := re.search(r"NOT NULL constraint violated for column: (\S+)", said):
        return BrokenContract(table.qualified_name, f"nulls in {broken[1].rstrip('.')}", "none")
    if refused := re.search(r"(java\.(io|nio)\.[\w.]*Exception|\[DELTA_\w+\]).*", said):
        return StorageFailed("write", where, refused[0][:300], REMEDY)
    return error


@contextmanager
def storage_errors(action: str, where: str) -> Iterator[None]:
    """Turn what the storage says into one sentence."""
    try:
        yield
    except (DeltaError, OSError, pa.ArrowInvalid) as error:
        reason = " ".join(COLOURS.sub("", BACKTRACE.sub("", str(error))).split())[:300]
        raise StorageFailed(action, where, reason, REMEDIES.get(action, REMEDY)) from error
