"""Every table with a build, run on a few rows and on none: the declared columns, the same rows on both engines."""

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse import catalog
from lakehouse.engine.building import rows_of
from lakehouse.engine.session import Engine
from lakehouse.kernels.digest import digest
from lakehouse.parameters import Parameters
from tests.rows import arrow_rows, framed

BUILT = [entry.table.qualified_name for entry in catalog.entries() if entry.build is not None]
ASKED = Parameters(n_clusters=2, min_support=0.2, min_confidence=0.1)
FILES = {
    "transactions": "2024-01-05|101|1|5 6 5\n2024-01-31|102|1|5\n2024-02-01|101|2|6 7\n2024-02-01|101|2|6 7\n"
    "2024-02-02|101|3|5 6 8 9\nno receipt\n2023-12-31|103|-4|5 6\n",
    "categories": "1|BREAD, CAKES\n2|MILK\n3|EGGS\nX|?\n",
    "product_categories": "v.Code_pr|v.code\n5|1\n5|2\n6|2\n6|2\n9|x\n",
}
Build = Callable[[Engine, str], pa.Table]


@pytest.fixture(scope="session")
def of_few(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build a table of the tables before it, from three files; each once per engine."""
    folder = tmp_path_factory.mktemp("files")
    seen = datetime(2024, 3, 1, tzinfo=UTC)
    sources = [
        {"source_id": number, "entity": entity, "path": f"{entity}.csv", "location": str(_written(folder, entity)),
         "sha256": sha256(FILES[entity].encode()).hexdigest(), "bytes": len(FILES[entity].encode()),
         "delivered_at": seen, "status": "current",
         "admitted_by": ""}
        for number, entity in enumerate(FILES, 1)
    ]  # fmt: skip
    corrections = [
        {"source_id": 1, "line_number": 6, "line": None},
        {"source_id": 1, "line_number": 7, "line": "2023-12-31|103|4|5 6"},
        {"source_id": 2, "line_number": 4, "line": "4|?"},
    ]
    return _builder(
        {
            "ops.sources": pa.Table.from_pylist(sources, catalog.entry("ops.sources").table.arrow_schema),
            "ops.corrections": arrow_rows(catalog.entry("ops.corrections").table, corrections),
        }
    )


@pytest.fixture(scope="session")
def of_nothing() -> Build:
    """Build a table whose inputs are all empty."""
    return _builder({t.qualified_name: t.arrow_schema.empty_table() for t in catalog.tables()})


@pytest.mark.parametrize("name", BUILT)
def test_a_build_gives_the_declared_columns(engine: Engine, name: str, of_few: Build) -> None:
    rows = of_few(engine, name)
    assert _types(rows.schema) == _types(catalog.entry(name).table.arrow_schema)
    assert rows.num_rows > 0


@pytest.mark.parametrize("name", BUILT)
def test_a_build_of_nothing_gives_nothing_in_the_declared_columns(engine: Engine, name: str, of_nothing: Build) -> None:
    rows = of_nothing(engine, name)
    assert _types(rows.schema) == _types(catalog.entry(name).table.arrow_schema)
    assert rows.num_rows == 0


@pytest.mark.parametrize("name", BUILT)
def test_both_engines_give_the_same_rows(sail: Engine, spark: Engine, name: str, of_few: Build) -> None:
    digits = {c.name: c.digits for c in catalog.entry(name).table.columns}
    assert digest(of_few(spark, name).to_batches(), digits) == digest(of_few(sail, name).to_batches(), digits)


def _builder(given: dict[str, pa.Table]) -> Build:
    """Build tables of given ones, or of what was built of those before."""
    done: dict[tuple[str, str], pa.Table] = {}

    def input_of(engine: Engine, name: str) -> pa.Table:
        return given[name] if name in given else build(engine, name)

    def build(engine: Engine, name: str) -> pa.Table:
        if (engine.name, name) not in done:
            entry = catalog.entry(name)
            inputs = {key: (t, input_of(engine, t.qualified_name)) for key, t in entry.table.inputs.items()}
            frames = {key: framed(engine, table, rows.to_pylist()) for key, (table, rows) in inputs.items()}
            extra = {"parameters": ASKED} if entry.takes_parameters else {}
            assert entry.build is not None
            done[engine.name, name] = rows_of(engine, entry.build(**frames, **extra), entry.table).read_all()
        return done[engine.name, name]

    return build


def _written(folder: Path, entity: str) -> Path:
    path = folder / f"{entity}.csv"
    path.write_text(FILES[entity])
    return path


def _types(schema: pa.Schema) -> list[tuple[str, str]]:
    """Give names and types; what the elements of lists are called is each engine's own."""
    return [(f.name, str(f.type).replace("element: ", "item: ").replace(" not null", "")) for f in schema]
