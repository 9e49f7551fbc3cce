"""What the queue's journal comes to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan import next_action
from core.queue.journal import (
    KINDS,
    Adopt,
    Devices,
    Exit,
    Finish,
    Halve,
    JournalReader,
    Named,
    Pause,
    Record,
    Request,
    Resume,
    Skip,
    Start,
    Stop,
    Submitted,
    SupervisorEnded,
    SupervisorStarted,
    SupervisorStopping,
    Wait,
    decode,
    encode,
)
from core.queue.state import QueueState

START = Start(submission="s", row="a", run="a-1")
ADOPT = Adopt(submission="s", row="a", run="a-1")
CRASH = Exit(submission="s", run="a-1", outcome="crashed", asked=True)
STOPPED = Exit(submission="s", run="a-1", outcome="stopped", asked=True)
NAMED = Named(submission="s", row="a", run="a-1")


def asked(request: str, row: str | None = "a", submission: str | None = "s") -> Request:
    return Request(request=request, submission=submission, row=row)


@pytest.mark.parametrize(
    ("records", "killed"),
    [
        ([START, asked("kill"), CRASH], True),
        ([START, asked("kill", None), CRASH], True),
        ([START, asked("kill")], True),
        ([START, CRASH], False),
        ([START, asked("stop"), CRASH], False),
        ([START, asked("kill", "b"), CRASH], False),
        ([START, asked("kill"), STOPPED], False),
        ([START, asked("kill"), CRASH, START], False),
        ([START, asked("kill"), CRASH, asked("release"), START, CRASH], False),
    ],
    ids=["row", "whole", "to be", "crash", "stop", "other row", "saved in time", "tried again", "crash after it"],
)
def test_a_run_is_killed_when_somebody_had_its_trainer_killed(records: list[Record], killed: bool) -> None:
    assert QueueState(records).is_killed("a-1") == killed


def history(records: list[Record]) -> list[str | None]:
    """What was asked of the run after each record."""
    state, found = QueueState(), []
    for record in records:
        state.apply(record)
        found.append(state.asked_of("a-1"))
    return found


def test_what_was_asked_holds_until_the_trainer_has_ended() -> None:
    assert history([START, asked("stop"), asked("kill", None), CRASH]) == [None, "stop", "kill", None]
    assert history([START, asked("stop", None), Finish(submission="s")]) == [None, "stop", None]
    assert history([START, SupervisorStopping(), SupervisorStarted(), START]) == [None, "stop", "stop", None]


def test_what_was_asked_of_an_earlier_trainer_is_not_asked_of_an_adopted_one() -> None:
    told = Stop(submission="s", row="a", run="a-1", reason="b was accepted")
    records = [START, told, ADOPT, CRASH, asked("stop"), ADOPT, asked("kill"), ADOPT]
    assert history(records) == [None, "stop", "stop", None, None, None, "kill", "kill"]
    other = Adopt(submission="t", row="a", run="a-1")
    assert history([START, asked("stop", None), other]) == [None, "stop", None], "it goes on for somebody else"


def test_what_was_asked_of_the_whole_may_be_left_out() -> None:
    state = QueueState([START, asked("stop", None)])
    assert state.asked_of("a-1", but=["s"]) is None
    state.apply(asked("kill"))
    assert state.asked_of("a-1", but=["s"]) == "kill"


def test_a_removed_row_is_told_until_it_is_asked_for_again() -> None:
    first = Submitted(submission="s", plan="p")
    assert QueueState([first, asked("remove"), asked("remove", "b")]).removed_rows("p") == ["a", "b"]
    for again in (asked("retry"), asked("release"), asked("add"), first, START):
        assert QueueState([first, asked("remove"), again]).removed_rows("p") == []
    assert QueueState([first, asked("remove")]).removed_rows("other") == []


def test_ends_count_wherever_the_run_is_a_row() -> None:
    shared = Named(submission="t", row="x", run="a-1")
    state = QueueState([Submitted(submission="t"), NAMED, shared, START, STOPPED])
    assert state.of("s").ends_of("a-1") == state.of("t").ends_of("a-1") == [STOPPED]
    assert QueueState([START, STOPPED, shared]).of("t").ends_of("a-1") == [], "before the row was this run"


def test_a_retry_forgives_what_was() -> None:
    state = QueueState([NAMED, START, CRASH, Skip(submission="s", row="b", status="failed", reason="no data")])
    assert state.of("s").ends_of("a-1") and not state.of("s").retried
    state.apply(asked("retry"))
    state.apply(asked("retry", "b"))
    assert not state.of("s").ends_of("a-1") and state.of("s").retried == {"a", "b"} and not state.of("s").closed
    state.apply(CRASH)
    assert state.of("s").ends_of("a-1") == [CRASH]


def test_what_a_submission_waits_for_is_over_when_something_starts() -> None:
    state = QueueState([Wait(submission="s", reason="the CPU is taken")])
    assert (state.of("s").wait, state.of("s").over) == (next_action.Wait("the CPU is taken"), "")
    state.apply(START)
    assert state.of("s").wait is None
    state.apply(Wait(submission="s", reason="the budget is spent", over=True))
    state.apply(START)
    assert (state.of("s").wait, state.of("s").over) == (None, "the budget is spent")
    state.apply(asked("kill", None))
    assert state.of("s").over == "killed on request"


def test_what_earlier_versions_wrote_of_a_wait_is_read_as_its_reason() -> None:
    said = "b waits for a; held until released: a"
    line = json.dumps({"schema": 1, "time": 1, "decision": "wait", "submission": "s", "reason": said})
    state = QueueState(filter(None, [decode(line.encode())]))
    assert state.of("s").wait == next_action.Wait(said)
    now = next_action.Wait(dependent={"b": ("a",)}, held=("a",))
    record = Wait(submission="s", dependent={"b": ("a",)}, held=("a",), time=1.0)
    state.apply(decode(encode(record)) or record)
    assert state.of("s").wait == now and state.done_last == f"waiting: {now.text}"


def test_many_rows_that_one_waits_for_are_counted() -> None:
    assert next_action.Wait(dependent={"z": ("a", "b", "c", "d", "e")}).text == "z waits for a, b, c and 2 more"


def test_a_row_that_does_not_run_keeps_its_last_reason() -> None:
    skip = Skip(submission="s", row="b", status="skipped", reason="its condition")
    end = Finish(submission="s", not_run={"b": "skipped", "c": "the budget is spent"})
    state = QueueState([Submitted(submission="s", plan="p"), skip, end])
    [(name, found)] = state.of_plan("p")
    assert (name, found.finished) == ("s", True)
    assert found.last_reason("b") == ("skipped", "its condition")
    assert found.last_reason("c") == ("not run", "the budget is spent")
    assert found.last_reason("d") is None


def test_the_newest_submission_of_a_plan_comes_first() -> None:
    state = QueueState([Submitted(submission=name, plan=plan) for name, plan in (("s", "p"), ("t", "q"), ("u", "p"))])
    assert [name for name, _ in state.of_plan("p")] == ["u", "s"]


def test_rows_are_found_by_any_of_their_names() -> None:
    state = QueueState([NAMED, Named(submission="t", row="x", run="a-1"), Skip(submission="t", row="b", reason="no")])
    for name in ("a-1", "1"):
        assert list(state.rows_called(name)) == [("t", "x", "a-1"), ("s", "a", "a-1")]
    assert list(state.rows_called("a")) == [("s", "a", "a-1")]
    assert list(state.rows_called("b")) == [("t", "b", None)]
    assert not list(state.rows_called("z"))


def test_where_a_trainer_works() -> None:
    state = QueueState([Devices(gpus={"GPU-a": "GPU 0"}), Start(submission="s", row="a", run="a-1", gpu="GPU-a")])
    assert state.device_of("a-1") == "on GPU 0"
    state.apply(CRASH)
    assert state.device_of("a-1") == ""
    state.apply(Start(submission="s", row="a", run="a-1", gpu="GPU-b"))
    assert state.device_of("a-1") == "on GPU-b"


def test_a_supervisor_that_was_told_to_stop_says_so_until_its_end() -> None:
    said = [SupervisorStarted(), SupervisorStopping(), SupervisorEnded(reason="told to stop"), SupervisorStarted()]
    state, found = QueueState(), []
    for record in said:
        state.apply(record)
        found.append((state.stopping, state.supervisor_ended))
    assert found == [(False, None), (True, None), (False, "told to stop"), (False, None)]


def test_what_was_done_last() -> None:
    said: list[tuple[Record, str]] = [
        (Start(submission="s", row="a", run="a-1", reason="it comes first"), "started a: it comes first"),
        (Wait(submission="s", reason="the CPU is taken"), "waiting: the CPU is taken"),
        (Wait(submission="s"), "waiting: the CPU is taken"),
        (Pause(cause="disk", reason="the disk is full"), "paused: the disk is full"),
        (Finish(submission="s", reason="all is done"), "ended: all is done"),
        (Submitted(submission="t"), ""),
    ]
    state = QueueState()
    for record, words in said:
        state.apply(record)
        assert state.done_last == words
    assert state.started == {"a-1"}


@pytest.mark.parametrize(
    ("then", "cause"),
    [
        (Resume(reason="on request"), None),
        (SupervisorEnded(reason="nothing is left to do"), None),
        (SupervisorEnded(reason="told to stop"), "failures"),
        (SupervisorStarted(), "failures"),
    ],
)
def test_a_pause_lasts_until_somebody_or_the_queue_ends_it(then: Record, cause: str | None) -> None:
    assert QueueState([Pause(cause="failures", reason="alike"), then]).pause.cause == cause


def test_a_run_that_goes_on_with_smaller_batches_neither_makes_nor_breaks_a_series() -> None:
    def crash(run: str) -> Exit:
        return Exit(submission="s", run=run, outcome="crashed", message="at step 3")

    memory = Exit(submission="s", run="m-1", outcome="out_of_memory", message="no memory")
    state = QueueState([crash("a-1"), memory, Halve(submission="s", row="m", run="m-1", accumulation=2), crash("b-1")])
    assert list(state.pause.series.runs) == ["a-1", "b-1"]
    assert list(QueueState([crash("a-1"), memory, crash("b-1")]).pause.series.runs) == ["b-1"]


@pytest.mark.parametrize("kind", ["one run of all", "a stop after each start", "one failure of all"])
def test_no_journal_takes_longer_than_it_is_long(kind: str) -> None:
    """It may come with a runs folder from anywhere. Counted in calls, which no machine's load changes."""

    def calls(count: int) -> int:
        records: list[Record] = []
        for n in range(count):
            name, run = f"s{n}", "a-1" if kind == "one run of all" else f"a-{n}"
            records += [Named(submission=name, row="a", run=run), Start(submission=name, row="a", run=run)]
            records += [SupervisorStopping()] if kind == "a stop after each start" else []
            records += [Exit(submission=name, run=run, outcome="crashed")] if kind == "one failure of all" else []
        made = 0

        def count_call(frame: object, event: str, arg: object) -> None:
            nonlocal made
            made += event == "call"

        sys.setprofile(count_call)
        try:
            QueueState(records)
        finally:
            sys.setprofile(None)
        return made

    assert calls(400) < 3 * calls(200)


