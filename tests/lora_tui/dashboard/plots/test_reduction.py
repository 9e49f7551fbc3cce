"""Long curves are drawn from blocks: the same picture as from every point, and nothing is lost."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from core.runs.steps import Lineage, StepColumns, StepSeries
from lora_tui.dashboard.plots import series as reduction
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import Curve, Plot
from lora_tui.dashboard.plots.series import Blocks, Floats, blocks_of, logarithm, minutes, reduce, smooth
from lora_tui.dashboard.plots.view import View

N = 300_000
RANGES = [(0, N), (0, 2 * N), (1234, 290_000), (100_000, 140_000), (5000, 5600), (N - 3000, N), (N + 5, N + 9)]


def curve(bad: bool = False) -> Floats:
    rng = np.random.default_rng(0)
    ys = np.exp(-np.arange(N) / 1e5) + 0.1 * rng.normal(size=N)
    if bad:
        ys[1000:9000] = np.nan
        ys[rng.integers(0, N, 50)] = np.inf
    return ys


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("window", [1, 30])
def test_blocks_give_what_all_points_give(bad: bool, log: bool, window: int) -> None:
    xs, ys = np.arange(1, N + 1), curve(bad)
    blocks = Blocks(window, log=log)
    blocks.extend(ys[:77_777])
    blocks.extend(ys)
    smoothed = smooth(ys, window)
    smoothed = logarithm(smoothed) if log else smoothed
    for low, high in RANGES:
        direct = reduce(xs, smoothed, low, high, 200)
        quick = blocks.reduce(xs, ys, low, high, 200)
        assert len(quick.xs) <= 8 * 204
        assert quick.gaps.tolist() == direct.gaps.tolist()
        inside = (direct.xs >= low) & (direct.xs <= high)
        if inside.any():
            seen = quick.ys[(quick.xs >= low - (high - low) / 800) & (quick.xs <= high)]
            assert seen.min() <= direct.ys[inside].min() + 1e-6 and seen.max() >= direct.ys[inside].max() - 1e-6


def test_a_spike_of_one_step_survives_every_zoom() -> None:
    ys = np.zeros(1_000_000)
    ys[123_456] = 50.0
    xs = np.arange(1_000_000)
    blocks = Blocks(1, log=False)
    blocks.extend(ys)
    for low, high in ((0, 1e6), (100_000, 200_000), (123_000, 124_000), (123_450, 123_460)):
        found = blocks.reduce(xs, ys, low, high, 200)
        column = (high - low) / 200
        assert found.ys.max() == 50.0
        assert abs(float(found.xs[found.ys.argmax()]) - 123_456) <= 1.2 * column + 1


def test_a_curve_is_not_joined_over_what_is_not_finite() -> None:
    ys = np.ones(100_000)
    ys[50_000:60_000] = np.nan
    found = blocks_of(Lineage(), "loss", ys, 1, log=False)
    assert found is not None
    reduced = found.reduce(np.arange(100_000), ys, 0, 100_000, 100)
    before, after = reduced.piece[reduced.xs < 50_000], reduced.piece[reduced.xs >= 60_000]
    assert set(before.tolist()).isdisjoint(after.tolist())


def test_blocks_follow_a_growing_run_and_go_with_it() -> None:
    columns = StepColumns.of(np.arange(1, N + 1), [curve() for _ in range(6)])
    first = columns.series()
    blocks = blocks_of(first.lineage, "loss", first.loss, 30, log=False)
    columns.drop_after(N - 10)
    other = columns.series()
    assert other.lineage is not first.lineage
    assert blocks_of(first.lineage, "loss", first.loss, 30, log=False) is blocks
    assert blocks_of(other.lineage, "loss", other.loss, 30, log=False) is not blocks
    known = len(reduction._known)
    del first, other, columns, blocks
    gc.collect()
    assert len(reduction._known) <= known - 2


def test_minutes_are_the_steps_own_times_and_grow_with_them() -> None:
    seconds = np.array([60.0, np.nan, 30.0, 30.0])
    lineage = Lineage()

    def series(n: int) -> StepSeries:
        rest = [np.ones(n)] * 5
        return StepSeries(np.arange(1, n + 1), *rest, seconds[:n], lineage)  # type: ignore[misc]

    assert minutes(series(2)).tolist() == [0, 1, 1]
    assert minutes(series(4)).tolist() == [0, 1, 1, 1.5, 2]
    assert minutes(series(2)).tolist() == [0, 1, 1]


def test_a_long_curve_and_a_copy_without_history_look_alike() -> None:
    xs, ys = np.arange(1, N + 1), curve(bad=True)
    with_blocks = Plot("loss", (Curve("train", "train", xs, ys, window=30, source=(Lineage(), "loss")),))
    without = Plot("loss", (Curve("train", "train", xs, ys, window=30),))
    for view in (View(), View(10_000, 60_000), View(cursor=1234.5), View(log_y=True)):
        a = ["".join(c for c, _ in line) for line in draw(with_blocks, 80, 20, view)]
        b = ["".join(c for c, _ in line) for line in draw(without, 80, 20, view)]
        assert a[0] == b[0]
        same = sum(x == y for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))
        assert same >= 0.93 * 80 * 20
