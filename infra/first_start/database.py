"""The roles and databases of PostgreSQL, made or brought back to what is declared here; nothing else is touched.

| database | role | may |
| --- | --- | --- |
| source | source_owner | make and fill the tables of the source |
| source | source_reader | read them, and nothing else |
| warehouse | warehouse | everything in the schema `warehouse`, nothing outside it |
| prefect | prefect | what Prefect's server needs |

The rights that PostgreSQL gives to everybody (to connect, to make temporary tables, to store large objects) are taken
away, also in the databases that come with the server.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from infra.first_start.administrators import DatabaseAdministrator
from lakehouse.errors import ServiceDown

Connection = psycopg.Connection[tuple[Any, ...]]

DATABASES = {"source": ("source_owner", "source_reader"), "warehouse": ("warehouse",), "prefect": ("prefect",)}
COME_WITH_THE_SERVER = ("postgres", "template1")
STORES_LARGE_OBJECTS = ("lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)")
SERVICE = "PostgreSQL"


def provision(administrator: DatabaseAdministrator) -> None:
    """Make what is missing, set passwords and rights; a second time changes nothing. Errors: ServiceDown."""
    passwords = {
        "source_owner": administrator.source_owner_password,
        "source_reader": administrator.source_reader_password,
        "warehouse": administrator.warehouse_password,
        "prefect": administrator.prefect_db_password,
    }
    with _opened(administrator, administrator.postgres_admin_db) as opened:
        opened.execute("SELECT pg_advisory_lock(hashtextextended('lakehouse first start', 0))")
        for role, password in passwords.items():
            _role(opened, role, password.get_secret_value())
        for database, roles in DATABASES.items():
            _database(opened, database, roles)
        for database in COME_WITH_THE_SERVER:
            _close(opened, database)
        for database, within in (("source", _source), ("warehouse", _warehouse), ("prefect", _prefect)):
            with _opened(administrator, database) as inside, inside.transaction():
                _take_from_everybody(inside)
                within(inside)


@contextmanager
def _opened(administrator: DatabaseAdministrator, database: str) -> Iterator[Connection]:
    address = f"{administrator.postgres_host}:{administrator.postgres_port}/{database}"
    remedy = "Start it, or correct POSTGRES_HOST, POSTGRES_PORT and POSTGRES_ADMIN_*."
    try:
        with psycopg.connect(
            host=administrator.postgres_host,
            port=administrator.postgres_port,
            dbname=database,
            user=administrator.postgres_admin_user,
            password=administrator.postgres_admin_password.get_secret_value(),
            connect_timeout=5,
            autocommit=True,
            application_name="lakehouse first start",
        ) as opened:
            remedy = "Let the administrator do that, then start again: what was done stays."
            yield opened
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error).rpartition("failed: ")[2]
        raise ServiceDown(SERVICE, address, " ".join(said.split()).removeprefix("FATAL: "), remedy) from None


def _role(opened: Connection, role: str, password: str) -> None:
    """Make a role, and send its password as what the server keeps of it: no log can show it."""
    name = sql.Identifier(role)
    if _lacks(opened, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
        opened.execute(sql.SQL("CREATE ROLE {}").format(name))
    verifier = opened.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    opened.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOCREATEDB NOCREATEROLE PASSWORD {}").format(name, sql.Literal(verifier))
    )
    if _lacks(opened, "SELECT 1 FROM pg_roles WHERE rolname = current_user AND rolsuper"):
        opened.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))  # who is no superuser gives only to his own


def _database(opened: Connection, database: str, roles: tuple[str, ...]) -> None:
    if _lacks(opened, "SELECT 1 FROM pg_database WHERE datname = %s", database):
        opened.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    _close(opened, database)
    for role in roles:
        opened.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), sql.Identifier(role))
        )


def _close(opened: Connection, database: str) -> None:
    opened.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))


def _take_from_everybody(inside: Connection) -> None:
    inside.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for function in STORES_LARGE_OBJECTS:
        inside.execute(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(sql.SQL(function)))


def _source(inside: Connection) -> None:
    inside.execute("GRANT USAGE, CREATE ON SCHEMA public TO source_owner")
    inside.execute("GRANT USAGE ON SCHEMA public TO source_reader")
    inside.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO source_reader")
    inside.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE source_owner IN SCHEMA public GRANT SELECT ON TABLES TO source_reader"
    )
    inside.execute("ALTER ROLE source_reader SET default_transaction_read_only = on")


def _warehouse(inside: Connection) -> None:
    inside.execute("CREATE SCHEMA IF NOT EXISTS warehouse AUTHORIZATION warehouse")
    inside.execute("ALTER ROLE warehouse IN DATABASE warehouse SET search_path = warehouse")


def _prefect(inside: Connection) -> None:
    inside.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    inside.execute("GRANT USAGE, CREATE ON SCHEMA public TO prefect")


def _lacks(opened: Connection, question: str, *values: str) -> bool:
    return opened.execute(question.encode(), values).fetchone() is None
