"""Prepare services for the lakehouse: `python -m infra.first_start postgres object-store`, or one of them."""

import sys

from infra.first_start.administrators import DatabaseAdministrator, StoreAdministrator, read
from lakehouse.errors import LakehouseError, WrongUse


def main(services: list[str]) -> int:
    """Provision each service named; give the exit code. What went wrong is one sentence on standard error."""
    try:
        for service in services or [""]:
            _provision(service)
            print(f"{service} is ready.")
    except LakehouseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _provision(service: str) -> None:
    match service:
        case "postgres":
            from infra.first_start import database

            database.provision(read(DatabaseAdministrator))
        case "object-store":
            from infra.first_start import object_store

            object_store.provision(read(StoreAdministrator))
        case other:
            raise WrongUse("The service to prepare", other, "postgres or object-store")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
