"""prefect.yaml against the flows it deploys."""

import inspect
import re
from pathlib import Path

import pytest

from deployments.declaration import Deployment
from deployments.prefect_file import FILE, read_declaration
from flows.orchestration.client import PROJECT
from lakehouse.errors import Misdeclared

CONTENT = FILE.read_text()
DECLARED = read_declaration()
SCHEDULED = {
    "medallion-etl/daily": ("0 6 * * *", "America/Sao_Paulo"),
    "data-loading/manual": None,
    "backfill/manual": None,
    "executive-summary/manual": None,
    "analytics/manual": None,
    "clustering/manual": None,
    "recommendations/manual": None,
    "output-sync/manual": None,
}
MARKS = {  # the first line of each key at each depth
    found[0]: number
    for number, line in reversed(list(enumerate(CONTENT.splitlines(), 1)))
    if (found := re.match(r"^ *(?:- )?\w+:(?= |$)", line)) and "PREFECT" not in line
}


def each_deployment() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("deployment", DECLARED.deployments, ids=lambda one: one.full_name)


def refused(tmp_path: Path, text: str) -> Misdeclared:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(Misdeclared) as told:
        read_declaration(path)
    assert "\n" not in str(told.value)
    return told.value


def changed(before: str, after: str) -> tuple[str, int]:
    assert before in CONTENT, f"{before} is in prefect.yaml"
    return CONTENT.replace(before, after, 1), CONTENT[: CONTENT.index(before)].count("\n") + 1


def test_a_misspelt_key_is_refused_with_its_line_wherever_it_stands(tmp_path: Path) -> None:
    lines = CONTENT.splitlines()
    assert len(MARKS) > 35
    for mark, number in MARKS.items():
        misspelt = lines[number - 1].replace(mark, f"{mark[:-1]}x:", 1)
        told = refused(tmp_path, "\n".join([*lines[: number - 1], misspelt, *lines[number:]]))
        assert f"the key {mark.split()[-1][:-1]}x is unknown" in str(told) or re.search(
            "no parameter|has no type", str(told)
        )
        assert told.line == number


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            "    concurrency_limit: 4",
            '    concurrency_limit: "4"',
            "concurrency_limit is '4': it must be a valid integer",
        ),
        ('cron: "0 6 * * *"', 'cron: "0 25 * * *"', "cron is '0 25 * * *'"),
        ("timezone: America/Sao_Paulo", "timezone: America/Sao_Paolo", "timezone is 'America/Sao_Paolo'"),
        ("      n_clusters: 4", "      clusters: 4", "there is no parameter clusters; there is source_path"),
        ("      n_clusters: 4", "      n_clusters: 1", "1 is less than the minimum of 2"),
        ("      n_clusters: 4", "      n_clusters: four", '"four" is not of type "integer"'),
        ("entrypoint: flows/groups.py:analytics", "entrypoint: flows/group.py:analytics", "there is no flows/group.py"),
        ("entrypoint: flows/groups.py:analytics", "entrypoint: flows/groups.py:ana", "flows/groups.py has no flow ana"),
        ("      work_queue_name: exports", "      work_queue_name: export", "must be one of default, exports"),
        ("    type: process", "    type: docker", "it must be 'process'"),
        ("        - prefect.flow-run.Completed", "        - prefect.flow-run.Complete", "'prefect.flow-run.Complete'"),
        ("      within: 120", "      within: 1", "greater than or equal to 10"),
        (
            "      - type: notify",
            "      - type: notice",
            "type is 'notice': it must be one of 'change-flow-run-state', 'cancel-flow-run', 'notify'",
        ),
        ("  - name: ml-pool", "  - name: etl-pool", "the work pool etl-pool stands here a second time"),
        ("  - name: long-run", "  - name: failed-run", "the automation failed-run stands here a second time"),
        ("    type: process", "    type: process\n    type: process", "the key type stands here a second time"),
        ("    type: process", "    type: [process", "this is no YAML"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_line(tmp_path: Path, before: str, after: str, reason: str) -> None:
    text, line = changed(before, after)
    told = refused(tmp_path, text)
    assert reason in str(told)
    first = {"stands here": 200, "this is no YAML": 1}
    assert line <= told.line <= line + next((slack for key, slack in first.items() if key in reason), 0)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "it is empty" in str(refused(tmp_path, ""))


def test_the_deployments_are_those_of_the_design() -> None:
    assert sorted(deployment.full_name for deployment in DECLARED.deployments) == sorted(SCHEDULED)


def test_a_schedule_has_a_slug_of_its_own() -> None:
    slugs = [schedule.slug for deployment in DECLARED.deployments for schedule in deployment.schedules]
    assert sorted(set(slugs)) == sorted(slugs)


@each_deployment()
def test_a_schedule_is_the_one_of_the_design(deployment: Deployment) -> None:
    scheduled = [(schedule.cron, schedule.timezone) for schedule in deployment.schedules if schedule.active]
    expected = SCHEDULED[deployment.full_name]
    assert scheduled == ([expected] if expected else [])


@each_deployment()
def test_every_parameter_of_the_flow_is_given(deployment: Deployment) -> None:
    assert list(deployment.parameters) == list(inspect.signature(deployment.flow.fn).parameters)


@each_deployment()
def test_a_deployed_flow_can_be_run_without_a_parameter(deployment: Deployment) -> None:
    defaults = {name: p.default for name, p in inspect.signature(deployment.flow.fn).parameters.items()}
    assert [name for name, default in defaults.items() if default is inspect.Parameter.empty] == []


@each_deployment()
def test_a_run_sends_heartbeats_more_often_than_it_is_held_dead(deployment: Deployment) -> None:
    (silent,) = [one for one in DECLARED.automations if one.trigger.after == ["prefect.flow-run.heartbeat"]]
    assert silent.trigger.within is not None
    beats = int(deployment.work_pool.job_variables.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * beats < silent.trigger.within


def test_every_end_of_a_run_ends_the_wait_for_heartbeats() -> None:
    ends = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled")}
    for automation in DECLARED.automations:
        if automation.trigger.after in (["prefect.flow-run.heartbeat"], ["prefect.flow-run.Running"]):
            assert ends <= set(automation.trigger.expect), automation.name


def test_runs_of_the_command_line_have_the_tag_of_the_project() -> None:
    assert DECLARED.name == PROJECT
