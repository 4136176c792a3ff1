"""What only first start may know: who administers the services, and the passwords of the roles it makes."""

from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import WrongUse

_Read = TypeVar("_Read", bound=BaseSettings)
_FROZEN = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)


class DatabaseAdministrator(BaseSettings):
    """Hold where PostgreSQL is, who may make roles there, and the password of each role."""

    model_config = _FROZEN

    postgres_host: str
    postgres_port: int = Field(5432, ge=1, le=65535)
    postgres_admin_db: str = "postgres"
    postgres_admin_user: str = "postgres"
    postgres_admin_password: SecretStr
    source_owner_password: SecretStr = Field(min_length=16)
    source_reader_password: SecretStr = Field(min_length=16)
    warehouse_password: SecretStr = Field(min_length=16)
    prefect_db_password: SecretStr = Field(min_length=16)


class StoreAdministrator(BaseSettings):
    """Hold where the object store is, who may make users there, the lakehouse's user, and the folders it uses."""

    model_config = _FROZEN

    minio_endpoint: str
    minio_root_user: str
    minio_root_password: SecretStr
    minio_access_key: str = Field(min_length=3, max_length=20)
    minio_secret_key: SecretStr = Field(min_length=16, max_length=40)
    lakehouse_root: str
    data_path: str
    output_path: str


def read(kind: type[_Read]) -> _Read:
    """Read the environment. Errors: WrongUse naming the first variable that is missing or wrong."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        found: object = None if first["type"] == "missing" else "(hidden)" if _is_secret(name) else first["input"]
        expected = "set; `make env` writes one" if found is None else first["msg"].removeprefix("Input should be ")
        raise WrongUse(name, found, expected.lower()) from None


def _is_secret(name: str) -> bool:
    endings: tuple[Literal["PASSWORD", "SECRET_KEY"], ...] = ("PASSWORD", "SECRET_KEY")
    return name.endswith(endings)
