"""What readers resolve: the published releases."""

from lakehouse.table import BIGINT, BOOLEAN, COUNTS, STRING, TEXTS, TIMESTAMP, Append, Column, Layer, Table

TABLE = Table(
    layer=Layer.OPS,
    name="releases",
    doc="One row per published release; the newest is what readers see.",
    columns=(
        Column("release_id", BIGINT, "1, 2, 3 ..."),
        Column("parent", BIGINT, "The release it was made on.", nullable=True),
        Column("run_id", STRING, "The run that made its content."),
        Column("run_key", STRING, "Hash of flow, parameters, admitted sources and code."),
        Column("created_at", TIMESTAMP, "When the run that made its content started; a rollback keeps it."),
        Column("published_at", TIMESTAMP, "When it became the newest release."),
        Column("tables", COUNTS, "Version of every table."),
        Column("groups", COUNTS, "Release as of which each group is."),
        Column("inputs_hash", STRING, "Hash of the admitted sources."),
        Column("digests", TEXTS, "Digest of every gold table."),
        Column("parameters", TEXTS, "The parameters its content was made with."),
        Column("code_version", STRING, "Hash of the code that made its content."),
        Column("engine", STRING, "What computed it."),
        Column("verified", BOOLEAN, "Whether the quality checks were on."),
    ),
    keys=(),
    write=Append(),
)
