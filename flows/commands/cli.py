"""The command line. Results go to standard output, progress to standard error.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 blocked by a gate, 130 interrupted.
"""

import errno
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import lakehouse
from flows.commands import comparing, keeping, quarantine, reading
from flows.commands.output import print_facts, print_table
from lakehouse.errors import LakehouseError, WrongUse
from lakehouse.parameters import new_parameters
from lakehouse.settings import load_settings
from lakehouse.sources.landing import writable

app = typer.Typer(
    help="A medallion lakehouse for receipts: every source row accounted for, published as releases.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    reading.status,
    reading.releases,
    reading.ledger,
    reading.tables,
    reading.query,
    reading.digest,
    quarantine.withdraw,
    comparing.diff,
    comparing.rebuild,
    keeping.pin,
    keeping.unpin,
    keeping.vacuum,
):
    app.command()(command)
app.add_typer(quarantine.app, name="quarantine")

Source = Annotated[
    Path | None,
    typer.Option(
        "--source",
        help="A folder with products/ and transactions/: loads its reference files, runs on it. Else DATA_PATH.",
    ),
]


def main() -> None:
    """Run a command; a failure is one sentence and an exit code."""
    try:
        for argument in sys.argv[1:]:
            if writable(argument) != argument:
                raise WrongUse("An argument", writable(argument), "text in UTF-8")
        try:
            app()
        finally:
            _hand_over_answer()
    except LakehouseError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]{escape(str(error))}[/]", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        said = f"{error.strerror}: what was being written, the answer or a file, is not all there."
        Console(stderr=True, highlight=False).print(said, soft_wrap=True)
        sys.exit(1)


def _hand_over_answer() -> None:
    """Write out what waits for standard output; who reads no further is left alone. Errors: OSError."""
    if sys.stdout is not None:  # as it is where it was closed
        with suppress(BrokenPipeError):
            sys.stdout.flush()


@app.command()
def run(
    source: Source = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Suites, volume gate and oracle; rules and ledger always run.")
    ] = True,
    min_rows_threshold: Annotated[int, typer.Option(help="Fewest receipts a release may hold.")] = 1_000,
    max_quarantine_pct: Annotated[
        float, typer.Option(help="Most lines of a source that may be open in quarantine, in %.")
    ] = 5.0,
    n_clusters: Annotated[int, typer.Option(help="Customer segments.")] = 4,
    min_support: Annotated[float, typer.Option(help="Least share of receipts an itemset is in.")] = 0.005,
    min_confidence: Annotated[float, typer.Option(help="Least confidence of a rule.")] = 0.2,
    max_itemset_size: Annotated[int, typer.Option(help="Most products of an itemset.")] = 3,
    sync: Annotated[bool, typer.Option("--sync", help="Copy the exports to FRONTEND_PATH.")] = False,
    prefect: Annotated[
        bool, typer.Option("--prefect/--no-prefect", help="Through Prefect where its API answers, or never.")
    ] = True,
    with_server: Annotated[
        bool, typer.Option("--with-server", help="Start the local Prefect server where none runs.")
    ] = False,
) -> None:
    """Run the main job: what waits in the landing becomes a release."""
    asked = {
        "enable_quality_checks": checks,
        "min_rows_threshold": min_rows_threshold,
        "max_quarantine_pct": max_quarantine_pct,
        "n_clusters": n_clusters,
        "min_support": min_support,
        "min_confidence": min_confidence,
        "max_itemset_size": max_itemset_size,
    }
    parameters, settings = new_parameters(**asked), load_settings()
    from flows.commands.run import run_directly, run_with_prefect

    if prefect:
        run_with_prefect(settings, parameters, source, sync, with_server)
    else:
        run_directly(settings, parameters, source, sync)


@app.command()
def load(
    source: Annotated[Path, typer.Option("--source", help="A folder with products/, and transactions/ when asked.")],
    truncate: Annotated[bool, typer.Option("--truncate/--append", help="Replace what is there, or add to it.")] = True,
    transactions: Annotated[bool, typer.Option("--transactions", help="Load transactions/*.csv too.")] = False,
    as_json: reading.AsJson = False,
) -> None:
    """Load CSV files into PostgreSQL, all in one transaction."""
    from lakehouse.sources.postgres_load import load as load_files

    counts = load_files(load_settings(), source, truncate, transactions)
    print_table([{"table": name, **asdict(count)} for name, count in counts.items()], as_json)


@app.command()
def rollback(number: Annotated[int, typer.Argument(metavar="R", help="The release to go back to.")]) -> None:
    """Publish an older release as the newest, with its exports."""
    from flows.report.facts import record
    from flows.run.request import new_request
    from flows.run.steps import export
    from lakehouse.releases import release

    request = new_request("rollback", load_settings(), new_parameters())
    release.at(request.storage, number)
    with request.take_lease() as lease:
        published = release.roll_back(request.storage, number, lease, datetime.now(UTC))
        record(request, published.run_key, "published", f"Release {published.release_id} is release {number} again.")
        export(request.settings, release.Snapshot(request.storage, published))
    where = request.settings.exports_address or request.settings.exports
    print(f"Release {published.release_id} is release {number} again; its exports are in {where}.")


@app.command()
def export(
    number: reading.AtRelease = None,
    into: Annotated[Path | None, typer.Option(help="Where to; OUTPUT_PATH otherwise.")] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Copy them to FRONTEND_PATH too.")] = False,
) -> None:
    """Write the exports of a release."""
    from flows.run import steps
    from flows.run.request import front_end
    from lakehouse.exports.publish import publish
    from lakehouse.releases.release import by_group

    settings, opened = load_settings(), lakehouse.open(release=number).snapshot
    if sync:
        front_end(settings)
    manifest = publish(opened.release, by_group(opened), into) if into else steps.export(settings, opened)
    where = into or settings.exports_address or settings.exports
    print(f"{len(manifest.files)} files of release {manifest.release_id} are in {where}.")
    if sync:
        counts = steps.sync(settings, into)
        print(f"{counts.copied} files were copied to {settings.frontend_path}, {counts.removed} removed.")


@app.command()
def sample(
    into: Annotated[Path, typer.Option(help="An empty folder, or an earlier sample.")],
    receipts: Annotated[int, typer.Option(help="Good lines.")] = 20_000,
    days: Annotated[int, typer.Option(help="Days, from 2024-01-01.")] = 90,
    stores: Annotated[int, typer.Option(help="Stores, a file each.")] = 4,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bytes.")] = 7,
    as_json: reading.AsJson = False,
) -> None:
    """Write deterministic sample data in the source format, with every trap and a stated number of bad lines."""
    from lakehouse.sources.sample import write_sample

    print_facts({"into": str(into), **asdict(write_sample(into, receipts, days, stores, seed))}, as_json)


@app.command()
def doctor(as_json: reading.AsJson = False) -> None:
    """Check what a run needs, and say what is missing."""
    from flows.commands.doctor import examine

    found = examine(load_settings())
    print_table([finding._asdict() for finding in found], as_json)
    if any(not finding.is_well for finding in found):
        raise typer.Exit(1)


@app.command()
def stop() -> None:
    """Stop this home's Prefect server and embedded PostgreSQL."""
    from flows.orchestration.server import stop_server
    from lakehouse.postgres.connection import stop_embedded

    settings = load_settings()
    said = {True: "stopped", False: "was not running"}
    print(f"Prefect's server {said[stop_server(settings)]}; the embedded PostgreSQL {said[stop_embedded(settings)]}.")


if __name__ == "__main__":
    main()
