"""The folder of what is fetched or built once for every checkout."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from pydantic_settings import BaseSettings, SettingsConfigDict


class Cache(BaseSettings):
    """Hold where caches are."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    xdg_cache_home: Path = Path.home() / ".cache"


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """Give the folder of that name, which `make` fills the first time: whole, or not there."""
    folder = Cache().xdg_cache_home / "sales-lakehouse" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        make(new)
        new.chmod(0o755)
        if not folder.is_dir():
            new.rename(folder)
    finally:
        rmtree(new, ignore_errors=True)
    return folder
