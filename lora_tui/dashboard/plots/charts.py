"""The plots of a run, or of several laid over each other. Pure: views in, `Plot` values out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from core.runs.run_figures import change, wer
from core.scoring.evidence import CandidateScore, Interval, SetScore
from lora_tui.dashboard.plots.plot import Bar, Curve, Level, Mark, Plot
from lora_tui.dashboard.plots.series import Floats, Xs, minutes
from lora_tui.dashboard.plots.trade_off import Path, Point, TradeOff
from lora_tui.dashboard.plots.view import Pin, PlotStyle
from lora_tui.dashboard.reading.snapshots import RunView

_SETS = {"domain": "dom", "heldout": "held"}
"""Sets whose loss is drawn, and their short names."""
_NO_STEPS = "no step yet"
_NO_INTERVALS = "no interval yet: the base model is scored first"
_BASE_ONLY = "only the base is scored"


def loss_plot(view: RunView | None, look: PlotStyle, pinned: Sequence[Pin] = ()) -> Plot:
    """Training loss, smoothed, the raw values behind it; the loss on domain and heldout at each interval.

    Gradient norm and learning rate are strips below them.
    """
    title = "loss"
    if view is None:
        return Plot(title, (), empty="")
    steps = view.snapshot.steps
    xs = _step_xs(view, look)
    source = steps.lineage, "loss"
    curves = _pinned(pinned, look, _steps, window=look.smoothing)
    if look.smoothing > 1:
        curves.append(Curve("raw", "raw", xs, steps.loss, dots=True, legend=False, source=source))
    curves.append(Curve("train", "train", xs, steps.loss, window=look.smoothing, source=source))
    curves += [
        Curve(name, name, *_intervals(view, name, look), marker=look.point if name == "domain" else "+", short=short)
        for name, short in _SETS.items()
    ]
    rate = Curve(
        "learning rate", "rate", xs, steps.learning_rate, scientific=True, source=(steps.lineage, "learning_rate")
    )
    norm = Curve("gradient norm", "norm", xs, steps.grad_norm, source=(steps.lineage, "grad_norm"))
    strips = {"auto": (norm, rate), "learning rate": (rate,), "gradient norm": (norm,), "off": ()}[look.strips]
    return Plot(
        title, tuple(curves), x_end=_end(view, look), empty=_NO_STEPS, x_name=_x_name(look), strips=strips,
        strips_first=look.strips != "auto",
        ship=_ship(view, look), ships=view.ships,
        # Of a run that trains the newest loss is what is looked for.
        star="" if view.snapshot.state.active else _star(view, look),
    )  # fmt: skip


def domain_plot(view: RunView | None, look: PlotStyle, pinned: Sequence[Pin] = ()) -> Plot:
    """The domain error rate in percent, with the base model's and the target's lines."""
    if view is None:
        return Plot("domain, %", (), empty="")
    title = f"domain {view.snapshot.unit.rate} %"
    curves = _pinned(pinned, look, _wers, digits=2)
    xs, ys = _wers(view, look)
    curves.append(Curve("", "domain", xs, ys, marker=look.point, unit_digits=2))
    levels: list[Level] = []
    near = None
    base = wer(view.judged.evidence.baseline_domain, None, allowed=-view.thresholds.domain_gain_pp)
    if base.baseline is not None and base.limit is not None:
        levels = [Level(base.limit, "target", "line-target"), Level(base.baseline, "base", "line-base")]
        gain = abs(base.baseline - base.limit) or 1.0
        near = (base.limit - 2 * gain, base.baseline + gain)
    one = _chosen(view)
    shipped = None if one is None or one.domain is None else one.domain.counts.wer_percent
    marks = _best_mark(view, look, dict(zip(xs, ys, strict=True)), shipped)
    return Plot(
        title, tuple(curves), tuple(levels), (), marks, _window(view, look), _end(view, look), _NO_INTERVALS,
        x_name=_x_name(look), ship=_ship(view, look), ships=view.ships, star=_star(view, look),
        near=near, shipped=shipped,
    )  # fmt: skip


def heldout_plot(view: RunView | None, look: PlotStyle, pinned: Sequence[Pin] = ()) -> Plot:
    """The heldout error rate in points against the base model, with the guardrail and each interval's 95 % interval."""
    if view is None:
        return Plot("heldout, points", (), empty="")
    title = f"heldout {view.snapshot.unit.rate}, points"
    curves = _pinned(pinned, look, _changes, digits=2)
    xs, ys = _changes(view, look)
    curves.append(Curve("", "heldout", xs, ys, marker=look.point, unit_digits=2))
    bars = tuple(
        Bar(float(x), change.change - change.half_width, change.change + change.half_width, "bar")
        for x, change in zip(xs, view.heldout, strict=True)
        if change.half_width
    )
    limit = view.thresholds.heldout_regression_pp
    levels = (Level(limit, "guardrail", "line-guardrail"), Level(0.0, "base", "line-base"))
    room = max(2 * abs(limit), 0.1)
    made = [point for one in view.snapshot.candidates if (point := _made(view, one, look)) and not point.apart]
    shipped = next((point.rise for point in made if point.name == view.verdict.chosen), None)
    marks = _best_mark(view, look, dict(zip(xs, ys, strict=True)), shipped)
    return Plot(
        title, tuple(curves), levels if len(xs) else (), bars, marks, _window(view, look), _end(view, look),
        _NO_INTERVALS, signed=True, x_name=_x_name(look),
        ship=_ship(view, look), ships=view.ships, star=_star(view, look),
        near=(min(0.0, limit) - room, max(0.0, limit) + room), shipped=shipped,
    )  # fmt: skip


