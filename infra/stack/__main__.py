"""The services of the cluster as plain processes: `python -m infra.stack up`, `down`, `kill NAME`, `begin NAME`."""

import sys
from pathlib import Path

from infra.stack import stack
from infra.stack.plan import new_plan, write_environment
from lakehouse.errors import LakehouseError, WrongUse
from lakehouse.settings import load_settings


def main(words: list[str]) -> int:
    """Do what is asked; give the exit code. What went wrong is one sentence on standard error."""
    try:
        _do(words, load_settings().lakehouse_home.absolute() / "stack")
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _do(words: list[str], folder: Path) -> None:
    match words:
        case ["up"]:
            plan = new_plan(folder)
            stack.up(plan, lambda name: print(f"{name} answers.", flush=True))
            print(f"Point a shell at it with: . {write_environment(plan)}")
        case ["down"]:
            stack.down(folder)
            print("Nothing of the stack runs.")
        case ["kill", name]:
            stack.kill(folder, name)
        case ["begin", name]:
            stack.begin(new_plan(folder), name)
        case _:
            raise WrongUse("The command", " ".join(words), "up, down, kill NAME or begin NAME")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
