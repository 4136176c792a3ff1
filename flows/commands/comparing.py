"""The commands that compare releases: with what their sources give, and with each other."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import lakehouse
from flows.audit.differences import differences
from flows.commands.output import print_facts, print_table
from flows.commands.reading import AsJson, AtRelease
from flows.report.events import Events
from flows.run.console import error_console
from lakehouse.errors import DigestsDiffer
from lakehouse.settings import load_settings
from lakehouse.version import code_version


def rebuild(
    number: AtRelease = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the rebuilt lakehouse in this folder, a home.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a release from its own sources, apart from the lakehouse, and compare the digests of gold."""
    from flows.audit.rebuild import facts_of, recompute, scratch_home
    from flows.report.recorded import plain_step

    settings, opened = load_settings(), lakehouse.open(release=number).snapshot
    events = Events(settings.logs, "rebuild", f"rebuild of {opened.release.release_id}", error_console())
    with scratch_home(settings, keep) as home:
        found = recompute(settings, opened, home, plain_step(events))
    tables = [compared._asdict() for compared in found.tables]
    if as_json:
        print_facts(facts_of(found) | {"tables": tables}, as_json)
    else:
        print_table(tables, as_json)
        print_facts(facts_of(found), as_json)
        if found.other_code:
            print(f"Other code made it: {', '.join(found.other_code)}; this is {code_version()}. Results may differ.")
    if found.different:
        raise DigestsDiffer(found.release.release_id, found.different)


def diff(
    first: Annotated[int, typer.Argument(metavar="A", help="A release.")],
    second: Annotated[int, typer.Argument(metavar="B", help="The release to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Say which tables, days and figures changed from release A to release B, and by how much."""
    before, after = (lakehouse.open(release=number).snapshot for number in (first, second))
    found = asdict(differences(before, after))
    if as_json:
        return print_facts(found, as_json)
    parts = {name: rows for name, rows in found.items() if isinstance(rows, list) and rows}
    for name, rows in parts.items():
        print(f"{name.replace('_', ' ').capitalize()}:")
        print_table([row | ({"periods": _span(row["periods"])} if "periods" in row else {}) for row in rows], as_json)
    if not parts:
        print(f"Releases {first} and {second} hold the same.")
    return None


def _span(periods: list[str]) -> str:
    """Name one or two periods, and of more the first and the last."""
    few = " ".join(periods)
    return few if len(periods) < 3 else f"{periods[0]} ... {periods[-1]} ({len(periods)})"
