"""What was decided about lines in quarantine."""

from lakehouse.table import BIGINT, INT, STRING, TIMESTAMP, Between, Column, Expression, Layer, OneOf, Table

ACTIONS = ("fix", "waive", "replay")

TABLE = Table(
    layer=Layer.OPS,
    name="corrections",
    doc=(
        "One row per decision about a line in quarantine; the last one about a line counts. "
        "It belongs to the bytes of a source: delivered again they keep it, "
        "and it has no effect while they are superseded or withdrawn."
    ),
    columns=(
        Column("source_id", BIGINT, "The file the line came in."),
        Column("line_number", INT, "The line there, from 1."),
        Column("decision", INT, "1 for the first about this line, 2 for the next ..."),
        Column("action", STRING, "fix, waive or replay."),
        Column("line", STRING, "What is read in place of the line as delivered; nothing when waived.", nullable=True),
        Column("rule", STRING, "The rule it had broken."),
        Column("detail", STRING, "What was found then."),
        Column("who", STRING, "Who decided."),
        Column("why", STRING, "The reason given."),
        Column("decided_at", TIMESTAMP, "When the run that recorded it started."),
        Column("run_id", STRING, "That run."),
    ),
    keys=("source_id", "line_number", "decision"),
    checks=(
        OneOf("action", ACTIONS, why="decisions are a closed set"),
        Expression("(action = 'waive') = (line is null)", why="only a waived line has nothing read in its place"),
        Between("decision", 1, None, why="decisions about a line are counted"),
    ),
)
