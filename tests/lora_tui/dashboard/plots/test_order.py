"""Order on the screen is order in numbers: for marks, lines, ticks and labels of random runs, on the drawn cells."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_tui.dashboard.plots.axes import Line
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import GUTTER, Bar, Curve, Level, Mark, Plot
from lora_tui.dashboard.plots.trade_off import Path, Point, TradeOff, draw_trade_off
from lora_tui.dashboard.plots.view import View

MANY = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SOME = settings(MANY, max_examples=500)
GLYPHS = "ABCDEFGH"

hundredths = st.integers(-3000, 3000).map(lambda n: n / 100)
near_the_guardrail = st.integers(-30, 60).map(lambda n: n / 100)
changes = st.lists(st.one_of(near_the_guardrail, hundredths), min_size=1, max_size=len(GLYPHS))
guardrails = st.sampled_from([0.0, 0.1, 0.2, 0.5, 2.0])
sizes = st.tuples(st.integers(20, 70), st.integers(5, 30))
views = st.builds(
    View, cursor=st.none() | st.integers(0, 900).map(float), closer=st.integers(-1, 3), near=st.booleans()
)


def gutter(line: Line) -> str:
    return "".join(text for text, _ in line[: GUTTER - 1]).strip()


def rows_of(lines: list[Line], role: str) -> list[int]:
    """Rows of the canvas with cells of this role."""
    return [y for y, line in enumerate(lines) if any(r == role for _, r in line[GUTTER:])]


@MANY
@given(changes, guardrails, sizes, views, st.booleans())
def test_order_of_marks_lines_ticks_and_labels(
    ys: list[float], guardrail: float, size: tuple[int, int], view: View, ascii_only: bool
) -> None:
    xs = np.arange(len(ys)) * 100.0
    levels = (Level(guardrail, "guardrail", "line-guardrail"), Level(0.0, "base", "line-base"))
    marks = tuple(Mark(float(x), y, glyph, f"mark-{glyph}") for x, y, glyph in zip(xs, ys, GLYPHS, strict=False))
    bars = tuple(Bar(float(x), y - 0.3, y + 0.3, "bar") for x, y in zip(xs, ys, strict=True))
    curve = Curve("heldout", "heldout", xs, np.array(ys), marker="o" if ascii_only else "●")
    near = (min(0.0, guardrail) - 0.4, guardrail + 0.4)
    plot = Plot("heldout", (curve,), levels, bars, marks, x_end=1000, signed=True, near=near)
    lines = draw(plot, *size, view, ascii_only=ascii_only)[1:-2]

    told = {glyph: y for y, glyph in zip(ys, GLYPHS, strict=False)}
    drawn = [(told[glyph], y) for y, line in enumerate(lines) for glyph, role in line if role == f"mark-{glyph}"]
    lined = [(level.y, row) for level in levels for row in rows_of(lines, level.role)[:1]]
    for level in levels:
        rows = rows_of(lines, level.role)
        assert len(rows) <= 1 or guardrail == 0.0, "a line, and its name on it"
        name = [y for y, line in enumerate(lines) if level.label[: size[0] - GUTTER] in "".join(c for c, _ in line)]
        assert not rows or guardrail == 0.0 or name == rows[:1], "its name is there, on the line"
    for value, row in lined:
        # A mark fills a row, and none but those on the line share the line's.
        for other, other_row in drawn:
            assert (other_row < row) if other > value else (other_row > row) if other < value else other_row == row
        below = [y for y in rows_of(lines, "heldout") if y > row]
        above = [y for y in rows_of(lines, "heldout") if y < row]
        assert min(ys) < value or not below, "no part of a curve that keeps above it is below it"
        assert max(ys) > value or not above
    ticks = [(float(gutter(line).replace("−", "-")), y) for y, line in enumerate(lines) if gutter(line)]
    assert all(row != other for value, row in lined for tick, other in ticks if abs(tick - value) > 0.005)
    placed = sorted([*drawn, *lined, *ticks])
    assert [row for _, row in placed] == sorted((row for _, row in placed), reverse=True)
    even = [tick for tick in ticks if tick[0] not in (guardrail, 0.0)]
    assert len({round((row - one) / (other - value), 3) for (other, one), (value, row) in pairwise(even)}) <= 1


@SOME
@given(
    st.lists(st.tuples(st.one_of(near_the_guardrail, hundredths), hundredths), min_size=1, max_size=len(GLYPHS)),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    guardrails,
    sizes,
    views,
    st.booleans(),
)
def test_a_point_is_in_the_rectangle_if_it_may_ship_and_only_then(
    points: list[tuple[float, float]], target: float, guardrail: float, size: tuple[int, int], view: View,
    ascii_only: bool,
) -> None:  # fmt: skip
    """`points`: (heldout change, gain)."""
    paths = tuple(
        Path("domain", glyph, (Point("", i * 100.0, gain, rise),))
        for i, ((rise, gain), glyph) in enumerate(zip(points, GLYPHS, strict=False))
    )
    plot = TradeOff(paths, target, guardrail, "WER")
    whole = draw_trade_off(plot, *size, view, ascii_only=ascii_only)
    lines = whole[1:-2]
    # Fewer errors are to the right.
    labels = [
        (match.start() + len(match.group()) // 2, -float(match.group().replace("−", "-")))
        for match in re.finditer(r"[^ ]+", "".join(c for c, _ in whole[-1][GUTTER:]))
    ]
    assert [value for _, value in labels] == sorted(value for _, value in labels)
    even = [label for label in labels[1:-1] if label[1] != target]
    steps = [value - before for (_, before), (_, value) in pairwise(even)]
    assert all(abs(step / min(steps) - round(step / min(steps))) < 0.01 for step in steps), "none is rounded"
    border = {"-", "|", "+", "─", "│", "┌"}
    edge = [
        (x, y)
        for y, line in enumerate(lines)
        for x, (c, role) in enumerate(line)
        if role == "pass" and c in border and x >= GUTTER  # the guardrail's label has its line's colour
    ]
    drawn = [
        (*told, x, y)
        for y, line in enumerate(lines)
        for x, (glyph, role) in enumerate(line)
        if role == "domain" and glyph in GLYPHS
        for told in [points[GLYPHS.index(glyph)]]
    ]
    for rise, gain, x, y in drawn:
        for other_rise, other_gain, other_x, other_y in drawn:
            assert rise <= other_rise or y <= other_y
            assert gain <= other_gain or x >= other_x
    if not edge or size[0] < 24 or len({x for x, _ in edge}) < 3 or len({y for _, y in edge}) < 2:
        return
    left, top = min(x for x, _ in edge), min(y for _, y in edge)
    for rise, gain, x, y in drawn:
        assert (x >= left and y >= top) == (gain >= target and rise <= guardrail)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("height", [9, 12, 20, 40])
def test_the_accepted_step_is_below_the_guardrail_and_the_base_model_on_its_line(height: int, ascii_only: bool) -> None:
    xs, ys = np.array([0.0, 100, 200, 300]), np.array([0.0, 0.12, 0.73, 1.5])
    levels = (Level(0.2, "guardrail", "line-guardrail"), Level(0.0, "base", "line-base"))
    plot = Plot("heldout", (Curve("", "heldout", xs, ys, marker="o"),), levels, (), (Mark(100, 0.12, "*", "best"),))
    lines = draw(plot, 26, height, ascii_only=ascii_only)
    text = ["".join(c for c, _ in line) for line in lines]
    star = next(y for y, line in enumerate(lines) if ("*", "best") in line)
    guardrail = next(y for y, line in enumerate(text) if "guardrail" in line)
    base = next(y for y, line in enumerate(text) if "base" in line)
    assert guardrail < star < base and "o" in text[base]
    assert text[guardrail].strip().startswith("0.2")
