"""The difference between what is declared and what is there."""

from typing import Any

from deployments.plan import Change, Kind, Thing, changes


def deployment(name: str, key: str = "", is_ours: bool = True, **facts: Any) -> Thing:
    return Thing(Kind.DEPLOYMENT, name, facts, key, is_ours)


def test_equal_things_are_no_change() -> None:
    assert changes([deployment("a/b", tags=["x"])], [deployment("a/b", "1", tags=["x"], paused=True)]) == []


def test_what_is_missing_is_created() -> None:
    wanted = deployment("a/b", tags=["x"])
    assert changes([wanted], []) == [Change("create", wanted)]


def test_what_differs_is_named_as_narrowly_as_it_can_be() -> None:
    there = deployment(
        "a/b", "1", schedules={"daily": {"cron": "0 6 * * *", "active": True}, "old": {"cron": "1 1 * * *"}}
    )
    wanted = deployment("a/b", schedules={"daily": {"cron": "0 7 * * *", "active": True}})
    (change,) = changes([wanted], [there])
    assert (change.action, change.thing.key) == ("update", "1")
    assert change.fields == {
        "schedules.daily.cron": ("0 6 * * *", "0 7 * * *"),
        "schedules.old": ({"cron": "1 1 * * *"}, None),
    }


def test_only_what_the_project_made_is_removed() -> None:
    ours, theirs = deployment("a/b", "1"), deployment("c/d", "2", is_ours=False)
    assert changes([], [ours, theirs]) == [Change("remove", ours)]


def test_what_is_there_twice_is_kept_once() -> None:
    first, second = (Thing(Kind.AUTOMATION, "failed-run", {"within": 0}, key) for key in "12")
    wanted = Thing(Kind.AUTOMATION, "failed-run", {"within": 0})
    assert changes([wanted], [first, second]) == [Change("remove", second)]


def test_a_pool_is_made_before_its_deployments_and_removed_after_them() -> None:
    pool, flow = Thing(Kind.WORK_POOL, "etl-pool", {}), deployment("a/b")
    assert [change.thing for change in changes([flow, pool], [])] == [pool, flow]
    assert [change.thing for change in changes([], [pool, flow])] == [flow, pool]
