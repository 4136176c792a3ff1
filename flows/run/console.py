"""Where a run tells people something: progress on standard error, results on standard output."""

from rich.console import Console

LEAST_WIDTH = 160  # a terminal wraps a line that is too long for it; a line cut short is lost


def error_console() -> Console:
    """Make the console of progress and events: standard error; no colours off a terminal or with NO_COLOR."""
    return Console(stderr=True, highlight=False)


def wide_console() -> Console:
    """Make the console of results: wide enough for an address or a path on one line."""
    return Console(width=max(Console().width, LEAST_WIDTH), highlight=False)
