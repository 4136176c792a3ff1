"""The one place where environment variables are read."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import WrongUse

PLACES = ("lakehouse_root", "data_path", "output_path")  # folders, or addresses of objects
_PROJECT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Hold every setting; each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    lakehouse_home: Path = Field(_PROJECT / ".lakehouse", description="Folder of all embedded state.")
    lakehouse_root: str = Field("", description="Folder or s3://bucket/prefix of the tables; unset: in the home.")
    data_path: str = Field("", description="Landing: folder or s3://bucket/prefix of the source files.")
    output_path: str = Field("", description="Folder or s3://bucket/prefix of the exports; unset: in the home.")
    frontend_path: Path | None = Field(None, description="Where output-sync copies the exports; unset: nowhere.")
    logs_path: Path | None = Field(None, description="Where run events are written; unset: logs/ under the home.")
    engine: Literal["sail", "spark"] = Field("sail", description="sail (in the process) or spark (local, Java 17+).")
    engine_partitions: int = Field(2, ge=1, le=1024, description="Partitions of a shuffle in the engine.")
    spark_remote: str = Field("", description="Spark Connect server, sc://host:port; unset: the engine of ENGINE.")
    spark_remote_token: SecretStr = Field(SecretStr(""), description="What that server asks for as its token.")
    minio_endpoint: str = Field("", description="S3 service of s3:// addresses, http(s)://host:port; unset: AWS.")
    minio_access_key: str = Field("", description="Its user; unset: what AWS_* variables say.")
    minio_secret_key: SecretStr = Field(SecretStr(""), description="The user's secret.")
    transactions_source: Literal["files", "postgres"] = Field("files", description="Transactions: files or postgres.")
    settle_seconds: float = Field(2, ge=0, le=3600, description="A new file is looked at again so long after; 0: not.")
    lease_seconds: float = Field(60, ge=1, le=3600, description="A writer without a heartbeat for so long is dead.")
    lease_wait_seconds: float = Field(300, ge=0, description="How long a run waits for another to end.")
    keep_daily: int = Field(30, ge=0, description="Days of which vacuum keeps the last release.")
    keep_monthly: int = Field(12, ge=0, description="Months of which vacuum keeps the last release.")
    postgres_host: str = Field("", description="PostgreSQL server; unset: an embedded one is started.")
    postgres_port: int = Field(5432, ge=1, le=65535, description="Its port.")
    postgres_db: str = Field("lakehouse", description="Its database.")
    postgres_user: str = Field("", description="Its user.")
    postgres_password: SecretStr = Field(SecretStr(""), description="The user's password.")
    prefect_api_url: str = Field("", description="Prefect's API; unset: a local server is started when needed.")

    notification_url: SecretStr = Field(
        SecretStr(""), description="Webhook told of runs that failed; unset: nobody is told."
    )

    @field_validator(*PLACES, "lakehouse_home", "logs_path", "frontend_path", mode="before")
    @classmethod
    def _at_home(cls, found: object) -> object:
        """Read ~ as the user's own folder, as a shell does: not every caller has one."""
        return os.path.expanduser(found) if isinstance(found, str) and re.match(r"~(/|$)", found) else found

    @field_validator(*PLACES)
    @classmethod
    def _is_place(cls, found: str) -> str:
        """Hold an address to the one kind there is."""
        if "://" in found and not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+(/.*)?", found):
            raise ValueError("a folder, or an address like s3://bucket/prefix")
        return found

    @field_validator("minio_endpoint")
    @classmethod
    def _is_address(cls, found: str) -> str:
        """Hold an endpoint to what every client of S3 can read."""
        if found and not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?/?", found):
            raise ValueError("an address like http://host:9000 or https://host")
        return found

    @property
    def root(self) -> str:
        return self.lakehouse_root or str(self.lakehouse_home.absolute() / "tables")

    @property
    def object_store(self) -> dict[str, str]:
        """Say where objects are and who asks, in the variables that every client of S3 reads."""
        said = {
            "AWS_ENDPOINT_URL": self.minio_endpoint,
            "AWS_ALLOW_HTTP": "true" if self.minio_endpoint.startswith("http://") else "",
            "AWS_ACCESS_KEY_ID": self.minio_access_key,
            "AWS_SECRET_ACCESS_KEY": self.minio_secret_key.get_secret_value(),
            "AWS_REGION": "us-east-1" if self.minio_endpoint else "",
        }
        return {name: value for name, value in said.items() if value}

    @property
    def exports(self) -> Path:
        named = "" if self.exports_address else self.output_path
        return Path(named) if named else self.lakehouse_home / "exports"

    @property
    def exports_address(self) -> str:
        """Give where the exports are put as objects too; empty when nowhere."""
        return self.output_path.rstrip("/") if self.output_path.startswith("s3://") else ""

    @property
    def documents(self) -> Path:
        return self.lakehouse_home / "data-docs"

    @property
    def logs(self) -> Path:
        return self.logs_path or self.lakehouse_home / "logs"


def load_settings(**changes: object) -> Settings:
    """Read the environment; `changes` win over it. Errors: WrongUse naming the first wrong variable.

    What is said of the object store is handed on in the environment: delta-rs, Sail, Arrow and Spark find it there.
    """
    try:
        settings = Settings(**changes)  # type: ignore[arg-type]  # pydantic validates them
        os.environ.update(settings.object_store)
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        is_secret = any(word in name for word in ("PASSWORD", "SECRET", "TOKEN")) or "@" in str(first["input"])
        found = "(hidden)" if is_secret else first["input"]
        raise WrongUse(name, found, _requirement(first["msg"])) from None


@dataclass(frozen=True)
class ObjectStoreAccess:
    """Where objects are, and who asks for them; without an endpoint they are at AWS."""

    endpoint: str
    region: str
    user: str
    secret: str = field(repr=False)
    session: str = field(repr=False)


def object_store_access() -> ObjectStoreAccess:
    """Read where objects are, and who asks, from the variables that every client of S3 reads.

    `load_settings` sets them; processes that an engine begins inherit them.
    """
    read = os.environ.get
    return ObjectStoreAccess(
        endpoint=read("AWS_ENDPOINT_URL", ""),
        region=read("AWS_REGION") or read("AWS_DEFAULT_REGION") or "us-east-1",
        user=read("AWS_ACCESS_KEY_ID", ""),
        secret=read("AWS_SECRET_ACCESS_KEY", ""),
        session=read("AWS_SESSION_TOKEN", ""),
    )


def _requirement(message: str) -> str:
    """Give what pydantic says a value must be."""
    own = message.removeprefix("Value error, ")
    return own if own != message else message.removeprefix("Input should be ").lower()
