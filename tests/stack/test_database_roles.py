"""What each role may, on a real server; what it may not is tried and must be refused."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.first_start.__main__ import main
from infra.first_start.administrators import DatabaseAdministrator
from infra.first_start.database import DATABASES, provision
from lakehouse.errors import ServiceDown
from lakehouse.settings import Settings, load_settings
from lakehouse.sources.postgres_extract import extract
from lakehouse.sources.postgres_load import load
from lakehouse.sources.sample import write_sample
from tests.stack.postgres_process import postgres, server_log

PASSWORDS = {
    name: secrets.token_hex(16)
    for name in (
        "postgres_admin_password",
        "source_owner_password",
        "source_reader_password",
        "warehouse_password",
        "prefect_db_password",
    )
}
OF_ROLE = {
    "postgres": "postgres_admin_password",
    "source_owner": "source_owner_password",
    "source_reader": "source_reader_password",
    "warehouse": "warehouse_password",
    "prefect": "prefect_db_password",
}
FOREIGN = [
    (role, database)
    for role in (role for roles in DATABASES.values() for role in roles)
    for database in (*DATABASES, "postgres", "template1")
    if role not in DATABASES.get(database, ())
]
RIGHTS = """
SELECT 'role', rolname, rolsuper::text || rolcreatedb || rolcreaterole || rolcanlogin, rolconfig::text
  FROM pg_roles WHERE rolname !~ '^pg_'
UNION ALL SELECT 'database', datname, datdba::regrole::text, datacl::text FROM pg_database
UNION ALL SELECT 'schema', nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT 'table', relname, relowner::regrole::text, relacl::text
  FROM pg_class WHERE relkind = 'r' AND relacl IS NOT NULL
