"""What is said of a run while it goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.runs.events import (
    SCHEMA_VERSION,
    AttemptStarted,
    Event,
    Heartbeat,
    IntervalScored,
    Notice,
    Phase,
    Record,
    Step,
    encode,
)
from core.runs.paths import RunPaths
from core.runs.run_figures import eta_s
from core.runs.snapshot import RunSnapshot, reason
from core.runs.store import read_run
from core.system.files import append_line, write_json
from core.system.process import current_process
from lora_tui.progress import TRAINING_LINE_S, RunProgress, clock


class Run:
    def __init__(self, root: Path) -> None:
        self.paths, self.began = RunPaths(root / "a-0123456789"), time.time()
        write_json(self.paths.config, {"settings": {"train": {"steps": 1000}}})

    def write(self, *events: Event, attempt: int = 1, later_s: float = 0.0) -> RunSnapshot:
        for event in events:
            append_line(self.paths.events, encode(Record(attempt, self.began + later_s, event)))
        return read_run(self.paths)


def start(resumed_from: int | None = None) -> AttemptStarted:
    return AttemptStarted(SCHEMA_VERSION, current_process().to_json(), resumed_from, "cpu", "fp32")


def step(number: int, loss: float = 0.5) -> Step:
    return Step(number, loss, 1e-4, 1.0, 10, 1.0, 0.14)


def interval(number: int, domain: int, heldout: int) -> IntervalScored:
    def counts(errors: int) -> dict[str, float]:
        return {"substitutions": errors, "deletions": 0, "insertions": 0, "reference_words": 1000, "loss": 1.0}

    return IntervalScored(number, {"domain": counts(domain), "heldout": counts(heldout)}, 5.0)


def test_one_line_for_each_interval_with_the_time_that_is_left(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("2.1")
    assert list(progress.news(run.write(start(), interval(0, 307, 31)), 0.0)) == [
        "2.1  starts on cpu, fp32 (a-0123456789)",
        "2.1  step 0/1000  domain WER 30.70 %  heldout WER 3.10 %  (base model)",
    ]
    snapshot = run.write(Phase("training"), step(1), step(100, 0.512), interval(100, 213, 31), later_s=20.28)
    [line] = list(progress.news(snapshot, 30.0))
    # 900 steps of 0.14 s are to come, one more evaluation of 5 s, and the final scoring, as long as one and a half.
    assert line == (
        "2.1  step 100/1000  loss 0.506  domain WER 21.30 % (−9.40)  heldout WER 3.10 % (+0.00)  0.14 s/step  ETA 2:18"
    )
    assert list(progress.news(snapshot, 31.0)) == []


def test_training_lines_keep_their_distance(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    list(progress.news(run.write(start(), interval(0, 1, 1), Phase("training")), 0.0))
    snapshot = run.write(step(1))
    assert list(progress.news(snapshot, TRAINING_LINE_S - 1)) == []
    assert list(progress.news(snapshot, TRAINING_LINE_S)) == ["a  step 1/1000  loss 0.500  0.14 s/step  ETA 2:32"]
    assert list(progress.news(run.write(step(2)), TRAINING_LINE_S + 1)) == []


def test_phases_counts_and_notices(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    events = (start(), Notice("warning", "3 clips are silent"), Phase("evaluating", 100), Heartbeat("evaluating", 5, 9))
    assert list(progress.news(run.write(*events), 0.0)) == [
        "a  starts on cpu, fp32 (a-0123456789)",
        "a  warning: 3 clips are silent",
        "a  evaluating at step 100",
        "a  evaluating at step 100  5/9",
    ]


def test_a_new_attempt_says_where_it_goes_on_and_tells_its_intervals_again(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    list(progress.news(run.write(start(), interval(0, 9, 9), interval(100, 8, 9), interval(200, 7, 9)), 0.0))
    snapshot = run.write(start(100), interval(200, 7, 9), attempt=2)
    lines = list(progress.news(snapshot, 1.0))
    assert lines[0] == "a  goes on from step 100 on cpu, fp32 (attempt 2)"
    assert [line for line in lines if "step 200/" in line] == lines[1:]


def test_attaching_tells_nothing_of_the_past(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    snapshot = run.write(start(), interval(0, 9, 9), Phase("training"), step(1))
    progress.skip_to(snapshot)
    assert list(progress.news(snapshot, 0.0)) == ["a  step 1/1000  loss 0.500  0.14 s/step  ETA 2:32"]


def test_an_evaluation_that_stands_still_is_not_told_again(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    snapshot = run.write(start(), Phase("baseline", 0), Heartbeat("baseline", 33, 500))
    lines = [line for number in range(4) for line in progress.news(snapshot, number * TRAINING_LINE_S)]
    assert lines[1:] == ["a  baseline at step 0", "a  baseline at step 0  33/500"]
    snapshot = run.write(Heartbeat("baseline", 66, 500))
    assert list(progress.news(snapshot, 4 * TRAINING_LINE_S)) == ["a  baseline at step 0  66/500"]


def test_clock() -> None:
    assert [clock(s) for s in (0, 92, 7625)] == ["0:00", "1:32", "2:07:05"]


def test_a_step_that_stands_still_is_not_told_again(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    snapshot = run.write(start(), interval(0, 1, 1), Phase("training"), step(1))
    lines = [line for number in range(6) for line in progress.news(snapshot, number * TRAINING_LINE_S)]
    assert sum("step 1/1000  loss" in line for line in lines) == 1


def test_the_final_scoring_names_its_set_and_says_how_far_it_is(tmp_path: Path) -> None:
    run, progress = Run(tmp_path), RunProgress("a")
    done = (start(), interval(0, 9, 9), step(1000), interval(1000, 8, 9))
    list(progress.news(run.write(*done), 0.0))
    lines = []
    for number, name in enumerate(("domain", "heldout")):
        phase = Phase("finishing", 1000, f"lora-cli evaluate on {name}")
        snapshot = run.write(phase, Heartbeat("finishing", 30, 300))
        lines += progress.news(snapshot, (number + 1) * 2 * TRAINING_LINE_S)
        assert reason(snapshot) == f"lora-cli evaluate on {name} 30/300"
    assert lines == [
        f"a  finishing at step 1000: lora-cli evaluate on {name}{counted}"
        for name in ("domain", "heldout")
        for counted in ("", "  30/300")
    ]


def test_what_is_left_counts_evaluations_final_scoring_and_parity(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write_json(run.paths.config, {"settings": {"train": {"steps": 1000, "eval_every": 250}}})
    slow = replace(interval(250, 8, 9), seconds=1320.0)
    base = replace(interval(0, 9, 9), seconds=0.1)
    assert eta_s(run.write(start(), base, step(1))) is None, "the base model's score was there: nothing is known yet"
    snapshot = run.write(step(250), slow)
    assert eta_s(snapshot) == pytest.approx(750 * 0.14 + 1320 * (3 + 1.5))
    rest = [event for at in (500, 750, 1000) for event in (step(at), replace(slow, step=at))]
    finishing = Phase("finishing", 1000, "lora-cli evaluate on domain")
    assert eta_s(run.write(*rest, finishing)) == pytest.approx(1320 * 1.5)
    snapshot = run.write(Phase("finishing", 1000, "lora-cli evaluate on heldout"), Heartbeat("finishing", 150, 300))
    assert eta_s(snapshot) == pytest.approx(1320 * 1.5 / 4)
