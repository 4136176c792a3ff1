"""Every attempt, also those that published nothing."""

from lakehouse.table import STRING, TEXTS, TIMESTAMP, Append, Column, Layer, OneOf, Table

STATES = ("published", "nothing_new", "blocked", "partial", "unfinished", "failed")

TABLE = Table(
    layer=Layer.OPS,
    name="runs",
    doc="One row per attempt and state it reached.",
    columns=(
        Column("run_id", STRING, "The attempt."),
        Column("run_key", STRING, "Equal for attempts at the same work; empty until it is known."),
        Column("flow", STRING, "What was asked."),
        Column("logical_date", STRING, "The date it was asked for."),
        Column("parameters", TEXTS, "With what."),
        Column("started_at", TIMESTAMP, "When it began."),
        Column("ended_at", TIMESTAMP, "When it reached its state."),
        Column(
            "state",
            STRING,
            "published, nothing_new, blocked, partial (a group failed), unfinished (after publishing) or failed.",
        ),
        Column("message", STRING, "What there is to say."),
    ),
    keys=(),
    write=Append(),
    checks=(OneOf("state", STATES, why="the states of a run are a closed set"),),
)
