"""Where the command begins: what takes longest to import is begun before anything else is imported."""

import sys

from quality.worker import start_ahead


def main() -> None:
    """Run the command line; a run that checks has its checks imported meanwhile, in a process of their own."""
    if sys.argv[1:2] == ["run"] and not {"--no-checks", "--help"} & set(sys.argv):
        start_ahead()
    from flows.cli import main as command  # after the process of the checks is on its way

    command()
