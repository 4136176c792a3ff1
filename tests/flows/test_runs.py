"""Whole runs, as a user starts them: twice, in another order, killed, rolled back, blocked."""

import json
import os
import shutil
import signal
from datetime import timedelta
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lakehouse.engine.spark_server import installed_java
from lakehouse.errors import ServiceDown
from lakehouse.ops import runs
from lakehouse.sources.sample import SampleCounts, write_sample
from lakehouse.storage.tables import Storage
from tests.flows.command import answer, begun, digests, lakehouse, newest, run
from tests.waiting import HANG_SECONDS

KILL = """
import os, signal
import lakehouse.{module} as module
whole = module.{function}
def killed(*given, **named):
    {early}
    found = whole(*given, **named)
    {late}
    return found
module.{function} = killed
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
DIE_AT = "if given[1].table.qualified_name == '{table}': " + DIE


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleCounts]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_sample(folder, receipts=4_000, days=70)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, sample: tuple[Path, SampleCounts]) -> Path:
    """A home with the sample as release 1; nobody changes it."""
    home = tmp_path_factory.mktemp("published")
    run(home, sample[0])
    return home


def home_like(published: Path, into: Path) -> Path:
    """Copy a lakehouse: its tables name no path."""
    shutil.copytree(published / "tables", into / "tables")
    return into


def later_part(sample: Path, into: Path) -> Path:
    """Deliver the sample again with one more file."""
    shutil.copytree(sample, into)
    (into / "transactions" / "105_Tran.csv").write_text("2024-02-03|105|7|1 2 3\n2024-02-03|105|8|2 2\n")
    return into


def test_every_line_is_accounted_for(published: Path, sample: tuple[Path, SampleCounts]) -> None:
    counts = sample[1]
    accounts = answer(published, "ledger")
    transactions = [a for a in accounts if a["entity"] == "transactions"]
    assert all(a["difference"] == 0 for a in accounts)
    landed = [a for a in transactions if a["hop"] == "landing to bronze"]
    assert sum(a["expected"] for a in landed) == counts.receipts + sum(counts.bad.values())
    assert {a["control"] for a in transactions} == {"bytes", "rows", "units"}
    refused = answer(published, "quarantine")
    assert {rule: sum(r["rule"] == rule for r in refused) for rule in counts.bad} == counts.bad
    (totals,) = answer(published, "query", "select receipts, units, customers from gold.sales_totals")
    assert totals == {"receipts": counts.receipts, "units": counts.units, "customers": counts.customers}


def test_with_nothing_new_neither_engine_nor_checks_are_started(
    published: Path, sample: tuple[Path, SampleCounts]
) -> None:
    forbidden = "import lakehouse.engine.session as engine\ndef start(_): raise SystemExit(77)\nengine.start = start\n"
    forbidden += "import quality.suites.worker as worker\nworker.Worker.__init__ = start\n"
    done = lakehouse(published, "run", "--source", sample[0], "--no-prefect", "--no-checks", before=forbidden)
    assert done.returncode == 0, done.stderr
    assert "Nothing new since release 1" in done.stdout
    assert [r["release_id"] for r in answer(published, "releases")] == [1]


@pytest.mark.parametrize("partitions", ["2", "4"])
def test_gold_is_the_same_bytes_with_any_number_of_partitions(
    partitions: str, published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    run(tmp_path, sample[0], env={"ENGINE_PARTITIONS": partitions})
    assert digests(tmp_path) == digests(published)


def test_gold_is_the_same_bytes_on_an_older_processor(
    published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    newer = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    older = {
        "NPY_DISABLE_CPU_FEATURES": ",".join(newer),
        "ARROW_USER_SIMD_LEVEL": "NONE",
        "OPENBLAS_CORETYPE": "Prescott",
    }
    run(tmp_path, sample[0], env=older)
    assert digests(tmp_path) == digests(published)


def test_gold_is_the_same_bytes_whatever_the_order_and_names_of_the_files(
    published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(sample[0], folder)
    files = sorted((folder / "transactions").iterdir())
    for number, file in enumerate(reversed(files)):
        file.rename(file.with_name(f"{number}_delivered.csv"))
    held_back = folder / "transactions" / "0_delivered.csv"
    content = held_back.read_bytes()
    held_back.unlink()
    other_sets = {"PYTHONHASHSEED": "7"}  # which decides the order of what Python keeps in sets
    run(tmp_path / "home", folder, env=other_sets)
    held_back.write_bytes(content)
    run(tmp_path / "home", folder, env=other_sets)
    assert digests(tmp_path / "home") == digests(published)
    assert [r["release_id"] for r in answer(tmp_path / "home", "releases")] == [1, 2]


def test_a_corrected_file_replaces_its_rows_everywhere_and_back(
    published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    home, folder = home_like(published, tmp_path / "home"), tmp_path / "corrected"
    shutil.copytree(sample[0], folder)
    file = folder / "transactions" / "101_Tran.csv"
    first = file.read_bytes()
    file.write_bytes(b"".join(first.splitlines(keepends=True)[:300]))
    run(home, folder)
    assert all(a["difference"] == 0 for a in answer(home, "ledger"))
    assert digests(home) != digests(published)
    run(tmp_path / "fresh", folder)
    assert digests(home) == digests(tmp_path / "fresh")
    file.write_bytes(first)
    run(home, folder)
    assert digests(home) == digests(published)


def documents(home: Path) -> dict[str, bytes]:
    """Give every document of the exports; the manifest, which has the release's number, is none."""
    folder = home / "exports"
    files = (f for f in folder.rglob("*.json") if f.name != "manifest.json")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def test_a_rollback_brings_back_exports_and_digests_exactly(
    published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    run(home, sample[0])
    before = digests(home), documents(home)
    run(home, later_part(sample[0], tmp_path / "more"))
    assert digests(home) != before[0]
    assert documents(home) != before[1]
    done = lakehouse(home, "rollback", 1)
    assert done.returncode == 0, done.stderr
    assert (digests(home), documents(home)) == before
    run(home, tmp_path / "more")
    assert digests(home) == digests(home, 2)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory, sample: tuple[Path, SampleCounts]) -> Path:
    return later_part(sample[0], tmp_path_factory.mktemp("more") / "landing")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, more: Path) -> dict[str, str]:
    """The digests of a run that nobody killed."""
    home = tmp_path_factory.mktemp("undisturbed")
    run(home, more)
    return digests(home)


