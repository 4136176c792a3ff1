"""Which releases were pinned, unpinned or let go."""

from lakehouse.table import BIGINT, STRING, TIMESTAMP, Append, Column, Expression, Layer, OneOf, Table

STATES = ("pinned", "unpinned", "expired")

TABLE = Table(
    layer=Layer.OPS,
    name="retention",
    doc="One row per release and state it was given; the last one holds.",
    columns=(
        Column("change_id", BIGINT, "1, 2, 3 ...: the order of the rows, whatever the clock says."),
        Column("release_id", BIGINT, "The release."),
        Column("state", STRING, "pinned or unpinned by hand; expired: vacuum let it go."),
        Column("who", STRING, "Who asked."),
        Column("why", STRING, "The reason given.", nullable=True),
        Column("changed_at", TIMESTAMP, "When the command started."),
        Column("run_id", STRING, "The command."),
    ),
    keys=(),
    write=Append(),
    checks=(
        OneOf("state", STATES, why="the states are a closed set"),
        Expression("change_id >= 1", why="changes are numbered from 1"),
    ),
)
