"""A few points of the crash matrix; `make crash-matrix` runs them all."""

from pathlib import Path

import pytest

from tests.crash.matrix import Scene, cut_off, scene


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("scene"), seed=4)


def test_the_steps_of_a_run_are_known(given: Scene) -> None:
    assert given.steps[0] == "take the lease"
    assert {"write ops.sources", "write bronze.transactions", "write silver.receipts"} <= set(given.steps)
    assert {"write gold.sales_totals", "publish", "swap exports", "append to ops.runs"} <= set(given.steps)
    assert len(given.steps) >= 25


@pytest.mark.parametrize(
    ("step", "moment"),
    [("take the lease", "after"), ("write ops.ledger", "before"), ("publish", "after"), ("swap exports", "before")],
)
def test_a_run_killed_there_leaves_no_trace(given: Scene, step: str, moment: str, tmp_path: Path) -> None:
    assert cut_off(given, step, moment, tmp_path) == ""
