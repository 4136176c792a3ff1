"""Write .env, with a secret of its own for every variable that docker-compose.yml wants: `python -m infra.environment`.

The compose file is the only list of them. Nothing but the standard library is needed, so any Python 3 can run it.
"""

import os
import re
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
WANTED = re.compile(r"\$\{([A-Z_]+):\?")
HEAD = """\
# Made by `make env`: the secrets of the services in docker-compose.yml. Keep it to yourself, and keep it.
# What else can be set, such as ports and limits, stands in docker-compose.yml as ${NAME:-default}.

# Parts that run here. Leave out what you bring yourself, and say where it is: MINIO_ENDPOINT for storage,
# POSTGRES_HOST for database, PREFECT_API_URL for prefect, SPARK_REMOTE for spark.
COMPOSE_PROFILES=storage,database,prefect,spark
"""


def write_environment(file: Path, compose: Path = PROJECT / "docker-compose.yml") -> list[str]:
    """Write the file, which only its owner may read; give the names of the variables. Errors: FileExistsError."""
    names = sorted(set(WANTED.findall(compose.read_text(encoding="utf-8"))))
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "w", encoding="utf-8") as opened:
        opened.write("\n".join([HEAD, *(f"{name}={secrets.token_hex(16)}" for name in names)]) + "\n")
    return names


def main() -> int:
    """Write .env in the checkout; give the exit code."""
    file = PROJECT / ".env"
    try:
        names = write_environment(file)
    except FileExistsError:
        print(
            f"{file} exists: it was left as it is. Move it away for new secrets; services keep the old.",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"{file} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"{file} holds {len(names)} new secrets.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
