"""What a run's end means to whoever waits for it."""

import pytest

from deployments import runs
from deployments.runs import exit_code


@pytest.mark.parametrize(
    ("state", "message", "code"),
    [
        ("COMPLETED", None, 0),
        ("FAILED", "Flow run encountered an exception: Blocked: Nothing was published: …", 3),
        ("FAILED", "Flow run encountered an exception: WrongUse: FRONTEND_PATH is None: it must be a folder.", 2),
        ("FAILED", "Flow run encountered an exception: GroupFailed: summary: NotFound: no.", 1),
        ("FAILED", "Flow run encountered an exception: KeyError: 'WrongUse: x'", 1),
        ("CRASHED", "Flow run process exited with non-zero status code -9.", 1),
        ("CANCELLED", None, 1),
    ],
)
def test_a_run_ends_a_command_as_the_error_it_names(state: str, message: str | None, code: int) -> None:
    assert exit_code({"state_type": state, "state": {"message": message}}) == code


def test_of_a_log_line_the_traceback_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["one", "Encountered an exception:\nTraceback (most recent call last):\n  File …\nKeyError: 'x'", "three"]
    monkeypatch.setattr(runs, "pages", lambda *_, **__: [{"message": line} for line in lines])
    assert list(runs._logs(None, "", 1)) == ["Encountered an exception:", "three"]  # type: ignore[arg-type]
