"""Why tests of this room are skipped, where that is allowed."""

NO_COMPOSE = "docker compose is not installed"
NO_MINIO = "no minio is installed here: set MINIO_BINARY"
