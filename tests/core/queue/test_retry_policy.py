"""Whether a run is started, resumed or left: pure."""

from __future__ import annotations

import pytest

from core.plan.next_action import RowStatus
from core.queue.journal import Exit
from core.queue.retry_policy import decide


@pytest.mark.parametrize("outcome", ["queued", "stopped", "crashed", "disk_full", "error", "rebooted"])
def test_what_an_earlier_submission_left_is_taken_up(outcome: str) -> None:
    assert decide(outcome, [], retries=0).status is RowStatus.QUEUED


@pytest.mark.parametrize("outcome", ["diverged", "out_of_memory"])
def test_a_result_that_would_repeat_itself_is_not_tried_again(outcome: str) -> None:
    assert decide(outcome, [], 5).status is RowStatus.FAILED
    assert decide(outcome, [Exit(outcome=outcome)], 5).status is RowStatus.FAILED


def test_done_is_done_whatever_came_before() -> None:
    assert decide("done", [Exit(outcome="crashed")] * 9, 0).status is RowStatus.DONE


def test_an_error_is_not_repeated_in_the_same_submission() -> None:
    assert decide("error", [Exit(outcome="error")], 5).status is RowStatus.FAILED


@pytest.mark.parametrize(("crashes", "status"), [(2, RowStatus.QUEUED), (3, RowStatus.FAILED)])
def test_retries_count_crashes(crashes: int, status: RowStatus) -> None:
    assert decide("crashed", [Exit(outcome="crashed")] * crashes, 2).status is status


def test_stops_that_were_asked_for_and_reboots_cost_no_retry() -> None:
    ends = [Exit(outcome="stopped", asked=True), Exit(outcome="rebooted"), Exit(outcome="crashed", asked=True)] * 3
    assert decide("stopped", ends, 0).status is RowStatus.QUEUED


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ([0] * 3, RowStatus.QUEUED),
        ([0] * 4, RowStatus.FAILED),
        ([1, 2, 3, 4, 5], RowStatus.QUEUED),
        ([1, 0, 0, 0], RowStatus.QUEUED),
    ],
)
def test_jobs_that_are_lost_before_they_begin_are_not_submitted_for_ever(
    attempts: list[int], status: RowStatus
) -> None:
    ends = [Exit(outcome="interrupted", attempts=number) for number in attempts]
    decided = decide("queued", ends, 0)
    assert decided.status is status and (status is RowStatus.QUEUED or "queue retry" in decided.reason)
    assert not decided.rejects or status is RowStatus.QUEUED
    assert decide("queued", [], 0, retried=True).status is RowStatus.QUEUED
