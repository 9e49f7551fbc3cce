"""The queue's decisions, by simulating whole plans: rows in, a log of actions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from core.plan.conditions import Fact
from core.plan.next_action import (
    Action,
    Finished,
    RowState,
    RowStatus,
    Skip,
    Spent,
    Start,
    Stop,
    Wait,
    next_action,
    resolved_settings,
)
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import Plan, QueueSettings, Row, RunSettings

ROOT = Path(__file__).resolve().parents[3]
HEAD = "[model]\nid='m'\n[data]\ntrain='t'\ndomain='d'\nheldout='h'\n"

Outcome = Mapping[str, Fact] | None
"""Facts of a run that ended with a result; None: it failed."""

SLOW = {
    "stable": True,
    "accepted": False,
    "falling": True,
    "guardrail_broken": False,
    "domain_gain": 0.8,
    "domain_wer": 30.0,
}
FLAT = {**SLOW, "falling": False}
BROKE = {**SLOW, "falling": False, "guardrail_broken": True, "domain_gain": 5.0, "domain_wer": 25.0}
GOOD = {**SLOW, "accepted": True, "falling": False, "domain_gain": 3.0, "domain_wer": 27.0}
UNDECIDED = {**SLOW, "accepted": None}


def shipped() -> Plan:
    path = ROOT / "experiments.toml"
    return parse_plan(path.read_text(encoding="utf-8"), str(path))


def plan_of(text: str) -> Plan:
    return parse_plan(HEAD + text, "plan.toml")


@dataclass
class FakeQueue:
    """Runs a plan in one slot; each started row ends with what `outcome` gives for it."""

    plan: Plan
    outcome: Callable[[Row, RunSettings], Outcome]
    only: tuple[str, ...] | None = None
    states: dict[str, RowState] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    started: dict[str, Start] = field(default_factory=dict)

    def run(self) -> Finished:
        rows = expand(self.plan)
        for _ in range(100):
            spent = Spent(len(self.started), float(len(self.started)))
            action = next_action(rows, self.states, self.plan.queue, spent, self.only)
            if isinstance(action, Finished):
                return action
            self.take(action)
        raise AssertionError("no end")

    def take(self, action: Action) -> None:
        if isinstance(action, Skip):
            self.log.append(f"skip {action.row.key}")
            self.states[action.row.key] = RowState(RowStatus.SKIPPED)
        elif isinstance(action, Start):
            self.log.append(action.row.key)
            self.started[action.row.key] = action
            facts = self.outcome(action.row, action.settings)
            status = RowStatus.FAILED if facts is None else RowStatus.DONE
            self.states[action.row.key] = RowState(status, facts or {}, action.settings)
        else:
            raise AssertionError(f"nothing runs, so there is nothing to wait for: {action}")


def simulate(plan: Plan, outcomes: Mapping[str, Outcome], otherwise: Outcome = FLAT) -> tuple[FakeQueue, Finished]:
    queue = FakeQueue(plan, lambda row, _: outcomes.get(row.key, otherwise))
    return queue, queue.run()


def test_the_first_accepted_run_ends_the_plan() -> None:
    queue, end = simulate(shipped(), {"2.1": GOOD})
    assert queue.log == ["2.1"]
    assert end.reason == "2.1 was accepted"
    assert list(end.not_run) == ["2.1-lora", "2.2#1", "2.2#2", "2.2#3", "3.1#1", "3.1#2", "3.1#3"]
    assert set(end.not_run.values()) == {"2.1 was accepted"}


def test_an_accepted_control_ends_it_too() -> None:
    queue, end = simulate(shipped(), {"2.1-lora": GOOD})
    assert queue.log == ["2.1", "2.1-lora"]
    assert end.reason == "2.1-lora was accepted"


@pytest.mark.parametrize("first", [SLOW, BROKE, UNDECIDED])
def test_architecture_runs_when_slow_or_broken(first: Outcome) -> None:
    queue, end = simulate(shipped(), {"2.1": first})
    assert queue.log == ["2.1", "2.1-lora", "2.2#1", "2.2#2", "2.2#3", "3.1#1", "3.1#2", "3.1#3"]
    assert end.reason == "every row of the plan has ended"
    assert end.not_run == {}
    assert "its condition holds" in queue.started["2.2#1"].reason
    assert queue.started["2.2#1"].inputs["2.1:falling"] is True or first is BROKE


def test_architecture_is_skipped_when_flat_and_the_inputs_are_told() -> None:
    plan = shipped()
    queue, _ = simulate(plan, {})
    assert queue.log == [
        "2.1",
        "2.1-lora",
        "skip 2.2#1",
        "skip 2.2#2",
        "skip 2.2#3",
        "3.1#1",
        "3.1#2",
        "3.1#3",
    ]
    states = {"2.1": RowState(RowStatus.DONE, FLAT), "2.1-lora": RowState(RowStatus.DONE, FLAT)}
    action = next_action(expand(plan), states, plan.queue, Spent())
    assert isinstance(action, Skip)
    assert "its condition does not hold" in action.reason
    assert "2.1:falling = false" in action.reason
    assert action.inputs == {
        "2.1:stable": True, "2.1:accepted": False, "2.1:falling": False, "2.1:guardrail_broken": False,
    }  # fmt: skip


def test_a_failed_run_lets_the_next_start_and_leaves_its_condition_undecided() -> None:
    queue, end = simulate(shipped(), {"2.1": None}, otherwise=SLOW)
    assert queue.log == [
        "2.1",
        "2.1-lora",
        "skip 2.2#1",
        "skip 2.2#2",
        "skip 2.2#3",
        "3.1#1",
        "3.1#2",
        "3.1#3",
    ]
    assert end.reason == "every row of the plan has ended"
    start = queue.started["3.1#1"]
    assert "no run of 2.1, 2.2 has a result: target modules as in the plan" in start.reason


def test_an_undecidable_condition_says_so() -> None:
    plan = shipped()
    states = {"2.1": RowState(RowStatus.FAILED), "2.1-lora": RowState(RowStatus.FAILED)}
    action = next_action(expand(plan), states, plan.queue, Spent())
    assert isinstance(action, Skip)
    assert "cannot be decided" in action.reason
    assert "2.1:stable = unknown" in action.reason


def test_the_learning_rate_sweep_takes_the_best_architecture_that_kept_the_guardrail() -> None:
    outcomes = {
        "2.1": {**SLOW, "domain_gain": 0.5},
        "2.2#1": {**SLOW, "domain_gain": 0.9},
        "2.2#3": {**BROKE, "domain_gain": 8.0},
        "2.2#2": {**SLOW, "domain_gain": None},
    }
    queue, _ = simulate(shipped(), outcomes)
    start = queue.started["3.1#1"]
    assert start.settings.adapter.target_modules == ("q_proj", "v_proj")
    assert start.settings.train.learning_rate == 5e-5
    assert "from 2.2#1 (domain gain 0.90 points, guardrail kept)" in start.reason


def test_where_nothing_kept_the_guardrail_the_lowest_wer_decides() -> None:
    outcomes = {"2.1": {**BROKE, "domain_wer": 30.0}, "2.2#3": {**BROKE, "domain_wer": 20.0}}
    queue, _ = simulate(shipped(), outcomes, otherwise={**BROKE, "domain_wer": 25.0})
    assert queue.started["3.1#1"].settings.adapter.target_modules[-2:] == ("fc1", "fc2")
    assert "no run kept the guardrail" in queue.started["3.1#1"].reason


def test_architecture_chains_through_rows_that_took_it_from_others() -> None:
    plan = plan_of(
        "[[experiment]]\nid='a'\nadapter.target_modules=['x']\n[[experiment]]\nid='b'\nadapter_from='a'\n"
        "[[experiment]]\nid='c'\nadapter_from='b'\n"
    )
    queue, _ = simulate(plan, {})
    assert queue.started["c"].settings.adapter.target_modules == ("x",)


def test_equal_gains_choose_the_first_row_whatever_the_order_of_knowledge() -> None:
    rows = expand(shipped())
    states = {row.key: RowState(RowStatus.DONE, SLOW) for row in reversed(rows)}
    settings, origin = resolved_settings(rows[-1], rows, states)
    assert "from 2.1 " in origin
    assert settings.adapter == rows[0].settings.adapter


def test_budget_of_runs() -> None:
    plan = shipped()
    plan = replace(plan, queue=replace(plan.queue, max_runs=2))
    queue, end = simulate(plan, {})
    assert queue.log == ["2.1", "2.1-lora"]
    assert end.reason == "the budget of 2 runs (queue.max_runs) is used up"
    assert end.not_run["3.1#3"] == end.reason


def test_budget_of_hours() -> None:
    plan = shipped()
    plan = replace(plan, queue=replace(plan.queue, max_hours=2.5))
    queue, end = simulate(plan, {})
    assert queue.log[:2] == ["2.1", "2.1-lora"]
    assert len(queue.started) == 3
    assert "2.5 hours (queue.max_hours)" in end.reason


def test_until_all_goes_on_after_acceptance() -> None:
    plan = shipped()
    plan = replace(plan, queue=replace(plan.queue, until="all"))
    queue, end = simulate(plan, {"2.1": GOOD})
    assert queue.log[-1] == "3.1#3"
    assert end.reason == "every row of the plan has ended"


def test_a_plan_that_was_run_is_finished_at_once() -> None:
    queue, first = simulate(shipped(), {})
    queue.log.clear()
    assert queue.run() == first
    assert queue.log == []


def test_a_row_whose_run_exists_counts_without_being_started() -> None:
    plan = shipped()
    action = next_action(expand(plan), {"3.1#2": RowState(RowStatus.DONE, GOOD)}, plan.queue, Spent())
    assert isinstance(action, Finished)
    assert action.reason == "3.1#2 was accepted"


def test_two_slots_start_what_is_ready_and_wait_for_the_rest() -> None:
    plan = shipped()
    rows = expand(plan)
    states = {"2.1": RowState(RowStatus.RUNNING)}
    action = next_action(rows, states, plan.queue, Spent(1))
    assert isinstance(action, Start)
    assert action.row.key == "2.1-lora"
    states["2.1-lora"] = RowState(RowStatus.RUNNING)
    action = next_action(rows, states, plan.queue, Spent(2))
    assert isinstance(action, Wait)
    assert "2.2#1 waits for 2.1" in action.text


def test_acceptance_is_the_reason_even_of_the_last_row() -> None:
    _, end = simulate(plan_of("[[experiment]]\nid='a'\n"), {"a": GOOD})
    assert end.reason == "a was accepted"


def test_running_siblings_of_an_accepted_run_are_waited_for() -> None:
    plan = shipped()
    states = {"2.1": RowState(RowStatus.DONE, GOOD), "2.1-lora": RowState(RowStatus.RUNNING)}
    action = next_action(expand(plan), states, plan.queue, Spent(2))
    assert action == Wait("2.1 was accepted; waiting for 2.1-lora to end", over=True)


def test_the_last_running_row_is_waited_for() -> None:
    plan = plan_of("[[experiment]]\nid='a'\n")
    action = next_action(expand(plan), {"a": RowState(RowStatus.RUNNING)}, plan.queue, Spent(1))
    assert action == Wait("nothing is left to start; waiting for a to end")


def test_after_waits_for_every_row_of_a_sweep() -> None:
    plan = plan_of("[[experiment]]\nid='a'\nsweep.train.seed=[1,2]\n[[experiment]]\nid='b'\nafter='a'\n")
    states = {"a#1": RowState(RowStatus.DONE, FLAT), "a#2": RowState(RowStatus.RUNNING)}
    action = next_action(expand(plan), states, plan.queue, Spent())
    assert action == Wait(dependent={"b": ("a#2",)}) and action.text == "b waits for a#2"


def test_a_condition_without_after_waits_for_what_it_names() -> None:
    plan = plan_of("[[experiment]]\nid='b'\nwhen='a:stable'\n[[experiment]]\nid='a'\n")
    queue, _ = simulate(plan, {"a": GOOD | {"accepted": False}})
    assert queue.log == ["a", "b"]


def test_skipped_is_known_not_to_be_accepted_and_not_finished() -> None:
    plan = plan_of(
        "[[experiment]]\nid='a'\n[[experiment]]\nid='b'\nafter='a'\nwhen='not stable'\n"
        "[[experiment]]\nid='c'\nafter='b'\nwhen='not accepted and not finished and not failed'\n"
        "[[experiment]]\nid='d'\nafter='b'\nwhen='stable'\n"
    )
    queue, _ = simulate(plan, {})
    assert queue.log == ["a", "skip b", "c", "skip d"]


def test_failed_and_finished_follow_from_the_end_of_the_run() -> None:
    text = (
        "[[experiment]]\nid='a'\n[[experiment]]\nid='b'\nafter='a'\nwhen='failed'\n"
        "[[experiment]]\nid='c'\nafter='a'\nwhen='finished'\n"
    )
    assert simulate(plan_of(text), {"a": None})[0].log == ["a", "b", "skip c"]
    assert simulate(plan_of(text), {})[0].log == ["a", "skip b", "c"]


def test_only_starts_what_is_asked_and_uses_what_is_known() -> None:
    plan = shipped()
    queue = FakeQueue(plan, lambda row, _: FLAT, only=("2.2#1", "3.1"))
    queue.states["2.1"] = RowState(RowStatus.DONE, BROKE | {"accepted": True})
    end = queue.run()
    assert queue.log == ["2.2#1", "3.1#1", "3.1#2", "3.1#3"], "the accepted 2.1 was not asked for and ends nothing"
    assert end.not_run == {}


def test_only_without_known_results_cannot_decide_conditions() -> None:
    queue = FakeQueue(shipped(), lambda row, _: FLAT, only=("2.2",))
    queue.run()
    assert queue.log == ["skip 2.2#1", "skip 2.2#2", "skip 2.2#3"]


def test_a_row_that_waits_for_a_running_row_outside_only() -> None:
    plan = shipped()
    action = next_action(expand(plan), {"2.1": RowState(RowStatus.RUNNING)}, plan.queue, Spent(), ["2.2#1"])
    assert isinstance(action, Wait)
    assert "2.2#1 waits for 2.1" in action.text


def test_rows_in_a_circle_end_instead_of_waiting_for_ever() -> None:
    (row,) = expand(plan_of("[[experiment]]\nid='a'\n"))
    action = next_action([replace(row, after=("a",))], {}, QueueSettings(), Spent())
    assert isinstance(action, Finished)
    assert action.not_run == {"a": "waits in a circle"}


def test_a_retried_row_is_started_again() -> None:
    plan = plan_of("[[experiment]]\nid='a'\n")
    action = next_action(expand(plan), {"a": RowState(RowStatus.QUEUED)}, plan.queue, Spent(1))
    assert isinstance(action, Start)


def test_a_held_row_is_not_started_and_what_depends_on_it_waits() -> None:
    plan = plan_of("[[experiment]]\nid='a'\n[[experiment]]\nid='b'\nafter='a'\n[[experiment]]\nid='c'\n")
    rows, states = expand(plan), {"a": RowState(RowStatus.HELD)}
    action = next_action(rows, states, plan.queue, Spent())
    assert isinstance(action, Start) and action.row.key == "c"
    states["c"] = RowState(RowStatus.FAILED)
    action = next_action(rows, states, plan.queue, Spent(1))
    assert action == Wait(dependent={"b": ("a",)}, held=("a",))
    assert action.text == "b waits for a; held until released: a"


def test_a_held_row_does_not_keep_a_plan_from_its_end() -> None:
    plan = plan_of("[[experiment]]\nid='a'\n[[experiment]]\nid='b'\n")
    states = {"a": RowState(RowStatus.HELD), "b": RowState(RowStatus.DONE, GOOD)}
    assert next_action(expand(plan), states, plan.queue, Spent(1)) == Finished(
        "b was accepted", {"a": "b was accepted"}
    )


def test_rows_that_could_start_do_so_in_the_order_of_their_ranks() -> None:
    plan = plan_of("[[experiment]]\nid='a'\n[[experiment]]\nid='b'\n[[experiment]]\nid='c'\nafter='a'\n")
    action = next_action(expand(plan), {}, plan.queue, Spent(), ranks={"c": -2.0, "b": -1.0})
    assert isinstance(action, Start) and action.row.key == "b"


def test_running_siblings_of_an_accepted_run_are_ended_if_the_plan_says_so() -> None:
    plan = plan_of("[queue]\non_accept='stop'\n[[experiment]]\nid='a'\n[[experiment]]\nid='b'\n")
    rows = expand(plan)
    states = {"a": RowState(RowStatus.DONE, GOOD), "b": RowState(RowStatus.RUNNING)}
    assert next_action(rows, states, plan.queue, Spent(2)) == Stop((rows[1],), "a was accepted")


def test_a_run_is_ended_when_the_hours_are_used_up_even_the_last_one() -> None:
    plan = plan_of("[queue]\nmax_hours=2\n[[experiment]]\nid='a'\n")
    rows = expand(plan)
    action = next_action(rows, {"a": RowState(RowStatus.RUNNING)}, plan.queue, Spent(1, 2.0))
    assert isinstance(action, Stop) and "queue.max_hours" in action.reason
    assert next_action(rows, {"a": RowState(RowStatus.RUNNING)}, plan.queue, Spent(1, 1.9)) == Wait(
        "nothing is left to start; waiting for a to end"
    )