def trade_off(view: RunView | None, look: PlotStyle, pinned: Sequence[Pin] = ()) -> TradeOff | None:
    """What each interval gains on domain against what it costs on heldout; nothing without a run."""
    if view is None:
        return None
    paths = [_path(pin.view, look, pin.role, pin.letter) for pin in pinned]
    limits = view.thresholds
    return TradeOff(
        (*paths, _path(view, look, "domain", look.point)), limits.domain_gain_pp, limits.heldout_regression_pp,
        view.snapshot.unit.rate,
        "" if len(view.snapshot.intervals) > 1 else (_BASE_ONLY if view.snapshot.intervals else _NO_INTERVALS),
    )  # fmt: skip


def _path(view: RunView, look: PlotStyle, role: str, marker: str) -> Path:
    heldout = {change.step: change for change in view.heldout}
    both = [(change, heldout[change.step]) for change in view.domain if change.step in heldout]
    xs = _x(view, np.array([change.step for change, _ in both], np.float64), look)
    points = tuple(
        Point(
            str(gain.step), float(x), -gain.change + 0.0, rise.change, gain.half_width, rise.half_width,
            base=gain.step == 0,
        )
        for x, (gain, rise) in zip(xs, both, strict=True)
    )  # fmt: skip
    best = next((p for p, (c, _) in zip(points, both, strict=True) if c.step == view.verdict.best_step), None)
    made = [point for one in view.snapshot.candidates if (point := _made(view, one, look)) is not None]
    chosen = next((point for point in made if point.name == view.verdict.chosen), None)
    return Path(role, marker, (*points, *made), chosen or best, look.star(ships=view.ships), view.ships)


def _made(view: RunView, candidate: CandidateScore, look: PlotStyle) -> Point | None:
    """An adapter made of intervals: on domain and heldout if it is what ships, else on the selection sets."""
    first = view.snapshot.intervals[0] if view.snapshot.intervals else None
    if first is None or first.step != 0:
        return None
    x = float(_x(view, np.array([candidate.step], np.float64), look)[0])
    halves = view.candidates.get(candidate.name, (None, None))
    for before, after, apart in (
        ((first.domain, first.heldout), (candidate.domain, candidate.heldout), False),
        ((first.selection, first.selection_heldout), (candidate.selection, candidate.selection_heldout), True),
    ):
        rises = [
            None if old is None or new is None else change(old.counts, new.counts)
            for old, new in zip(before, after, strict=True)
        ]
        if rises[0] is not None and rises[1] is not None:
            known = (None, None) if apart else halves
            return Point(candidate.name, x, -rises[0] + 0.0, rises[1], *known, made=True, apart=apart)
    return None


