"""What the gates found."""

from lakehouse.table import BIGINT, BOOLEAN, DOUBLE, STRING, Append, Column, Layer, OneOf, Table

TABLE = Table(
    layer=Layer.OPS,
    name="quality_results",
    doc="One row per check and table in a run.",
    columns=(
        Column("run_id", STRING, "The run."),
        Column("table", STRING, "The table checked; empty for a gate over several."),
        Column("version", BIGINT, "The version checked.", nullable=True),
        Column("gate", STRING, "suite, ledger, volume, quarantine_share or oracle."),
        Column("check", STRING, "What must be true."),
        Column("severity", STRING, "critical or warning."),
        Column("passed", BOOLEAN, "Whether it is."),
        Column("observed", STRING, "What was found."),
        Column("seconds", DOUBLE, "What finding it cost.", digits=3),
    ),
    keys=(),
    write=Append(),
    checks=(OneOf("severity", ("critical", "warning"), why="severities are a closed set"),),
)
