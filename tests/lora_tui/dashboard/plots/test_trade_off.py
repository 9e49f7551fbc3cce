"""The trade-off: what may ship is seen to lie in the rectangle, without colour too."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lora_tui.dashboard.plots.trade_off import Path, Point, TradeOff, draw_trade_off, nearest
from lora_tui.dashboard.plots.view import View

BASE = Point("0", 0.0, 0.0, 0.0, base=True)
FIRST = Point("100", 100.0, 1.67, 0.12, 0.9, 0.3)
SECOND = Point("200", 200.0, 7.07, 0.73, 1.2, 0.4)
RUN = TradeOff((Path("domain", "●", (BASE, FIRST, SECOND), FIRST),), 1.0, 0.2, "WER")


def text(plot: TradeOff = RUN, width: int = 50, height: int = 16, view: View | None = None) -> list[str]:
    return ["".join(c for c, _ in line) for line in draw_trade_off(plot, width, height, view or View())]


def test_the_rectangle_has_a_border_and_a_word_and_the_star_is_in_it() -> None:
    lines = text()
    corner = next((line.index("┌"), y) for y, line in enumerate(lines) if "┌" in line)
    star = next((line.index("★"), y) for y, line in enumerate(lines[1:], 1) if "★" in line)
    assert star[0] > corner[0] and star[1] > corner[1]
    assert any(" ships " in line for line in lines) and any("·" in line for line in lines)
    assert lines[corner[1]].strip().startswith("+0.2") and "−1" in lines[-1]
    assert "★ 100" in lines[0] and "domain −1.67 ±0.90  heldout +0.12 ±0.30 at 95 %" in text(width=80)[0]


def test_the_best_step_of_a_run_that_will_not_ship_has_another_sign() -> None:
    path = Path("domain", "●", (BASE, SECOND), SECOND, "☆", ships=False)
    cells = [cell for line in draw_trade_off(TradeOff((path,), 1.0, 0.2, "WER"), 50, 16, View()) for cell in line]
    assert ("☆", "domain") in cells and not any(glyph == "★" or role == "best" for glyph, role in cells)


def test_the_label_of_the_guardrail_has_the_colour_of_its_line() -> None:
    lines = draw_trade_off(RUN, 50, 16, View())
    [label] = [line for line in lines if "".join(cell for cell, _ in line).strip().startswith("+0.2")]
    border = next(role for line in lines for cell, role in line if cell == "┌")
    assert {role for cell, role in label[:6] if cell != " "} == {border}


def test_a_label_is_the_number_that_it_stands_at() -> None:
    """Labels each 1.5 points: none is rounded to a whole number."""
    plot = TradeOff((Path("domain", "●", (BASE, Point("9", 9.0, 6.2, 0.1))),), 1.0, 0.2, "WER")
    axis = text(plot, 56)[-1].split()[1:]
    values = [-float(label.replace("−", "-")) for label in axis if label != "−1"]
    assert {round(later - value, 3) for value, later in pairwise(values)} <= {1.5, 3.0}


def test_the_step_that_costs_too_much_is_above_it_and_the_base_model_left_of_it() -> None:
    lines = text()
    corner = next((line.index("┌"), y) for y, line in enumerate(lines) if "┌" in line)
    base = next(line.index("○") for line in lines if "○" in line)
    second = next(y for y, line in enumerate(lines) if "●" in line)
    assert base < corner[0] and second < corner[1]


def test_the_cursor_reads_an_interval_and_a_click_finds_the_nearest() -> None:
    at = text(view=View(cursor=210.0))
    assert "◆ 200" in at[0] and "−7.07" in at[0] and any("◆" in line for line in at[1:])
    lines = text()
    row, column = next((y, line.index("●")) for y, line in enumerate(lines) if "●" in line)
    assert nearest(RUN, 50, 16, View(), (column + 1, row)) is SECOND
    assert nearest(RUN, 50, 16, View(), (GUTTER, 15)) is BASE


GUTTER = 7


def test_pinned_runs_are_laid_over_with_their_letters() -> None:
    other = Path("pin-0", "a", (BASE, Point("50", 50.0, 4.0, -0.5)), None)
    plot = TradeOff((other, *RUN.paths), 1.0, 0.2, "WER")
    cells = [cell for line in draw_trade_off(plot, 50, 16, View()) for cell in line]
    assert ("a", "pin-0") in cells and ("★", "best") in cells


def test_candidates_that_are_no_intervals_have_a_sign_of_their_own_and_are_on_no_path() -> None:
    made = Point("step-000200-x0.30", 200.0, 3.0, 0.1, 0.5, 0.2, made=True)
    plot = TradeOff((Path("domain", "●", (BASE, FIRST, SECOND, made), made),), 1.0, 0.2, "WER")
    lines = text(plot, 80)
    assert "★ step-000200-x0.30" in lines[0]
    without = TradeOff((Path("domain", "●", (BASE, FIRST, SECOND, made), FIRST),), 1.0, 0.2, "WER")
    assert any("◇" in line for line in text(without)[1:])


@pytest.mark.parametrize("size", [(20, 6), (26, 9), (39, 9), (100, 40), (19, 5), (3, 1)])
def test_it_fills_exactly_its_size(size: tuple[int, int]) -> None:
    for plot in (RUN, TradeOff((), 1.0, 0.2, "WER", "no interval yet"), TradeOff(RUN.paths, 0.0, 0.0, "WER")):
        for view in (View(), View(near=True), View(closer=5), View(cursor=0.0)):
            lines = text(plot, *size, view=view)
            assert len(lines) == size[1] and {len(line) for line in lines} == {size[0]}


def test_a_close_look_shows_the_corner_and_counts_what_lies_outside() -> None:
    lines = text(view=View(near=True))
    assert "zoomed" in lines[0] and "1 outside" in lines[0]
    assert any("↑" in line or "→" in line for line in lines[1:])


def test_before_there_is_an_interval_it_says_so() -> None:
    assert any("no interval yet" in line for line in text(TradeOff((), 1.0, 0.2, "WER", "no interval yet")))
