"""The plan before its runs: what comes after what, how long it takes, what ends it, and what `s` asks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from plan_kit import twelve_steps

from core.plan.read import parse_plan
from core.plan.rows import expand
from core.runs.paths import RunPaths
from core.runs.row import Queued, Row, of_plan
from core.runs.status import Status
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.text.before_start import plan_lines, start_question

MORE = """
title = "first"
[[experiment]]
id = "b"
title = "second"
after = ["a"]
when = "stable and not accepted"
adapter.rank = 4
[[experiment]]
id = "c"
title = "third"
after = ["b"]
train.steps = 24
[[experiment]]
id = "d"
title = "the same as the first"
"""
ENDS = ("at the first accepted run", "after 20 runs or 24 hours of training")


def rows() -> list[Row]:
    wanted = expand(parse_plan(twelve_steps("model", speech="speech/") + MORE, "plan.toml"))
    found = [of_plan(row, row.label) for row in wanted]
    found = [
        replace(row, figures=replace(row.figures, settings=asdict(row.wanted.settings)))
        for row in found
        if row.wanted is not None
    ]
    return [*found[:3], replace(found[3], same_as="a")]


def done(row: Row, seconds: float) -> Row:
    """A run that was made on this machine."""
    figures = replace(row.figures, steps=row.figures.steps_planned, duration_s=seconds, measured_here=True)
    return replace(
        row, id=f"run:{row.key}", status=Status.DONE, planned=False, run=RunPaths(Path("runs/x")), figures=figures
    )


def text(board: Board, selected: int = 0, width: int = 160, height: int = 30) -> list[str]:
    return ["".join(part for part, _ in line) for line in plan_lines(board, board.rows[selected], width, height)]


def test_it_is_a_tree_with_what_decides_each_row() -> None:
    lines = text(Board("runs", "plan.toml", tuple(rows()), ends=ENDS))
    assert "ends at the first accepted run or after 20 runs or 24 hours of training" in lines
    a, b, c, d = lines[-4:]
    assert a.startswith("▸ a ") and b.startswith("  └ b ") and c.startswith("    └ c ") and d.startswith("  d ")
    assert "after a, if stable and not accepted" in b and "dora rank 4" in b and "lr 0.002" in b
    assert "same run as a" in d and "24 steps" in c
    assert all("time not known" in line for line in (a, b, c)), "nothing was measured yet"


def test_what_a_row_depends_on_has_a_line_of_its_own_where_its_line_is_too_short() -> None:
    board = Board("runs", "plan.toml", tuple(rows()), ends=ENDS)
    lines = text(board, width=80)
    at = next(number for number, line in enumerate(lines) if line.startswith("  └ b "))
    assert lines[at].rstrip().endswith("second") and lines[at + 1].strip() == "after a, if stable and not accepted"
    assert all(len(line) <= 80 for line in lines)
    low = text(board, width=80, height=6)
    assert len(low) == 6 and low[-1].startswith("  d "), "no row is pushed out by it"


def test_how_long_it_takes_is_told_by_runs_of_this_machine() -> None:
    planned = rows()
    before = [done(planned[0], 600.0)]
    lines = text(Board("runs", "plan.toml", (*planned, *before)))
    assert "about 10 min 00 s" in lines[-4] and "about 20 min 00 s" in lines[-2]
    elsewhere = replace(before[0], figures=replace(before[0].figures, measured_here=False))
    assert "about" not in " ".join(text(Board("runs", "plan.toml", (*planned, elsewhere))))
    other = replace(before[0].figures, settings={**before[0].figures.settings, "model": {"id": "another"}})
    assert "about" not in " ".join(text(Board("runs", "plan.toml", (*planned, replace(before[0], figures=other)))))


@pytest.mark.parametrize("height", [1, 2, 5])
@pytest.mark.parametrize("selected", [0, 3])
def test_the_selected_row_is_among_the_lines_that_there_is_room_for(height: int, selected: int) -> None:
    board = Board("runs", "plan.toml", tuple(rows()), ends=ENDS)
    lines = text(board, selected, height=height)
    assert len(lines) <= height
    assert height < 3 or any(line.startswith("▸") for line in lines)


def test_starting_asks_what_and_how_long() -> None:
    planned = tuple(rows())
    question, told = start_question(Board("runs", "some/plan.toml", planned, ends=ENDS))
    assert question == "Start 3 runs of plan.toml?", "two rows are one run"
    assert told.startswith("a, b, c: how long it takes is not known") and "It ends at the first accepted run" in told
    _, told = start_question(Board("runs", "plan.toml", (*planned, done(planned[0], 600.0))))
    assert "about 40 min 00 s one after the other, by runs of this machine" in told
    queued = tuple(replace(row, queued=Queued("s1")) for row in planned)
    assert start_question(Board("runs", "plan.toml", queued))[0] == "Let the queue go on with plan.toml?"


def test_a_thousand_rows_are_drawn_in_a_moment() -> None:
    first = rows()[0]
    many = tuple(replace(first, id=f"plan:{number}", key=str(number)) for number in range(1000))
    assert len(text(Board("runs", "plan.toml", many), 999, height=20)) == 20
