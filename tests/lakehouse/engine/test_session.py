"""Engines: the same answers, quiet starts, clear refusals, and nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.engine import session as engine_module
from lakehouse.engine import spark_server
from lakehouse.engine.session import Engine, start
from lakehouse.engine.spark_server import start_server
from lakehouse.errors import ServiceDown
from lakehouse.settings import load_settings
from tests.waiting import HANG_SECONDS, wait_until

VALUES = pa.table(
    {
        "day": pa.array([date(2024, 2, 29), date(2020, 12, 31), date(2021, 1, 3), date(1999, 12, 31), None]),
        "other": pa.array([date(2024, 3, 1), date(2020, 1, 1), date(2021, 1, 3), date(2000, 1, 1), date(2024, 1, 1)]),
        "small": pa.array([1, -7, 0, 2**31 - 1, None], pa.int32()),
        "large": pa.array([5, -7, 0, 2**62, -(2**62)], pa.int64()),
        "share": pa.array([0.125, -0.125, 1e9 + 0.1, 1 / 3, None], pa.float64()),
        "word": pa.array(["abc", "", "Ünï|ö", " x ", None]),
        "items": pa.array([[3, 1, 3], [], [2], [5, 4], None], pa.list_(pa.int32())),
    }
)
EXPRESSIONS = {
    "the month of a day": "date_format(day, 'yyyy-MM')",
    "days between": "datediff(other, day)",
    "a day of the week": "dayofweek(day)",
    "a day of the year": "dayofyear(day)",
    "a year": "year(day)",
    "the Monday of a week": "cast(date_trunc('week', day) as date)",
    "the Thursday of a week": "date_add(cast(date_trunc('week', day) as date), 3)",
    "a comparison of days": "day <= other",
    "a remainder that is not negative": "pmod(large, 4)",
    "a hash": "xxhash64(large)",
    "a hash of a small number": "xxhash64(small)",
    "a share of hashes": "pmod(xxhash64(large), 7)",
    "a product in decimals": "cast(cast(large as decimal(19,0)) * cast(large as decimal(19,0)) as string)",
    "rounding half up": "floor(share * 100 + 0.5) / 100.0D",
    "a whole number of a fraction": "cast(floor(share) as bigint)",
    "a quotient of whole numbers": "large / 7",
    "a whole number as a fraction": "cast(large as double)",
    "the first that is there": "coalesce(small, 0)",
    "a number as text": "cast(large as string)",
    "a number of another width": "cast(small as bigint)",
    "a size": "size(items)",
    "distinct elements": "array_distinct(items)",
    "whether an element is there": "array_contains(items, 3)",
    "sorted elements": "sort_array(items)",
    "a closed interval": "small between -7 and 1",
    "a closed set": "word in ('abc', ' x ')",
    "unequal": "small <> 1",
    "a refused row": "not coalesce((size(items) >= 1), false)",
    "a pattern": "word rlike '^[a-z]+$'",
    "a length": "length(word)",
    "capitals": "upper(word)",
}
AGGREGATES = {
    "a number of rows": "count(1)",
    "a sum": "sum(small)",
    "a sum in decimals": "cast(sum(cast(large as decimal(19,0))) as string)",
    "distinct values": "count(distinct word)",
    "the least": "min(day)",
    "the most": "max(items)",
    "a mean": "avg(small)",
}
KILLED = """
import os, signal, sys
from pathlib import Path
from lakehouse.engine.spark_server import start_server
print(start_server(1, Path(sys.argv[1])).keeper.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_means_the_same_on_both_engines(sail: Engine, spark: Engine, expression: str) -> None:
    def of(rows: DataFrame) -> DataFrame:
        return rows.select(F.expr(expression).alias("found"))

    assert _answer(sail, of) == _answer(spark, of)


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=AGGREGATES)
def test_an_aggregate_means_the_same_on_both_engines(sail: Engine, spark: Engine, aggregate: str) -> None:
    def of(rows: DataFrame) -> DataFrame:
        return rows.agg(F.expr(aggregate).alias("found"))

    assert _answer(sail, of) == _answer(spark, of)


def test_the_rows_of_a_list_are_the_same_on_both_engines(sail: Engine, spark: Engine) -> None:
    def exploded(rows: DataFrame) -> DataFrame:
        return rows.select("large", F.explode("items").alias("item")).orderBy("large", "item")

    assert _answer(sail, exploded) == _answer(spark, exploded)


def test_joins_keep_the_same_rows_on_both_engines(sail: Engine, spark: Engine) -> None:
    def joined(rows: DataFrame) -> DataFrame:
        few = rows.where("small > 0").select("small", F.col("word").alias("again"))
        return rows.select("small", "word").join(few, "small", how="full").orderBy("word")

    assert _answer(sail, joined) == _answer(spark, joined)


def test_division_by_nothing_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match=r"(?i)divi(de|sion) by zero"):
        engine.session.createDataFrame(VALUES).select(F.expr("large / 0")).toArrow()


def test_days_know_no_time_zone(engine: Engine) -> None:
    assert engine.session.conf.get("spark.sql.session.timeZone") == "UTC"


def test_sail_starts_again_in_the_same_process(tmp_path: Path, sail: Engine) -> None:
    for _ in range(2):
        again = start(load_settings(lakehouse_home=tmp_path, engine="sail"))
        assert again.session.range(3).count() == 3
        again.stop()
    assert sail.session.range(3).count() == 3


