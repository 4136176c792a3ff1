"""The accounting of every source row."""

from lakehouse.table import BIGINT, STRING, Column, Expression, Layer, OneOf, Table

TABLE = Table(
    layer=Layer.OPS,
    name="ledger",
    doc="One row per source, hop and control.",
    columns=(
        Column("run_id", STRING, "The run that counted."),
        Column("source_id", BIGINT, "The source counted."),
        Column("entity", STRING, "What it holds."),
        Column("path", STRING, "Its name in the landing."),
        Column("hop", STRING, "From where to where."),
        Column("control", STRING, "What is counted: bytes, rows or units."),
        Column("expected", BIGINT, "The count before the hop."),
        Column("found", BIGINT, "The count after it, quarantine included, corrected lines as they were delivered."),
        Column("quarantined", BIGINT, "The part of `found` that is in quarantine, open or waived."),
        Column("waived", BIGINT, "The part of `quarantined` that is accepted as lost."),
        Column("difference", BIGINT, "found - expected."),
    ),
    keys=("source_id", "hop", "control"),
    checks=(
        Expression("difference = found - expected", why="the difference is what it says"),
        Expression("0 <= waived and waived <= quarantined", why="only lines in quarantine are waived"),
        Expression("difference = 0", why="every source row is accounted for"),
        OneOf("control", ("bytes", "rows", "units"), why="the controls are a closed set"),
    ),
)
