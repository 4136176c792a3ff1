"""What was delivered, and what became of it."""

from lakehouse.table import BIGINT, INT, STRING, TIMESTAMP, Column, Layer, OneOf, Table

STATUSES = ("current", "changing", "rejected", "withdrawn", "deleted", "duplicate", "superseded")
REFERENCE = ("categories", "product_categories")
ENTITIES = ("transactions", *REFERENCE)

TABLE = Table(
    layer=Layer.OPS,
    name="sources",
    doc="One row per delivered file.",
    columns=(
        Column(
            "source_id", BIGINT, "First 8 bytes of the SHA-256 of its bytes, signed; 0 when unreadable or changing."
        ),
        Column("entity", STRING, "What it holds."),
        Column("path", STRING, "Its name in the landing, the same at every delivery."),
        Column("location", STRING, "Where its bytes are read from."),
        Column("sha256", STRING, "Hash of its bytes, hexadecimal; empty when unreadable."),
        Column("bytes", BIGINT, "Its size."),
        Column("delivered_at", TIMESTAMP, "When the run that first saw it started."),
        Column(
            "status",
            STRING,
            "current, changing, rejected, withdrawn, deleted, duplicate or superseded.",
        ),
        Column("supersedes", BIGINT, "The source of the same path that it replaced.", nullable=True),
        Column("admitted_by", STRING, "Id of the run that first saw it."),
        Column(
            "detail",
            STRING,
            "What it grew from, why it was left or rejected, by whom and why withdrawn, or what it repeats.",
            nullable=True,
        ),
        Column("carried_lines", INT, "Lines kept of what it grew from, when only its end was read.", nullable=True),
        Column("carried_bytes", BIGINT, "The bytes these take.", nullable=True),
        Column("fingerprint", STRING, "What PostgreSQL says of its rows: their number and a checksum.", nullable=True),
    ),
    keys=("path", "source_id"),
    checks=(
        OneOf("status", STATUSES, why="the states of a source are a closed set"),
        OneOf("entity", ENTITIES, why="an entity without a table would be lost"),
    ),
)