def _pinned(
    pinned: Sequence[Pin],
    look: PlotStyle,
    points: Callable[[RunView, PlotStyle], tuple[Xs, Floats]],
    window: int = 1,
    digits: int = 3,
) -> list[Curve]:
    """The curves of the pinned runs, each marked with its letter where it has few points."""
    return [
        Curve(
            pin.view.label.split(" ")[0],
            pin.role,
            *points(pin.view, look),
            marker="" if points is _steps else pin.letter,
            tag=pin.letter if points is _steps else "",
            window=window,
            unit_digits=digits,
            source=(pin.view.snapshot.steps.lineage, "loss") if points is _steps else None,
        )
        for pin in pinned
    ]


def interval_places(view: RunView | None, look: PlotStyle) -> list[float]:
    """The x of all intervals."""
    if view is None:
        return []
    return [float(x) for x in _x(view, np.array([i.step for i in view.snapshot.intervals], np.float64), look)]


def _steps(view: RunView, look: PlotStyle) -> tuple[Xs, Floats]:
    steps = view.snapshot.steps
    return _step_xs(view, look), steps.loss


def _intervals(view: RunView, name: str, look: PlotStyle) -> tuple[Floats, Floats]:
    points = [(i.step, _set(i, name).loss) for i in view.snapshot.intervals]
    xs = np.array([step for step, _ in points], np.float64)
    return _x(view, xs, look), np.array([np.nan if y is None else y for _, y in points], np.float64)


def _wers(view: RunView, look: PlotStyle) -> tuple[Floats, Floats]:
    intervals = view.snapshot.intervals
    xs = np.array([i.step for i in intervals], np.float64)
    wers = [i.domain.counts.wer_percent for i in intervals]
    return _x(view, xs, look), np.array([np.nan if w is None else w for w in wers], np.float64)


def _changes(view: RunView, look: PlotStyle) -> tuple[Floats, Floats]:
    xs = np.array([change.step for change in view.heldout], np.float64)
    return _x(view, xs, look), np.array([change.change for change in view.heldout], np.float64)


def _x(view: RunView, steps: Floats, look: PlotStyle) -> Floats:
    """Steps, or the minutes of training until then: the sum of the steps' own times."""
    if not look.by_time:
        return steps
    series = view.snapshot.steps
    at: Floats = minutes(series)[np.searchsorted(series.step, np.floor(steps).astype(np.int64), side="right")]
    return at


def _step_xs(view: RunView, look: PlotStyle) -> Xs:
    """The x of every step."""
    return minutes(view.snapshot.steps)[1:] if look.by_time else view.snapshot.steps.step


def _x_name(look: PlotStyle) -> str:
    return "min" if look.by_time else "step"


def _end(view: RunView, look: PlotStyle) -> float:
    return 0.0 if look.by_time else float(view.snapshot.steps_planned)


def _window(view: RunView, look: PlotStyle) -> tuple[float, float, str] | None:
    """The last intervals, which stability is judged on."""
    steps = [i.step for i in view.snapshot.intervals if i.step > 0][-view.thresholds.stability_intervals :]
    if len(steps) < view.thresholds.stability_intervals:
        return None
    first, last = _x(view, np.array([steps[0], steps[-1]], np.float64), look)
    return float(first), float(last), f"last {len(steps)}"


def _ship(view: RunView, look: PlotStyle) -> float | None:
    """x of the best interval, or of the last one that the chosen candidate is made of."""
    step = view.verdict.best_step
    return None if step is None else float(_x(view, np.array([step], np.float64), look)[0])


def _star(view: RunView, look: PlotStyle) -> str:
    name = view.verdict.chosen or view.verdict.best_step
    return "" if name is None else f"{look.star(ships=view.ships)} {name}"


def _chosen(view: RunView) -> CandidateScore | None:
    """The candidate made of intervals that ships, or would."""
    return next((one for one in view.snapshot.candidates if one.name == view.verdict.chosen), None)


def _best_mark(view: RunView, look: PlotStyle, points: dict[float, float], shipped: float | None) -> tuple[Mark, ...]:
    """At the interval that ships, or at `shipped`, the y of a candidate made of it."""
    x = _ship(view, look)
    y = shipped if shipped is not None or x is None else points.get(x)
    if x is None or y is None:
        return ()
    return (Mark(x, float(y), look.star(ships=view.ships), "best" if view.ships else "muted"),)


def _set(interval: Interval, name: str) -> SetScore:
    return interval.domain if name == "domain" else interval.heldout
