"""The commands that read: nothing here starts an engine or changes a table."""

from collections import Counter
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

import lakehouse
from flows.commands.output import print_facts, print_table
from lakehouse import catalog
from lakehouse.engine.building import digest_of
from lakehouse.errors import BadQuery, DigestsDiffer, NothingPublished
from lakehouse.ops import runs
from lakehouse.releases import release, retention
from lakehouse.releases.lease import writer
from lakehouse.releases.reader import HIDDEN
from lakehouse.releases.retention import Rule
from lakehouse.settings import load_settings
from lakehouse.storage.tables import Storage
from lakehouse.table import Layer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, alone on standard output.")]
AtRelease = Annotated[int | None, typer.Option("--release", "-r", help="A release's number; the newest otherwise.")]


def status(as_json: AsJson = False) -> None:
    """Say what readers see now, which run is writing, and how the last one that came to an end did."""
    storage = _storage()
    writing, newest = writer(storage), release.newest(storage)
    if newest is None:
        raise NothingPublished(storage.root, writing)
    last = _last_run(storage)
    facts = {
        "release": newest.release_id,
        "created_at": newest.created_at,
        "published_at": newest.published_at,
        "verified": newest.verified,
        "groups": newest.groups,
        "writer": writing or "none",
        "last_run": last["state"],
        "last_run_ended_at": last["ended_at"],
        "last_run_message": last["message"],
    }
    print_facts(facts, as_json)


def _last_run(storage: Storage) -> dict[str, object]:
    """Give what the newest commit to the log of runs says: the clock may have gone back since an earlier one."""
    version = storage.version(runs.TABLE)
    if version is not None:
        run_id = storage.note(runs.TABLE, version, "run_id")
        rows = storage.rows(runs.TABLE, version, filters=pc.field("run_id") == run_id).sort_by("ended_at").to_pylist()
        if rows:
            last: dict[str, object] = rows[-1]
            return last
    return {"state": "unknown", "ended_at": None, "message": ""}


def releases(as_json: AsJson = False) -> None:
    """List every release, oldest first, and as what it is kept, or that it is not kept, or that it expired."""
    names = ("release_id", "parent", "created_at", "published_at", "run_id", "engine", "verified", "groups")
    listed = retention.retention_reasons(_storage(), Rule.of(load_settings()))
    rows = [{n: getattr(r, n) for n in names} | {"kept_as": reasons or ["not kept"]} for r, reasons in listed]
    print_table(rows, as_json, "There is no release yet.")


def ledger(number: AtRelease = None, as_json: AsJson = False) -> None:
    """Show, per source, hop and control, what was expected and what was found."""
    rows = lakehouse.open(release=number).arrow("ops.ledger").drop_columns(["run_id"])
    by = [(name, "ascending") for name in ("path", "hop", "control")]
    print_table(rows.sort_by(by).to_pylist(), as_json)


def tables(number: AtRelease = None, as_json: AsJson = False) -> None:
    """List the tables of a release: version, rows, what a row is."""
    opened = lakehouse.open(release=number)
    rows = [{"table": t.name, "version": t.version, "rows": t.rows, "holds": t.doc} for t in opened.tables()]
    print_table(rows, as_json)
    if not as_json:
        print(f"Logs, which are of no release, can be asked in SQL too: {', '.join(opened.logs())}.")


def query(
    sql: Annotated[str, typer.Argument(help='SQL over the tables, such as "select * from gold.sales_totals".')],
    number: AtRelease = None,
    as_json: AsJson = False,
) -> None:
    """Ask a release, and the logs of runs, in SQL (DuckDB); no engine is started."""
    opened = lakehouse.open(release=number)
    import duckdb  # a module that keeps it is told of as a leak when the interpreter ends

    with opened.duckdb() as database:
        database.execute("set enable_external_access = false; set lock_configuration = true")
        try:
            if (count := len(database.extract_statements(sql))) != 1:
                raise BadQuery(f"It holds {count} statements: ask one at a time.")
            found = database.sql(sql)  # None where it gives no rows
            rows = [] if found is None else _rows(found.to_arrow_table())
        except (duckdb.Error, ArithmeticError) as error:  # a date may be beyond those of Python
            raise BadQuery(str(error).replace(HIDDEN, ".")) from None
    print_table(rows, as_json, "No row.")


def _rows(found: pa.Table) -> list[dict[str, object]]:
    names = Counter(found.column_names)
    if twice := sorted(name for name in names if names[name] > 1):
        raise BadQuery(f"Several columns are named {', '.join(twice)}: name each apart, with `as`.")
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def digest(number: AtRelease = None, as_json: AsJson = False) -> None:
    """Digest the gold tables of a release anew, and hold them to what it was published with."""
    opened = lakehouse.open(release=number)
    gold = [t for t in catalog.tables(Layer.GOLD) if t.qualified_name in opened.release.digests]
    found = {t.qualified_name: digest_of(opened.storage, t, opened.release.tables[t.qualified_name]) for t in gold}
    print_table([{"table": name, "digest": value} for name, value in sorted(found.items())], as_json)
    if different := sorted(n for n, value in found.items() if value != opened.release.digests[n]):
        raise DigestsDiffer(opened.release.release_id, different)


def _storage() -> Storage:
    return Storage(load_settings().root)
