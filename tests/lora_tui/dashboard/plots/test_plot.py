"""Curves, dots and plots: nothing that happened in a run is lost on the way to the screen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lora_tui.dashboard.plots.axes import log_ticks, ticks_between
from lora_tui.dashboard.plots.canvas import Canvas
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import Bar, Curve, Level, Mark, Plot
from lora_tui.dashboard.plots.series import logarithm, reduce, smooth
from lora_tui.dashboard.plots.view import View


def text(
    plot: Plot, width: int = 60, height: int = 14, view: View | None = None, ascii_only: bool = False
) -> list[str]:
    lines = draw(plot, width, height, view or View(), ascii_only=ascii_only)
    return ["".join(character for character, _ in line) for line in lines]


def wave(n: int = 500) -> Curve:
    xs = np.arange(1, n + 1, dtype=float)
    return Curve("train", "train", xs, np.sin(xs / 50) + 2)


def test_a_spike_of_one_step_in_a_million_survives() -> None:
    xs = np.arange(1_000_000, dtype=float)
    ys = np.zeros(1_000_000)
    ys[123_456] = 50.0
    reduced = reduce(xs, ys, 0, 1e6, 200)
    assert reduced.ys.max() == 50.0 and len(reduced.xs) <= 4 * 202
    assert abs(float(reduced.xs[reduced.ys.argmax()]) - 123_456) < 1e6 / 200


def test_values_that_are_not_finite_part_the_curve_and_are_reported() -> None:
    xs = np.arange(6, dtype=float)
    reduced = reduce(xs, np.array([1, 2, np.nan, 3, np.inf, 4]), 0, 5, 100)
    assert reduced.gaps.tolist() == [2, 4]
    assert reduced.piece.tolist() == [0, 0, 1, 2]


def test_a_point_beyond_each_end_is_kept_so_that_lines_reach_the_edge() -> None:
    xs = np.arange(10, dtype=float)
    assert reduce(xs, xs, 3.5, 5.5, 50).xs.tolist() == [3, 4, 5, 6]


def test_smoothing_is_a_trailing_mean_that_hides_no_nan() -> None:
    ys = np.array([1.0, 3.0, np.nan, 5.0])
    assert smooth(ys, 2)[:2].tolist() == [1.0, 2.0]
    assert math.isnan(smooth(ys, 2)[2]) and smooth(ys, 2)[3] == 5.0
    assert smooth(ys, 1) is ys
    assert len(smooth(np.empty(0), 5)) == 0


def test_the_logarithm_of_nothing_is_marked_not_dropped() -> None:
    logs = logarithm(np.array([100.0, 0.0, -1.0, np.inf]))
    assert logs[0] == 2 and np.isnan(logs[1:3]).all() and np.isinf(logs[3])


@pytest.mark.parametrize("size", [(20, 5), (26, 9), (60, 14), (200, 50), (5, 2), (19, 9)])
def test_a_plot_fills_exactly_its_size(size: tuple[int, int]) -> None:
    for plot in (Plot("loss", (wave(),)), Plot("loss", ()), Plot("loss", (), empty="no step yet")):
        lines = text(plot, *size)
        assert len(lines) == size[1] and {len(line) for line in lines} == {size[0]}


def test_an_ascii_plot_is_ascii() -> None:
    plot = Plot("loss", (wave(), Curve("eval", "e", np.array([1.0, 400]), np.array([1.0, 2]), marker="o")),
                (Level(1.5, "base", "line-base"),), (Bar(200, 1, 2, "bar"),), (Mark(400, 2, "*", "best"),),
                (300, 500, "last 3"))  # fmt: skip
    assert "\n".join(text(plot, ascii_only=True)).isascii()


def test_levels_are_named_and_inside_the_picture() -> None:
    plot = Plot("domain", (wave(),), (Level(9.0, "guardrail", "line-guardrail"), Level(1.0, "base", "line-base")))
    lines = text(plot)
    high = next(i for i, line in enumerate(lines) if "guardrail" in line)
    low = next(i for i, line in enumerate(lines) if "base" in line)
    assert 0 < high < low < len(lines) - 2


def test_two_levels_closer_than_a_row_have_a_row_each() -> None:
    """A guardrail 0.2 above the baseline on an axis of ten points."""
    high = Curve("w", "domain", np.array([0.0, 1000.0]), np.array([0.0, 10.0]))
    plot = Plot("wer", (high,), (Level(0.2, "guardrail", "line-guardrail"), Level(0.0, "base", "line-base")), x_end=4e3)
    lines = draw(plot, 60, 12)
    base = next(i for i, line in enumerate(lines) if "base" in "".join(c for c, _ in line))
    guardrail = next(i for i, line in enumerate(lines) if "guardrail" in "".join(c for c, _ in line))
    assert guardrail < base
    assert sum(role == "line-base" for _, role in lines[base]) >= 25
    assert sum(role == "line-guardrail" for _, role in lines[guardrail]) >= 25


@pytest.mark.parametrize(
    ("width", "wanted"), [(60, "  + heldout 0.5"), (34, "+ heldout"), (31, "- train . domain + heldout")]
)
def test_no_name_in_a_legend_is_cut(width: int, wanted: str) -> None:
    """Values go first, from the end."""
    xs, ys = np.array([0.0, 1.0]), np.array([0.25, 0.5])
    curves = (Curve("train", "train", xs, ys), Curve("domain", "domain", xs, ys, marker="."))
    plot = Plot("loss", (*curves, Curve("heldout", "heldout", xs, ys, marker="+")))
    assert wanted in text(plot, width, ascii_only=True)[0]


def test_nan_and_inf_are_marked_and_counted() -> None:
    ys = np.ones(100)
    ys[[10, 50]] = [np.nan, np.inf]
    lines = text(Plot("loss", (Curve("train", "train", np.arange(100.0), ys),)))
    assert "2 not finite" in lines[0] and lines[1].count("✕") == 2


def test_a_curve_of_nothing_but_nan_says_so() -> None:
    lines = text(Plot("loss", (Curve("train", "train", np.arange(5.0), np.full(5, np.nan)),), empty="no step yet"))
    assert "5 not finite" in lines[0] and "no step yet" not in "\n".join(lines)


def test_without_a_point_it_says_what_is_missing() -> None:
    assert any("no step yet" in line for line in text(Plot("loss", (), empty="no step yet")))


def test_the_legend_reads_the_newest_value_or_the_one_at_the_cursor() -> None:
    curve = Curve("train", "train", np.array([1.0, 2, 3]), np.array([5.0, 6, 7]))
    assert "train 7.000" in text(Plot("loss", (curve,)))[0]
    at = text(Plot("loss", (curve,)), view=View(cursor=2.2))[0]
    assert "train 6.000" in at and "at 2" in at


def test_a_zoom_changes_the_axis_and_says_so() -> None:
    whole, part = text(Plot("loss", (wave(1000),))), text(Plot("loss", (wave(1000),)), view=View(400, 500))
    assert "zoomed" in part[0] and "zoomed" not in whole[0]
    assert "440" in part[-1] and "1 000" in whole[-1]


def test_a_log_axis_has_labels_in_the_units_of_the_data() -> None:
    xs = np.arange(1.0, 101)
    lines = text(Plot("loss", (Curve("train", "train", xs, 10 ** (xs / 25)),)), view=View(log_y=True))
    assert "log" in lines[0] and any(line.lstrip().startswith("100│") for line in lines)


def test_a_title_says_what_it_reads_before_that_it_is_zoomed() -> None:
    plot = Plot("heldout WER, points", (wave(),), ship=100.0, star="★ 100")
    assert "zoomed  at ★ 100" in text(plot, 60, view=View(100, 200))[0]
    assert text(plot, 26, view=View(100, 200))[0] == "heldout WER, points  ★ 100"


def test_a_constant_curve_is_drawn() -> None:
    assert any("⠒" in line or "⠤" in line or "⣀" in line or "⠉" in line
               for line in text(Plot("x", (Curve("c", "c", np.arange(50.0), np.full(50, 3.0)),))))  # fmt: skip


def test_the_axis_reaches_the_planned_end() -> None:
    assert "1 000" in text(Plot("loss", (wave(100),), x_end=1000))[-1]


def test_round_numbers_on_the_axis() -> None:
    assert ticks_between(0, 1000, 5) == [0, 200, 400, 600, 800, 1000]
    assert ticks_between(5, 5, 4) == [5]
    assert len(ticks_between(37.1, 39.9, 4)) <= 5


def test_lines_far_outside_are_cut_before_they_are_drawn() -> None:
    canvas = Canvas(10, 4)
    canvas.line(-1e9, -1e9, 1e9, 1e9, "x")
    canvas.line(-5, -5, -1, -1, "x")
    assert any(cell != " " for row in canvas.rows() for cell, _ in row)


def test_strips_lie_below_the_curves_with_axes_of_their_own() -> None:
    xs = np.arange(1, 101, dtype=float)
    rate = Curve("learning rate", "rate", xs, 1e-4 * xs / 100, scientific=True)
    plot = Plot("loss", (wave(100),), strips=(rate,), strips_first=True)
    lines = text(plot, 60, 18)
    assert lines[0].startswith("loss  newest  ─ train")
    rule = next(i for i, line in enumerate(lines) if "├─ learning rate 1e-4 ──" in line)
    assert lines[rule + 1].startswith("  1e-4│") and lines[-3].startswith("     0│") and len(lines) == 18
    assert {len(line) for line in lines} == {60}
    assert "├─ learning rate 5e-5 ──" in "".join(text(plot, 60, 18, View(cursor=50.0)))
    small = text(plot, 60, 9)
    assert small[0].startswith("learning rate  newest  ─ 1e-4") and len(small) == 9 and "├" not in "".join(small)
    assert "+- learning rate" in "".join(text(plot, 60, 18, ascii_only=True))
    norm = Curve("gradient norm", "norm", xs, np.where(xs == 50, 1e6, 1.0))
    both = Plot("loss", (wave(100),), strips=(norm, rate))
    tall = "\n".join(text(both, 60, 20))
    assert "├─ gradient norm 1.000 ↑1 ─" in tall and "├─ learning rate 1e-4" in tall, (
        "its one spike is no end of its axis"
    )
    assert "├" not in "\n".join(text(both, 60, 12)) and text(both, 60, 12)[0].startswith("loss")


def test_one_spike_does_not_flatten_the_curve_and_is_marked_and_counted() -> None:
    xs = np.arange(1, 1001, dtype=float)
    ys = 0.4 + 1.5 * np.exp(-xs / 200)
    ys[[500, 501]] = 900.0
    plot = Plot("loss", (Curve("train", "train", xs, ys),))
    lines = text(plot)
    labels = [float(line[:6]) for line in lines[1:-2] if line[:6].strip()]
    assert max(labels) <= 3 and "↑2" in lines[0] and "↑" in lines[1], lines
    whole = text(plot, view=View(closer=-1))
    assert "↑" not in "".join(whole) and any(line[:6].strip() == "800" for line in whole)


def test_a_loss_that_begins_high_is_shown_from_its_beginning() -> None:
    xs = np.arange(1, 1001, dtype=float)
    ys = np.where(xs < 12, 9.0, 0.5) + 0.01 * np.sin(xs)
    lines = text(Plot("loss", (Curve("train", "train", xs, ys),)))
    assert "↑" not in "".join(lines) and any(line[:6].strip() in ("8", "10") for line in lines)


def test_an_interval_is_never_an_outlier() -> None:
    xs = np.arange(60, dtype=float) * 100
    ys = np.where(xs == 300, 250.0, 50.0)
    assert "↑" not in "".join(text(Plot("domain", (Curve("", "domain", xs, ys, marker="●"),))))


def test_the_legend_reads_the_step_that_ships_and_a_line_goes_through_it() -> None:
    curve = Curve(
        "heldout", "heldout", np.array([0.0, 100, 200]), np.array([0.0, 0.12, 1.3]), marker="●", unit_digits=2
    )
    plot = Plot("heldout", (curve,), ship=100.0, star="★ 100")
    lines = text(plot)
    assert "★ 100" in lines[0] and "0.12" in lines[0] and "1.30" not in lines[0]
    assert sum("┊" in line for line in lines) >= 5
    at = text(plot, view=View(cursor=200.0))[0]
    assert "1.30" in at and "at 200" in at and "★" not in at


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(1e-7, 1.0, {"1e-6", "1e-4", "0.01", "1"}), (0.3, 3.0, {"0.5", "1", "2"}), (1.1, 1.8, {"1.2", "1.4", "1.6"})],
)
def test_a_log_axis_has_round_numbers_that_fit_its_labels(low: float, high: float, labels: set[str]) -> None:
    xs = np.arange(100, dtype=float)
    curve = Curve("train", "train", xs, np.geomspace(low, high, 100))
    lines = text(Plot("loss", (curve,)), 60, 20, View(log_y=True))
    assert {len(line) for line in lines} == {60}
    found = {line.partition("│")[0].strip() for line in lines[1:-2]} - {""}
    assert labels <= found, found
    assert all(low * 0.8 <= 10**tick <= high * 1.3 for tick in log_ticks(math.log10(low), math.log10(high), 8))


@pytest.mark.parametrize(
    ("x_name", "end", "cursor", "says"),
    [("step", 500, 249.6, "at 250"), ("min", 1.0, 0.5, "at 0.50 min"), ("min", 90.0, 44.96, "at 45.0 min")],
)
def test_the_cursor_on_an_axis_of_minutes_is_told_as_finely_as_it_moves(
    x_name: str, end: float, cursor: float, says: str
) -> None:
    xs = np.linspace(0, end, 50)
    plot = Plot("loss", (Curve("c", "c", xs, xs + 1),), x_name=x_name)
    assert says in text(plot, 70, view=View(cursor=cursor))[0]
