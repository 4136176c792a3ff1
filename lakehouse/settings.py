"""The one place where environment variables are read."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse.errors import WrongUse

_PROJECT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Hold every setting; each field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    lakehouse_home: Path = Field(_PROJECT / ".lakehouse", description="Folder of all embedded state.")
    lakehouse_root: str = Field("", description="Where the Delta tables are; unset: tables/ under the home.")
    data_path: str = Field("", description="Landing: the folder where source files are put.")
    output_path: Path | None = Field(None, description="Where exports are written; unset: exports/ under the home.")
    frontend_path: Path | None = Field(None, description="Where output-sync copies the exports; unset: nowhere.")
    logs_path: Path | None = Field(None, description="Where run events are written; unset: logs/ under the home.")
    engine: Literal["sail", "spark"] = Field("sail", description="sail (in the process) or spark (local, Java 17+).")
    engine_partitions: int = Field(2, ge=1, le=1024, description="Partitions of a shuffle in the engine.")
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

    @property
    def root(self) -> str:
        return self.lakehouse_root or str(self.lakehouse_home.absolute() / "tables")

    @property
    def exports(self) -> Path:
        return self.output_path or self.lakehouse_home / "exports"

    @property
    def documents(self) -> Path:
        return self.lakehouse_home / "data-docs"

    @property
    def logs(self) -> Path:
        return self.logs_path or self.lakehouse_home / "logs"


def load_settings(**changes: object) -> Settings:
    """Read the environment; `changes` win over it. Errors: WrongUse naming the first wrong variable."""
    try:
        return Settings(**changes)  # type: ignore[arg-type]  # pydantic validates them
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        found = "(hidden)" if "PASSWORD" in name or "SECRET" in name else first["input"]
        raise WrongUse(name, found, first["msg"].removeprefix("Input should be ").lower()) from None