UNION ALL SELECT 'later', defaclrole::regrole::text, defaclobjtype::text, defaclacl::text FROM pg_default_acl
UNION ALL SELECT 'extension', extname, extversion, NULL FROM pg_extension
ORDER BY 1, 2, 3
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server after first start, with the tables of the source made by their owner."""
    with postgres(PASSWORDS["postgres_admin_password"]) as found:
        provision(administrator(found))
        with closing(connected(found, "source_owner", "source")) as opened:
            opened.execute("CREATE TABLE receipts (n int)")
            opened.execute("INSERT INTO receipts VALUES (1)")
            opened.execute("CREATE SEQUENCE numbers")
        yield found


def administrator(port: int, **changes: object) -> DatabaseAdministrator:
    return DatabaseAdministrator.model_validate(
        {"postgres_host": "127.0.0.1", "postgres_port": port} | PASSWORDS | changes
    )


def connected(port: int, role: str, database: str, password: str | None = None) -> psycopg.Connection[Any]:
    said = PASSWORDS[OF_ROLE[role]] if password is None else password
    return psycopg.connect(
        host="127.0.0.1", port=port, user=role, password=said, dbname=database, connect_timeout=200, autocommit=True
    )


def settings(port: int, role: str, home: Path) -> Settings:
    return load_settings(
        lakehouse_home=home,
        postgres_host="127.0.0.1",
        postgres_port=port,
        postgres_db="source",
        postgres_user=role,
        postgres_password=PASSWORDS[OF_ROLE[role]],
    )


def rights(port: int) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    for database in DATABASES:
        with closing(connected(port, "postgres", database)) as opened:
            found[database] = opened.execute(RIGHTS).fetchall()
    return found


def test_the_reader_reads_what_the_owner_makes_before_and_after_first_start(port: int) -> None:
    with closing(connected(port, "source_reader", "source")) as opened:
        assert opened.execute("SELECT n FROM receipts").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO receipts VALUES (2)",
        "UPDATE receipts SET n = 2",
        "DELETE FROM receipts",
        "TRUNCATE receipts",
        "DROP TABLE receipts",
        "ALTER TABLE receipts ADD COLUMN m int",
        "CREATE INDEX ON receipts (n)",
        "LOCK TABLE receipts IN EXCLUSIVE MODE",
        "SELECT n FROM receipts FOR UPDATE",
        "CREATE TABLE mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "SELECT nextval('numbers')",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "SET ROLE source_owner",
        "COPY receipts TO PROGRAM 'cat'",
        "SELECT pg_read_file('PG_VERSION')",
    ],
)
def test_the_reader_of_the_source_can_only_read(port: int, statement: str) -> None:
    with closing(connected(port, "source_reader", "source")) as opened:
        opened.execute("SET default_transaction_read_only = off")  # which anybody may: the rights must hold alone
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            opened.execute("BEGIN; " + statement if statement.startswith("LOCK") else statement)


def test_the_lakehouse_extracts_as_the_reader_and_loads_only_as_the_owner(port: int, tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", receipts=400, days=7)
    assert load(settings(port, "source_owner", tmp_path), tmp_path / "sample", transactions=True)["transactions"].loaded
    reader = settings(port, "source_reader", tmp_path)
    assert sum(one.rows for one in extract(reader, tmp_path / "landing", include_transactions=True)) > 400
    with pytest.raises(ServiceDown, match="permission denied|read-only transaction"):
        load(reader, tmp_path / "sample")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE EXTENSION pg_trgm",
        "SELECT lo_create(0)",
        "DROP DATABASE source",
        "ALTER ROLE source_reader PASSWORD 'x'",
        "SET ROLE source_owner",
    ],
)
def test_the_warehouse_role_writes_nothing_outside_its_schema(port: int, statement: str) -> None:
    with closing(connected(port, "warehouse", "warehouse")) as opened, pytest.raises(psycopg.Error) as refused:
        opened.execute(statement)
    assert isinstance(refused.value, psycopg.errors.InsufficientPrivilege)


def test_the_warehouse_role_writes_its_schema_which_is_where_it_starts(port: int) -> None:
    with closing(connected(port, "warehouse", "warehouse")) as opened:
        opened.execute("CREATE TABLE facts AS SELECT 1 AS units")
        assert opened.execute("SELECT units FROM warehouse.facts").fetchall() == [(1,)]
        opened.execute("DROP TABLE facts")


@pytest.mark.parametrize(("role", "database"), FOREIGN)
def test_no_role_gets_into_a_database_that_is_not_its_own(port: int, role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        connected(port, role, database)


@pytest.mark.parametrize("password", ["", "wrong", "x" * 32])
@pytest.mark.parametrize("role", OF_ROLE)
def test_nobody_gets_in_without_the_right_password(port: int, role: str, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed|no password supplied"):
        connected(port, role, next((name for name, ours in DATABASES.items() if role in ours), "postgres"), password)


def test_a_second_first_start_changes_nothing(port: int) -> None:
    before = rights(port)
    provision(administrator(port))
    assert rights(port) == before


def test_a_first_start_gives_a_role_its_new_password(port: int) -> None:
    provision(administrator(port, warehouse_password="another-password-of-it"))
    connected(port, "warehouse", "warehouse", "another-password-of-it").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connected(port, "warehouse", "warehouse")
    provision(administrator(port))
    connected(port, "warehouse", "warehouse").close()


def test_rights_that_were_added_by_hand_are_taken_back(port: int) -> None:
    before = rights(port)
    with closing(connected(port, "postgres", "source")) as opened:
        opened.execute("GRANT ALL ON DATABASE source TO PUBLIC")
        opened.execute("GRANT ALL ON SCHEMA public TO PUBLIC")
        opened.execute("ALTER ROLE source_reader CREATEDB CREATEROLE")
    provision(administrator(port))
    assert rights(port) == before


def test_no_password_is_in_the_servers_log_which_has_every_statement(port: int) -> None:
    provision(administrator(port))
    said = server_log(port)
    assert "ALTER ROLE" in said
    assert [name for name, password in PASSWORDS.items() if password in said] == []


def test_an_administrator_who_is_no_superuser_can_do_it_too(tmp_path: Path) -> None:
    with postgres(PASSWORDS["postgres_admin_password"]) as found:
        with closing(connected(found, "postgres", "postgres")) as opened:
            opened.execute("CREATE ROLE managed LOGIN CREATEDB CREATEROLE PASSWORD 'managed-by-somebody-else'")
        managed = {"postgres_admin_user": "managed", "postgres_admin_password": "managed-by-somebody-else"}
        provision(administrator(found, **managed))
        provision(administrator(found, **managed))
        with closing(connected(found, "warehouse", "warehouse")) as opened:
            opened.execute("CREATE TABLE facts (n int)")
        with closing(connected(found, "source_owner", "source")) as opened:
            opened.execute("CREATE TABLE receipts (n int)")
        with closing(connected(found, "source_reader", "source")) as opened:
            assert opened.execute("SELECT count(*) FROM receipts").fetchone() == (0,)
            with pytest.raises(psycopg.Error):
                opened.execute("INSERT INTO receipts VALUES (1)")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"POSTGRES_PORT": "1"}, "Connection refused"),
        ({"POSTGRES_ADMIN_PASSWORD": "not-the-right-one"}, "password authentication failed"),
        ({"POSTGRES_ADMIN_USER": "warehouse", "POSTGRES_ADMIN_PASSWORD": ""}, "POSTGRES_ADMIN_PASSWORD is None"),
        ({"WAREHOUSE_PASSWORD": "short"}, r"WAREHOUSE_PASSWORD is '\(hidden\)'"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_a_secret(
    port: int,
    changes: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(port)}
    given = named | {name.upper(): password for name, password in PASSWORDS.items()} | changes
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["postgres"]) in (1, 2)
    said = capsys.readouterr().err
    assert says.replace("\\", "") in said
    assert said.count("\n") == 1
    assert [secret for secret in given.values() if len(secret) > 8 and secret != "127.0.0.1" and secret in said] == []


def test_a_service_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mysql"]) == 2
    assert "postgres or object-store" in capsys.readouterr().err
