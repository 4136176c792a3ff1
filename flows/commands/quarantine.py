"""The commands of the quarantine: list refused lines, correct them, accept them as lost, try them again."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

import lakehouse
from flows.commands import reading
from flows.commands.output import print_table
from lakehouse.errors import NotFound, WrongUse
from lakehouse.kernels.receipt_rules import MAX_INT
from lakehouse.ops.quarantine import RULES, STATUSES
from lakehouse.settings import load_settings

if TYPE_CHECKING:
    from flows.run.decisions import Choice

app = typer.Typer(help="List refused lines; fix, waive or replay them.", invoke_without_command=True)

PATH, NUMBER = "The file, as the listing names it.", "The line there, from 1."
SourcePath = Annotated[str, typer.Argument(metavar="SOURCE_PATH", help=PATH)]
LineNumber = Annotated[int, typer.Argument(metavar="LINE_NUMBER", min=1, max=MAX_INT, help=NUMBER)]
Line = Annotated[str, typer.Argument(metavar="LINE", help="The whole line as it should have been.")]
Who = Annotated[str, typer.Option(help="Who decides.")]
Why = Annotated[str, typer.Option(help="The reason.")]
OfRule = Annotated[str | None, typer.Option("--rule", help="Only lines that broke this rule.")]
OfPath = Annotated[str | None, typer.Option("--path", help="Only lines of this file.")]


@app.callback()
def listing(
    context: typer.Context,
    number: reading.AtRelease = None,
    rule: OfRule = None,
    path: OfPath = None,
    status: Annotated[str | None, typer.Option(help="Only lines that are open, waived or replayed.")] = None,
    as_json: reading.AsJson = False,
) -> None:
    """List the refused lines, by rule and file, with their age in days, or decide about them."""
    if context.invoked_subcommand is not None:
        return
    asked = {"rule": _one_of("rule", rule, RULES), "path": path, "status": _one_of("status", status, STATUSES)}
    opened = lakehouse.open(release=number)
    current = {r["source_id"]: r for r in opened.arrow("ops.sources").to_pylist() if r["status"] == "current"}
    now = datetime.now(UTC)
    rows = []
    for line in opened.arrow("ops.quarantine").to_pylist():
        source = current[line.pop("source_id")]
        rows.append({"path": source["path"], **line, "age_days": (now - source["delivered_at"]).days})
    chosen = [r for r in rows if all(wanted in (None, r[name]) for name, wanted in asked.items())]
    ordered = sorted(chosen, key=lambda r: (r["rule"], r["path"], r["line_number"]))
    print_table(ordered, as_json, "No such line is in quarantine.")


@app.command()
def fix(path: SourcePath, number: LineNumber, line: Line, who: Who, why: Why) -> None:
    """Read a line as corrected, and publish what that changes."""
    from flows.run import decisions

    reason = decisions.DecisionReason(who, why)
    _decide("quarantine-fix", lambda request: decisions.fix(request, path, number, line, reason))


@app.command()
def waive(
    who: Who,
    why: Why,
    path: Annotated[str | None, typer.Argument(metavar="SOURCE_PATH", help=PATH)] = None,
    number: Annotated[int | None, typer.Argument(metavar="LINE_NUMBER", min=1, max=MAX_INT, help=NUMBER)] = None,
    rule: Annotated[str | None, typer.Option(help="Instead of a line: every open line that broke this rule.")] = None,
    of_path: Annotated[str | None, typer.Option("--path", help="With --rule: only lines of this file.")] = None,
) -> None:
    """Accept a line, or all open lines that broke a rule, as lost, and publish that."""
    from flows.run import decisions

    reason = decisions.DecisionReason(who, why)
    if rule is not None and path is None and number is None:
        _one_of("rule", rule, RULES)
        _decide("quarantine-waive", lambda request: decisions.waive_rule(request, rule, of_path, reason))
    elif rule is None and of_path is None and path is not None and number is not None:
        _decide("quarantine-waive", lambda request: decisions.waive(request, path, number, reason))
    else:
        given = " ".join(str(one) for one in (path, number, rule, of_path) if one is not None)
        raise WrongUse("What to waive", given, "either SOURCE_PATH and LINE_NUMBER, or --rule, alone or with --path")


@app.command()
def replay() -> None:
    """Try every open line again with the present rules, and publish what they now keep."""
    from flows.run import decisions

    _decide("quarantine-replay", decisions.replay)


def withdraw(path: SourcePath, who: Who, why: Why) -> None:
    """Take a delivered file out of every table; the same bytes stay out until others came under its path."""
    from flows.run import decisions

    reason = decisions.DecisionReason(who, why)
    _decide("withdraw", lambda request: decisions.withdraw(request, path, reason))


def _decide(flow: str, choice: "Choice") -> None:
    from flows.report.recorded import run_decision

    run_decision(flow, load_settings(), choice)


def _one_of(kind: str, name: str | None, known: tuple[str, ...]) -> str | None:
    """Let a name of a closed set pass; errors: NotFound."""
    if name is not None and name not in known:
        raise NotFound(kind, name, list(known))
    return name
