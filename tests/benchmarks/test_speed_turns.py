"""Contestants of benchmarks.speed take turns in processes of their own, and their times are compared in pairs."""

import sys

import pytest

from benchmarks.speed.turns import Contestant, Spread, Turn, differing, in_turns, table, times_as_fast

SCRIPT = """
from benchmarks.speed.turns import serve
said = []
def work():
    print("what the work prints is no answer")
    said.append("a")
    return said
serve(work)
"""


def turn(cpu_s: float, wall_s: float = 1.0) -> Turn:
    """One of so many seconds."""
    return Turn(cpu_s, wall_s, 0, None)


def test_each_contestant_does_the_work_once_a_round_and_the_first_round_is_not_counted() -> None:
    """A contestant keeps its state between turns, and its prints are not taken for its answers."""
    both = [Contestant(name, [sys.executable, "-c", SCRIPT]) for name in ("one", "other")]
    turns = in_turns(both, rounds=2)
    assert [t.outcome for t in turns["one"]] == [["a", "a"], ["a", "a", "a"]]
    assert len(turns["other"]) == 2
    assert all(t.cpu_s >= 0 and t.wall_s > 0 and t.peak_bytes > 1_000_000 for t in turns["one"])


def test_a_contestant_that_dies_is_named() -> None:
    """The exit code is in the message."""
    with (
        pytest.raises(RuntimeError, match="broken ended with exit code 7"),
        Contestant("broken", [sys.executable, "-c", "raise SystemExit(7)"]),
    ):
        pass


def test_ratios_are_of_medians_and_their_range_is_of_pairs() -> None:
    """One disturbed pair moves the range and not the median."""
    ours, theirs = [turn(1.0), turn(2.0), turn(1.0)], [turn(3.0), turn(3.0), turn(4.0)]
    found = times_as_fast(ours, theirs)
    assert found == Spread(3.0, 1.5, 4.0)
    assert str(found) == "3.00 (1.50–4.00)"
    assert times_as_fast(ours, theirs, by="wall_s") == Spread(1.0, 1.0, 1.0)


def test_transcripts_differ_by_words_and_not_by_spaces() -> None:
    """A peer may put a space before the first word."""
    assert differing(["a b", "c"], [" a  b", "C"]) == 1


def test_a_table_is_markdown() -> None:
    """Figures stand at the right."""
    assert table(["work", "×"], [["steps", 2.0]]) == "| work | × |\n| --- | ---: |\n| steps | 2.0 |"
