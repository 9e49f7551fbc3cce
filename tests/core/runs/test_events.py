import json
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runs import events
from core.runs.events import (
    AdapterSaved,
    AttemptStarted,
    CandidateScored,
    CheckpointSaved,
    Event,
    Final,
    Heartbeat,
    IntervalScored,
    Notice,
    Phase,
    Record,
    Step,
    decode,
    encode,
)

COUNTS = {"substitutions": 1, "deletions": 2, "insertions": 3, "reference_words": 40, "loss": 1.5}
ALL: list[Event] = [
    AttemptStarted(1, {"machine": "m", "pid": 7}, 400, "cuda", "bf16", {"torch": "2.9"}),
    Phase("evaluating", 400, "domain"),
    Heartbeat("evaluating", 3, 10),
    Heartbeat("training"),
    Step(1, 2.5, 1e-4, 0.75, 300, 12.5, 0.25),
    IntervalScored(400, {"domain": COUNTS, "heldout": COUNTS | {"loss": None}}, 12.0),
    CandidateScored("average-000200-000400-x0.35", (200, 400), 0.35, "cd" * 32, {"selection": COUNTS}, 3.0, True),
    CheckpointSaved(400),
    AdapterSaved(400, "ab" * 32, True),
    Notice("warning", "clip “a” \x1b[31m \ud800 is silent\n"),
    Final("error", "it broke", 412),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.NAME)
def test_every_event_survives_its_line(event: Event) -> None:
    record = Record(2, 1767225600.125, event)
    line = encode(record)
    assert "\n" not in line
    assert decode(line) == record
    assert json.loads(line)["event"] == event.NAME


@given(st.floats(), st.floats(), st.floats())
def test_any_number_survives_as_strict_json(loss: float, norm: float, seconds: float) -> None:
    step = Step(1, loss, 1e-4, norm, 1, 1.0, seconds)
    line = encode(Record(1, 0.0, step))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(line, parse_constant=refuse)
    found = decode(line)
    assert found is not None
    assert isinstance(found.event, Step)
    for before, after in ((loss, found.event.loss), (norm, found.event.grad_norm)):
        assert before == after or (math.isnan(before) and math.isnan(after))


def test_a_loss_that_is_not_finite_survives_in_an_interval() -> None:
    event = IntervalScored(400, {"domain": COUNTS | {"loss": math.inf}}, 1.0)
    assert decode(encode(Record(1, 0.0, event))) == Record(1, 0.0, event)


def test_fields_of_a_later_version_are_ignored() -> None:
    assert decode('{"event": "checkpoint", "attempt": 1, "time": 5, "step": 3, "new": [1]}') == Record(
        1, 5.0, CheckpointSaved(3)
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{}",
        "nonsense",
        '{"event": "step", "attempt": 1, "ti',
        '{"event": "later", "attempt": 1, "time": 5}',
        '{"event": "checkpoint", "attempt": 1, "time": 5}',
        '{"event": "checkpoint", "time": 5, "step": 3}',
        '{"event": "checkpoint", "attempt": 1, "time": 5, "step": "3"}',
        '{"event": "checkpoint", "attempt": 1, "time": 5, "step": true}',
        '{"event": "checkpoint", "attempt": 1e999, "time": 5, "step": 3}',
        '{"event": "notice", "attempt": 1, "time": 5, "level": "info", "message": 3}',
        '{"event": "adapter", "attempt": 1, "time": 5, "step": 3, "hash": "a", "best": 1}',
        '{"event": "interval", "attempt": 1, "time": 5, "step": 3, "sets": {"domain": 1}, "seconds": 1}',
        '{"event": ["step"], "attempt": 1, "time": 5}',
        "[" * 100_000,
    ],
)
def test_torn_and_foreign_lines_are_none(line: str) -> None:
    assert decode(line) is None


@given(st.text())
def test_no_line_raises(line: str) -> None:
    assert decode(line) is None or isinstance(decode(line), Record)


def documented() -> dict[str, list[str]]:
    """Event → fields, by the headings and tables of docs/events.md."""
    text = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
    sections = re.split(r"^### ", text.partition("## The state of a run")[0], flags=re.MULTILINE)[1:]
    return {s.split("\n", 1)[0]: re.findall(r"^\| `(\w+)` \|", s, flags=re.MULTILINE) for s in sections}


def test_the_documentation_names_every_event_and_field() -> None:
    types: list[type[Any]] = [type(event) for event in ALL]
    assert documented() == {kind.NAME: [f.name for f in fields(kind)] for kind in types}
    assert set(documented()) == set(events._TYPES)


def test_the_documentation_names_the_phases_and_outcomes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
    words = {word.strip("`,.") for word in text.split()}
    for kind in (Phase, Final):
        listed = re.findall(r"[a-z_]{4,}", (kind.__doc__ or "").partition(":")[2])
        assert set(listed) <= words
    outcomes = {"done", "stopped", "diverged", "out_of_memory", "disk_full", "error"}
    assert outcomes <= words