@pytest.mark.timed
@pytest.mark.parametrize(("disposition", "said"), [("SIG_DFL", "heard"), ("SIG_IGN", "ignored")])
def test_interrupts_are_pythons_beside_sail(disposition: str, said: str, tmp_path: Path) -> None:
    script = f"""
import signal
from lakehouse.engine.session import start
from lakehouse.settings import load_settings
if signal.SIG_IGN == signal.{disposition}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
engine = start(load_settings(lakehouse_home={str(tmp_path)!r}, engine="sail"))
try:
    signal.raise_signal(signal.SIGINT)
    said = "ignored"
except KeyboardInterrupt:
    said = "heard"
print(said, engine.session.range(3).count())
engine.stop()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert (done.stdout, done.stderr) == (f"{said} 3\n", "")


def test_where_the_system_does_not_tell_what_handles_signals_sail_has_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(engine_module, "_handled", lambda: None)
    monkeypatch.setattr(engine_module.time, "sleep", slept.append)
    engine_module._wait_for_handler.__wrapped__()
    assert slept == [engine_module.UNTOLD_SECONDS]


@pytest.mark.usefixtures("spark")
def test_spark_starts_beside_another_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    beside = start(load_settings(lakehouse_home=tmp_path, engine="spark"))
    assert beside.session.version.startswith("4.")
    beside.stop()
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "logs" / "spark.log").stat().st_size > 0
    assert not _group(beside.server.keeper.pid)
    assert not Path(beside.server.scratch).exists()


@pytest.mark.usefixtures("spark")
@pytest.mark.filterwarnings("ignore:.*RETRIES_EXCEEDED")
@pytest.mark.timed
@pytest.mark.timeout(300)  # the client by itself tries again for ten minutes; ours does for seconds
def test_a_spark_that_died_is_told_at_once(tmp_path: Path) -> None:
    dying = start(load_settings(lakehouse_home=tmp_path, engine="spark"))
    os.killpg(dying.server.keeper.pid, signal.SIGKILL)
    with pytest.raises(Exception, match="(?i)unavailable|refused|closed|reset"):
        dying.session.range(3).count()
    dying.stop()
    assert not Path(dying.server.scratch).exists()


@pytest.mark.timed
@pytest.mark.usefixtures("spark")
def test_spark_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "spark.log")]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stderr == ""
    wait_until(lambda: not _group(int(killed.stdout)))


def test_a_server_that_is_away_is_one_sentence_also_when_the_process_ends() -> None:
    code = """
from lakehouse.engine.session import start
from lakehouse.errors import ServiceDown
from lakehouse.settings import load_settings
try:
    start(load_settings(spark_remote="sc://127.0.0.1:1", spark_remote_token="the token"))
except ServiceDown as told:
    print(told)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECONDS, check=True
    )
    assert done.stdout.startswith("The Spark Connect server at 127.0.0.1:1 failed: ")
    assert "the token" not in done.stdout
    assert done.stderr == ""


def test_an_address_that_cannot_be_read_is_told_without_its_token() -> None:
    with pytest.raises(ServiceDown, match=r"authorization=\(hidden\)") as told:
        start(load_settings(spark_remote="sc://127.0.0.1:1/;authorization=the-token=more"))
    assert "the-token" not in str(told.value)


def test_without_java_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ServiceDown, match=r"no Java is installed\. Install Java 17 or newer, or use ENGINE=sail\."):
        start(load_settings(lakehouse_home=tmp_path, engine="spark"))


@pytest.mark.parametrize(("version", "said"), [("1.8.0_392", "Java 8"), ("11.0.2", "Java 11"), ("16", "Java 16")])
def test_java_that_is_too_old_is_named(
    version: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-01-01' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServiceDown, match=f"{said} is installed"):
        start(load_settings(lakehouse_home=tmp_path, engine="spark"))


@pytest.mark.usefixtures("spark")
def test_jars_that_cannot_be_fetched_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"spark.jars.packages": "io.delta:delta-nowhere:9.9.9", "spark.jars.ivy": str(tmp_path / "ivy")}
    monkeypatch.setattr(spark_server, "CONFIGURATION", spark_server.CONFIGURATION | missing)
    with pytest.raises(ServiceDown, match=r"jars could not be fetched: io\.delta:delta-nowhere:9\.9\.9\."):
        start_server(1, tmp_path / "spark.log")


@pytest.mark.usefixtures("spark")
def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"spark.driver.memory": "2"}
    monkeypatch.setattr(spark_server, "CONFIGURATION", spark_server.CONFIGURATION | wrong)
    with pytest.raises(ServiceDown, match="Spark at this machine failed: .*Too small maximum heap"):
        start_server(1, tmp_path / "spark.log")


def _answer(engine: Engine, of: Callable[[DataFrame], DataFrame]) -> list[dict[str, object]]:
    answer: list[dict[str, object]] = of(engine.session.createDataFrame(VALUES)).toArrow().to_pylist()
    return answer


def _group(leader: int) -> list[str]:
    """List the processes of a group that are more than a name."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    mine = (line.split(None, 2) for line in listed.splitlines())
    return [args for pgid, stat, *args in mine if int(pgid) == leader and not stat.startswith("Z")]


@pytest.mark.timed
def test_a_session_of_sail_outlives_a_night_without_questions(tmp_path: Path) -> None:
    """By itself Sail ends it after a quarter of an hour; that our limit is the one it has shows with a short one."""
    code = f"""
import time
from lakehouse.engine import session
from lakehouse.settings import load_settings
assert session.IDLE_SECONDS > 86_400
session.IDLE_SECONDS = 1
with session.running_engine(load_settings(lakehouse_home={str(tmp_path)!r})) as sail:
    assert sail.session.range(3).count() == 3
    for pause in (2, 4, 8, 16, 32, 64, 128, 256):
        time.sleep(pause)
        sail.session.range(3).count()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert "is not running" in done.stderr
