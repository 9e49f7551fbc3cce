"""What somebody asked the queue for, read from its decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.queue.asked_ends import AskedEnds, killed_among, removed_rows
from core.queue.decisions import Decision, DecisionLog


def said(*lines: tuple[str, dict[str, Any]]) -> list[Decision]:
    return [Decision(kind, 0.0, {"submission": "s"} | fields) for kind, fields in lines]


def killed_runs(decisions: list[Decision]) -> set[str]:
    ends = AskedEnds()
    for decision in decisions:
        ends.take(decision)
    return ends.killed


START = ("start", {"row": "a", "run": "a-1"})
CRASH = ("exit", {"run": "a-1", "outcome": "crashed", "asked": True})


def wish(word: str, row: str | None = "a") -> tuple[str, dict[str, Any]]:
    return "wish", {"wish": word, "row": row}


def test_a_run_is_killed_when_somebody_had_its_trainer_killed() -> None:
    assert killed_runs(said(START, wish("kill"), CRASH)) == {"a-1"}
    assert killed_runs(said(START, wish("kill", None), CRASH)) == {"a-1"}


def test_other_ends_are_none_of_it() -> None:
    assert killed_runs(said(START, CRASH)) == set()
    assert killed_runs(said(START, wish("stop"), CRASH)) == set()
    assert killed_runs(said(START, wish("kill", "b"), CRASH)) == set()
    stopped = ("exit", {"run": "a-1", "outcome": "stopped", "asked": True})
    assert killed_runs(said(START, wish("kill"), stopped)) == set()
    assert killed_runs(said(START, wish("kill"), CRASH, START)) == set()
    # The wish was for the trainer before.
    assert killed_runs(said(START, wish("kill"), CRASH, wish("release"), START, CRASH)) == set()


def test_of_a_long_file_only_the_runs_in_question_are_read(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    other = ("start", {"row": "b", "run": "b-1"})
    for kind, fields in (START, other, wish("kill"), wish("kill", "b"), CRASH):
        log.append(kind, submission="s", **fields)
    assert killed_among(log.path, ["a-1", "c-1"]) == {"a-1"}
    assert killed_among(log.path, ["b-1"]) == {"b-1"}, "its trainer has to be dead by now"
    assert killed_among(log.path, []) == set()
    log.append("start", submission="another", row="a", run="a-1")
    assert killed_among(log.path, ["a-1"]) == set()


def test_what_was_asked_holds_until_the_trainer_has_ended() -> None:
    ends = AskedEnds()
    asked = []
    for decision in said(START, wish("stop"), wish("kill", None), CRASH):
        ends.take(decision)
        asked.append(ends.asked("a-1"))
    assert asked == [None, "stop", "kill", None]


def test_what_was_asked_of_an_earlier_trainer_is_not_asked_of_an_adopted_one() -> None:
    ends = AskedEnds()
    asked = []
    told = ("stop", {"row": "a", "run": "a-1", "reason": "b was accepted"})
    adopt = ("adopt", {"row": "a", "run": "a-1"})
    for decision in said(START, told, adopt, CRASH, wish("stop"), adopt, wish("kill"), adopt):
        ends.take(decision)
        asked.append(ends.asked("a-1"))
    assert asked == [None, "stop", "stop", None, None, None, "kill", "kill"]


def test_a_removed_row_is_told_until_it_is_asked_for_again() -> None:
    first = ("submitted", {"plan": "p"})
    assert removed_rows(said(first, wish("remove"), wish("remove", "b")), "p") == ["a", "b"]
    assert removed_rows(said(first, wish("remove"), wish("retry")), "p") == []
    assert removed_rows(said(first, wish("remove"), first), "p") == []
    assert removed_rows(said(first, wish("remove")), "other") == []
