"""The text of .env.example, from the settings themselves: `python -m lakehouse.documents.env_example` prints it."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from lakehouse.settings import Settings

_PROJECT = Path(__file__).resolve().parents[2]
_HEAD = """# Every setting with its default. Copy the lines to be changed to .env, without the "# " before the name, and
# load it: set -a; . ./.env; set +a
# Generated from lakehouse/settings.py; `make docs` writes it again."""


def env_example() -> str:
    """Describe every environment variable, with its default as a comment."""
    return "\n\n".join([_HEAD, *(_variable(name, field) for name, field in Settings.model_fields.items())]) + "\n"


def _variable(name: str, field: FieldInfo) -> str:
    return f"# {field.description}\n# {name.upper()}={_default(field)}"


def _default(field: FieldInfo) -> str:
    match field.get_default(call_default_factory=True):
        case None:
            return ""
        case SecretStr() as secret:
            return secret.get_secret_value()
        case Path() as path if path.is_relative_to(_PROJECT):
            return str(path.relative_to(_PROJECT))
        case value:
            return str(value)


if __name__ == "__main__":
    print(env_example(), end="")
