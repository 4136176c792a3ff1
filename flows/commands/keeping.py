"""The commands that decide which releases are kept, and remove what no kept one needs."""

import getpass
import os
from typing import Annotated

import typer

from flows.commands.output import print_facts, print_table
from flows.commands.reading import AsJson
from flows.run.request import new_request, require_text
from lakehouse.parameters import new_parameters
from lakehouse.releases import release, retention
from lakehouse.releases.pins import Change
from lakehouse.releases.retention import Rule
from lakehouse.settings import load_settings

Number = Annotated[int, typer.Argument(metavar="R", help="The release's number.")]


def pin(
    number: Number,
    why: Annotated[str | None, typer.Option(help="The reason, for whoever wonders later.")] = None,
) -> None:
    """Keep a release until it is unpinned, whatever its age."""
    if why is not None:
        require_text("--why", why)
    request = new_request("pin", load_settings(), new_parameters())
    release.at(request.storage, number)
    with request.take_lease() as lease:
        retention.pin(lease.storage, number, Change(request.run_id, _user(), request.started_at, why))
    print(f"Release {number} is kept until it is unpinned.")


def unpin(number: Number) -> None:
    """Leave a pinned release to the rule again: KEEP_DAILY and KEEP_MONTHLY."""
    request = new_request("unpin", load_settings(), new_parameters())
    release.at(request.storage, number)
    with request.take_lease() as lease:
        retention.unpin(lease.storage, number, Change(request.run_id, _user(), request.started_at))
    print(f"Release {number} is not pinned any more.")


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the data files that no kept release needs, those of killed runs too; files of the last day stay."""
    settings = load_settings()
    request = new_request("vacuum", settings, new_parameters())
    change = Change(request.run_id, _user(), request.started_at)
    if dry_run:
        found = retention.vacuum(request.storage, Rule.of(settings), change, dry_run)
    else:
        with request.take_lease() as lease:
            found = retention.vacuum(lease.storage, Rule.of(settings), change)
    tables = [{"table": n, "files": len(f), "bytes": sum(f.values())} for n, f in sorted(found.files.items())]
    facts = {
        "dry_run": dry_run,
        "expired": found.expired,
        "files": sum(map(len, found.files.values())),
        "bytes": sum(sum(files.values()) for files in found.files.values()),
    }
    print_facts(facts | ({"tables": tables} if as_json else {}), as_json)
    if not as_json:
        if tables:
            print_table(tables, as_json)
        if found.expired:
            verb = "would not be" if dry_run else "is not"
            rule = f"KEEP_DAILY={settings.keep_daily} and KEEP_MONTHLY={settings.keep_monthly}"
            print(
                f"What expired {verb} readable any more: by {rule}; `lakehouse releases` says why the others are kept."
            )


def _user() -> str:
    """Name who runs this; where the system has no name for the number, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