RUNS, ROWS, SUBMISSIONS = ("a-1", "b-1", ""), ("a", "b"), ("s", "t")
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "submission": st.sampled_from(SUBMISSIONS),
    "row": st.sampled_from(ROWS),
    "run": st.sampled_from(RUNS),
    "reason": st.sampled_from(["", "told to stop"]),
    "request": st.sampled_from(["stop", "kill", "retry", "add", "hold", "release", "remove", "move"]),
    "outcome": st.sampled_from(["done", "crashed", "stopped", "out_of_memory", "error"]),
    "asked": st.booleans(),
    "over": st.booleans(),
    "plan": st.sampled_from(["p", "q"]),
}


def _of(kind: type[Record]) -> st.SearchStrategy[Record]:
    fields = {name: _FIELDS[name] for name in kind.__struct_fields__ if name in _FIELDS}
    if kind is Request:
        fields["row"] = st.sampled_from([None, *ROWS])
    return st.builds(kind, time=st.just(1.0), **fields)


RECORDS = st.lists(st.one_of([_of(kind) for kind in KINDS]), max_size=40)


@given(RECORDS)
def test_any_sequence_comes_to_a_state_that_holds_together(records: list[Record]) -> None:
    state = QueueState(records)
    for run in RUNS[:2]:
        begun = [isinstance(r, Start) for r in records if isinstance(r, Start | Exit) and r.run == run]
        assert (run in state.trainers) == (begun[-1:] == [True])
        assert state.asked_of(run) is None or run in state.trainers
        assert not (run in state.killed and run in state.trainers)
    for name, found in state.submissions.items():
        last = [r for r in records if getattr(r, "submission", None) == name and getattr(r, "run", "-") != ""]
        assert not found.finished or isinstance(last[-1], Finish)
        assert all(found.has(run) for run in found.runs.values())
    stops = [r for r in records if isinstance(r, Pause | Resume | SupervisorEnded)]
    stops = [r for r in stops if not (isinstance(r, SupervisorEnded) and r.reason == "told to stop")]
    assert (state.pause.cause is not None) == (bool(stops) and isinstance(stops[-1], Pause))


@given(RECORDS, st.data())
def test_what_is_read_in_pieces_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], data: st.DataObject
) -> None:
    text = b"".join(map(encode, records))
    path: Path = tmp_path_factory.mktemp("journal") / "decisions.jsonl"
    cut = data.draw(st.integers(0, len(text)))
    reader, state = JournalReader(path), QueueState()
    for end in (cut, len(text)):
        path.write_bytes(text[:end])
        for record in reader.read():
            state.apply(record)
    assert vars(state) == vars(QueueState(records))