@pytest.mark.parametrize(
    "name",
    ['Ana\'s höme, "x" {1} *', *(pytest.param(name, marks=pytest.mark.long) for name in ("日本 1&2=3;$4!", "~ana"))],
)
def test_a_home_may_have_a_strange_name(
    name: str, published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    done = lakehouse(tmp_path / name, "run", "--source", sample[0], "--no-prefect", env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / name) == digests(published)
    assert [one.name for one in tmp_path.iterdir()] == [name]


POINTS = {
    "before silver.customers": (("engine.building", "refresh"), DIE_AT.format(table="silver.customers"), ""),
    "after silver.receipts": (("engine.building", "refresh"), "", DIE_AT.format(table="silver.receipts")),
    "after gold.itemsets": (("engine.building", "refresh"), "", DIE_AT.format(table="gold.itemsets")),
    "before the commit": (("releases.release", "commit"), DIE, ""),
    "after the commit": (("releases.release", "commit"), "", DIE),
}


ALWAYS = {
    ("before silver.customers", False),
    ("after silver.receipts", True),
    ("after gold.itemsets", False),
    ("before the commit", False),
    ("after the commit", True),
}
KILLS = [
    pytest.param(point, is_first, marks=[] if (point, is_first) in ALWAYS else pytest.mark.long)
    for point, is_first in product(POINTS, (True, False))
]


@pytest.mark.parametrize(("point", "is_first"), KILLS)
def test_a_killed_run_leaves_readers_on_the_last_release(
    point: str, is_first: bool, published: Path, more: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path if is_first else home_like(published, tmp_path)
    (module, function), early, late = POINTS[point]
    before = KILL.format(module=module, function=function, early=early or "pass", late=late or "pass")
    killed = lakehouse(home, "run", "--source", more, "--no-prefect", "--no-checks", before=before)
    assert killed.returncode == -9
    told = lakehouse(home, "status")
    assert "which was killed: the next run takes over" in told.stdout + told.stderr
    seen = newest(home)
    if point == "after the commit":
        assert digests(home) == undisturbed
    elif is_first:
        assert seen is None
    else:
        assert seen is not None
        assert seen.release_id == 1
        assert digests(home) == digests(published)
    run(home, more)
    assert digests(home) == undisturbed
    after = newest(home)
    assert after is not None
    assert json.loads((home / "exports" / "manifest.json").read_text())["release_id"] == after.release_id


@pytest.mark.timed
@pytest.mark.parametrize("step", ["silver", "gates"])
def test_an_interrupt_ends_a_run_at_once(step: str, sample: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    job = begun(tmp_path, "run", "--source", sample[0], "--no-prefect")
    assert job.stderr is not None
    assert any(f"task_started {step}" in line for line in job.stderr)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does
    said = job.communicate(timeout=HANG_SECONDS)[1]
    assert job.returncode == 130, said
    assert "flow_failed medallion-etl" in said
    assert "RETRIES" not in said
    assert newest(tmp_path) is None


STUCK = """
import threading
import flows.commands.interrupts, lakehouse.engine.building as module
from lakehouse.silver import receipts
flows.commands.interrupts.SECONDS_TO_END = 1
refresh = module.refresh
def stuck(shop, entry):
    if receipts.TABLE in entry.table.inputs.values():
        threading.Event().wait()
    return refresh(shop, entry)
module.refresh = stuck
"""


@pytest.mark.timed
def test_an_interrupt_cuts_off_a_build_that_does_not_end(
    more: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    job = begun(tmp_path, "run", "--source", more, "--no-prefect", "--no-checks", before=STUCK)
    assert job.stderr is not None
    assert any("task_started silver" in line for line in job.stderr)
    os.killpg(job.pid, signal.SIGINT)
    said = job.communicate(timeout=HANG_SECONDS)[1]
    assert job.returncode == 130, said
    assert said.endswith("Interrupted, and cut off: it did not end in order within 1 s. What readers see is whole.\n")
    run(tmp_path, more)
    assert digests(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ("products", "code", "said"),
    [
        (100, 0, "Published"),
        (300, 1, "line 1 of transactions/wholesale.csv, has 300. Ask for a smaller --max-itemset-size"),
        (900, 1, "line 1 of transactions/wholesale.csv, has 900. Ask for a smaller --max-itemset-size"),
    ],
)
def test_few_receipts_with_very_many_products_are_mined_or_told(
    products: int, code: int, said: str, tmp_path: Path
) -> None:
    write_sample(tmp_path / "source", receipts=1_000)
    listed = " ".join(str(1000 + k) for k in range(products))
    lines = [f"2024-01-0{day}|101|7|{listed}\n" for day in range(1, 6)]
    (tmp_path / "source" / "transactions" / "wholesale.csv").write_text("".join(lines))
    done = lakehouse(tmp_path / "home", "run", "--source", tmp_path / "source", "--no-prefect", "--no-checks")
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_equal_baskets_of_twelve_products_have_every_itemset_of_them(tmp_path: Path) -> None:
    write_sample(tmp_path / "source", receipts=1_000)
    for file in (tmp_path / "source" / "transactions").iterdir():
        file.unlink()
    basket = " ".join(map(str, range(1, 13)))
    lines = [f"2024-01-{1 + n % 28:02}|101|{n % 60}|{basket}\n" for n in range(1_000)]
    (tmp_path / "source" / "transactions" / "equal.csv").write_text("".join(lines))
    run(tmp_path / "home", tmp_path / "source", "--max-itemset-size", 20)
    counted = "select count(*) as itemsets, min(receipts) as receipts, max(size) as size from gold.itemsets"
    assert answer(tmp_path / "home", "query", counted) == [{"itemsets": 4_095, "receipts": 1_000, "size": 12}]
    rules = "select count(*) as rules from gold.association_rules"
    assert answer(tmp_path / "home", "query", rules) == [{"rules": 12 * 2**11 - 12}]


def test_what_cannot_be_mined_fails_its_group_alone_and_leaves_nothing_when_it_is_withdrawn(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    asked = ("--min-support", "0.05")  # few receipts a month are mined alone
    write_sample(source, receipts=2_000, days=181)
    other = source / "transactions" / "other.csv"
    other.write_text("".join(f"2024-04-01|101|{customer}|1 2 3\n" for customer in range(300)))
    run(home, source, *asked)
    listed = " ".join(map(str, range(1_000, 1_900)))
    wholesale = source / "transactions" / "wholesale.csv"
    wholesale.write_text("".join(f"2024-01-01|101|{customer}|{listed}\n" for customer in range(40)))
    other.write_text(other.read_text().replace("1 2 3", "4 5 6"))
    done = lakehouse(home, "run", "--source", source, "--no-prefect", "--no-checks", *asked)
    assert done.returncode == 1
    assert "recommendations: Among the " in done.stderr
    assert "The same 900 products are in 40 of them" in done.stderr
    seen = newest(home)
    assert seen is not None
    assert seen.groups == {"analytics": 2, "clustering": 2, "recommendations": 1, "summary": 2}
    assert lakehouse(home, "rebuild").returncode == 0
    done = lakehouse(home, "withdraw", "transactions/wholesale.csv", "--who", "Ana", "--why", "not a receipt")
    assert done.returncode == 0, done.stderr
    wholesale.unlink()
    run(home, source, *asked)
    run(tmp_path / "fresh", source, *asked)
    assert digests(home) == digests(tmp_path / "fresh")


def test_the_last_run_is_the_last_one_also_when_the_clock_went_back(published: Path, tmp_path: Path) -> None:
    home = home_like(published, tmp_path / "home")
    storage = Storage(str(home / "tables"))
    *_, before = storage.rows(runs.TABLE, storage.version(runs.TABLE) or 0).to_pylist()
    years_ago = before["ended_at"] - timedelta(days=1_000)
    later = before | {"run_id": "later", "state": "blocked", "message": "why", "ended_at": years_ago}
    storage.append(runs.TABLE, [later], "later")
    told = answer(home, "status")
    assert (told["last_run"], told["last_run_message"]) == ("blocked", "why")


def test_a_blocked_run_publishes_nothing_and_says_why(sample: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    asked = ("run", "--source", sample[0], "--no-prefect", "--min-rows-threshold", 5_000)
    done = lakehouse(tmp_path, *asked)
    assert done.returncode == 3
    assert "there are at least 5000 receipts (min_rows_threshold): 4000 receipts" in done.stderr
    assert lakehouse(tmp_path, "status").returncode == 1
    assert not (tmp_path / "exports").exists()


def test_too_many_bad_lines_block_the_release(sample: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    folder = later_part(sample[0], tmp_path / "more")
    (folder / "transactions" / "105_Tran.csv").write_text("2024-02-03|105|7|1 2 3\nnonsense\n")
    done = lakehouse(tmp_path / "home", "run", "--source", folder, "--no-prefect", "--no-checks")
    assert done.returncode == 3
    assert "105_Tran.csv" in done.stderr
    assert "1 of 2 are, 50.00 %" in done.stderr
    asked = ("run", "--source", folder, "--no-prefect", "--no-checks", "--max-quarantine-pct", 50)
    done = lakehouse(tmp_path / "home", *asked)
    assert done.returncode == 0, done.stderr
    done = lakehouse(tmp_path / "home", *asked[:-2])  # nothing is new but the limit
    assert (done.returncode, "1 of 2 are, 50.00 %" in done.stderr) == (3, True)


def test_a_suite_or_an_oracle_that_fails_blocks_the_release(
    published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path
) -> None:
    before = """
import lakehouse.gold.summary.product_sales as module
whole = module.build
def build(days, categories):
    return whole(days, categories).selectExpr('product_id', 'category_id', '0 as units', 'receipts')
module.build = build
"""
    done = lakehouse(tmp_path, "run", "--source", sample[0], "--no-prefect", before=before)
    assert done.returncode == 3
    assert "gold.product_sales" in done.stderr
    assert "units >= receipts" in done.stderr
    assert "what each product sold is what the landed files say: product 1: units" in done.stderr
    assert lakehouse(tmp_path, "status").returncode == 1


def test_a_group_that_fails_leaves_the_others_published_and_is_built_by_the_next_run(
    published: Path, more: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    home = home_like(published, tmp_path / "home")
    before = """
import lakehouse.gold.clustering.segment_profiles as module
def build(segments): raise RuntimeError('the lamp is out')
module.build = build
"""
    done = lakehouse(home, "run", "--source", more, "--no-prefect", "--no-checks", before=before)
    assert done.returncode == 1
    assert "clustering" in done.stderr
    assert "the lamp is out" in done.stderr
    seen = answer(home, "status")
    assert seen["release"] == 2
    assert seen["groups"] == {"analytics": 2, "clustering": 1, "recommendations": 2, "summary": 2}
    now, then = digests(home), digests(published)
    clustering = {"gold.customer_segments", "gold.segment_profiles"}
    assert {name for name in now if now[name] == then[name]} >= clustering
    assert now["gold.sales_totals"] != then["gold.sales_totals"]
    told = documents(home)
    earlier = {path: content for path, content in documents(published).items() if "/clustering/" in path}
    assert earlier.items() <= told.items()
    run(home, more)
    assert answer(home, "status")["groups"] == dict.fromkeys(seen["groups"], 3)
    assert digests(home) == undisturbed
    assert lakehouse(home, "rollback", 2).returncode == 0
    assert documents(home) == told


def test_gold_is_the_same_bytes_on_spark(published: Path, sample: tuple[Path, SampleCounts], tmp_path: Path) -> None:
    try:
        installed_java()
    except ServiceDown as missing:
        pytest.skip(missing.reason)
    run(tmp_path, sample[0], env={"ENGINE": "spark"})
    assert digests(tmp_path) == digests(published)


def test_transactions_from_postgres_give_the_same_gold(
    sample: tuple[Path, SampleCounts], published: Path, tmp_path: Path
) -> None:
    done = lakehouse(
        tmp_path, "run", "--source", sample[0], "--no-prefect", "--no-checks", env={"TRANSACTIONS_SOURCE": "postgres"}
    )
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path) == digests(published)
