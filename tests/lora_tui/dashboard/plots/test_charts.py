"""What a run's files become in its plots, and the table of its slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core.runs.row import Row
from core.scoring.certainty import Significance, SliceScore
from core.scoring.evidence import CandidateScore, SetScore, SliceRule, Thresholds
from core.scoring.units import ErrorCounts
from lora_tui.dashboard.plots.charts import domain_plot, heldout_plot, loss_plot, trade_off
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.view import Pin, PlotStyle
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.reading.watch import Watch
from lora_tui.dashboard.text.run_pages import slice_lines

LOOK = PlotStyle()


def read(run: Any) -> RunView:
    watch = Watch(run.paths)
    assert watch.refresh(Thresholds())
    view = watch.view(watch.row(Row("a", "2.1")))
    assert view is not None
    return view


@pytest.fixture
def view(make_run: Callable[..., Any]) -> RunView:
    return read(make_run().train(1000).finish())


def test_each_interval_is_a_point_with_its_uncertainty_and_the_star_ships(view: RunView) -> None:
    plot = trade_off(view, LOOK)
    assert plot is not None
    [path] = plot.paths
    assert [point.name for point in path.points] == ["0", "250", "500", "750", "1000"]
    assert path.points[0].base and path.best is path.points[2]
    assert (path.points[2].gain, path.points[2].rise) == (pytest.approx(5.0), pytest.approx(0.1))
    assert path.points[2].rise_half is not None and path.points[2].rise_half > 0
    assert (plot.least_gain, plot.most_rise) == (1.0, 0.2)


def test_pinned_runs_come_before_the_run_itself(view: RunView) -> None:
    plot = trade_off(view, LOOK, [Pin("b", view)])
    assert plot is not None and [path.marker for path in plot.paths] == ["b", "●"]


def test_a_line_at_the_step_that_ships_goes_through_all_plots(view: RunView) -> None:
    for plot in (loss_plot(view, LOOK), domain_plot(view, LOOK), heldout_plot(view, LOOK)):
        assert plot.ship == 500.0 and plot.star == "★ 500"
        assert any("┊" in "".join(c for c, _ in line) for line in draw(plot, 60, 20))
    assert "35.00" in "".join(c for c, _ in draw(domain_plot(view, LOOK), 60, 20)[0])


def test_of_a_run_that_trains_the_legend_reads_the_newest_loss(make_run: Callable[..., Any]) -> None:
    plot = loss_plot(read(make_run().train(700)), LOOK)
    assert plot.ship == 500.0 and plot.star == ""
    newest = plot.curves[1]
    told = "".join(c for c, _ in draw(plot, 80, 20)[0])
    assert f"{newest.ys[-30:].mean():.3f}" in told and told.startswith("loss  newest  ─ train")
    ended = "".join(c for c, _ in draw(loss_plot(read(make_run().train(1000).finish()), LOOK), 80, 20)[0])
    assert ended.startswith("loss  at ★ 500  ─ train"), "where the values are read is said"


def test_a_change_in_points_has_its_sign_and_a_rate_has_none(view: RunView) -> None:
    told = ["".join(cell for cell, _ in draw(plot(view, LOOK), 60, 12)[0]) for plot in (domain_plot, heldout_plot)]
    assert told[0].rstrip().endswith(" 35.00") and told[1].rstrip().endswith(" +0.10"), told


def test_the_base_alone_is_told_as_that(make_run: Callable[..., Any]) -> None:
    plot = trade_off(read(make_run().train(180)), LOOK)
    assert plot is not None and plot.empty == "only the base is scored", "step 0 is an interval elsewhere"


def counted(errors: int) -> SetScore:
    return SetScore(ErrorCounts(errors, 0, 0, 1000), None)


def test_a_candidate_that_ships_has_the_star_and_others_stand_by_their_selection_sets(view: RunView) -> None:
    name = "step-000500-x0.50"
    first, *rest = view.snapshot.intervals
    base = replace(first, selection=counted(400), selection_heldout=counted(100))
    ships = CandidateScore(name, (500,), 0.5, "h", True, counted(370), counted(99), counted(375), counted(98))
    other = CandidateScore("step-000500-x0.20", (500,), 0.2, "h", False, counted(390), counted(97))
    snapshot = replace(view.snapshot, intervals=(base, *rest), candidates=(ships, other))
    judged = replace(view.judged, snapshot=snapshot)
    with_both = replace(view, judged=judged, verdict=replace(view.verdict, chosen=name))
    plot = trade_off(with_both, LOOK)
    assert plot is not None and plot.paths[-1].best is not None
    best = plot.paths[-1].best
    assert (best.name, best.gain, best.rise, best.made, best.apart) == (name, 2.5, pytest.approx(-0.2), True, False)
    [apart] = [point for point in plot.paths[-1].points if point.apart]
    assert (apart.name, apart.gain, apart.rise) == ("step-000500-x0.20", 1.0, pytest.approx(-0.3))
    heldout = heldout_plot(with_both, LOOK)
    assert heldout.star == f"★ {name}" and [mark.y for mark in heldout.marks] == [pytest.approx(-0.2)]
    assert "−0.20" in "".join(c for c, _ in draw(heldout, 80, 20)[0])


def test_slices_are_a_table_with_what_is_beyond_its_limit_marked(view: RunView) -> None:
    assert slice_lines(view) == []
    rule = SliceRule("speaker", domain_gain_pp=0.5, heldout_regression_pp=0.2, min_utterances=2)
    slices = (
        SliceScore(0, "domain", "speaker alice", 12, 400, 100, 80),
        SliceScore(0, "heldout", "speaker bob", 8, 400, 40, 48),
    )
    known = Significance(None, None, 1000, "k", slices)  # type: ignore[arg-type]
    judged = replace(view.judged, evidence=replace(view.judged.evidence, significance=known))
    asked = replace(judged, thresholds=Thresholds(slices=(rule,)))
    lines = ["".join(text for text, _ in line) for line in slice_lines(replace(view, judged=asked))]
    alice, bob = (next(line for line in lines if name in line) for name in ("alice", "bob"))
    assert "25.00" in alice and "20.00" in alice and " −5.00" in alice and "≤ −0.5" in alice
    assert "!+2.00" in bob and "≤ +0.2" in bob
