"""The trade-off as a picture: how each interval changes domain and heldout, and what may ship. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from core.runs.judged import Judged
from core.runs.row import Outcome, Row
from core.runs.run_figures import change
from core.sanitise import sanitise
from core.scoring.certainty import Certainty
from core.scoring.signs import MINUS
from lora_tui.reports.report import Report
from lora_tui.reports.svg import Scale, ticks

WIDTH, HEIGHT = 880, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 34, 44
MOST = 6
"""Runs in one picture; those that were accepted come first."""
STYLE = """\
.chart .ship { fill: #1a7f3722; stroke: #1a7f37; stroke-dasharray: 4 3; } .chart .zero { stroke: #8888; }
.chart .cross { stroke-width: 1.2; opacity: .7; } .chart .ring { fill: none; stroke-width: 2; }
.chart .best { stroke: currentColor; stroke-dasharray: none; }
"""


@dataclass(frozen=True, slots=True)
class _Run:
    name: str
    points: Sequence[tuple[int, float, float]]
    """(step, domain gain, heldout rise), in points, in the order of training."""
    best: tuple[str, float, float] | None
    """Name, gain and rise of the best interval, or of the candidate that was made of intervals and chosen."""
    ships: bool
    certainty: tuple[Certainty, Certainty] | None
    """Of the gain and of the rise of the best one."""


def render(report: Report) -> str:
    """The picture, or nothing where no run was scored."""
    found: dict[str, Row] = {}
    for row in report.rows:
        if row.run is not None and row.line.judged is not None:
            found.setdefault(row.run, row.line)
    lines = sorted(found.values(), key=lambda line: line.outcome.value != "accepted")
    runs = [one for line in lines if line.judged is not None and (one := _run(line, line.judged)).points][:MOST]
    if not runs or lines[0].judged is None:
        return ""
    thresholds = lines[0].judged.thresholds
    gain, allowed = thresholds.domain_gain_pp, thresholds.heldout_regression_pp
    shown = [point[1:] for one in runs for point in (*one.points, *([one.best] if one.best is not None else []))]
    xs, ys = [0.0, gain, *(x for x, _ in shown)], [0.0, allowed, *(y for _, y in shown)]
    low_x, high_x, low_y, high_y = *_wider(xs), *_wider(ys)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (min(max(value, low_x), high_x) - low_x) / (high_x - low_x)

    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (min(max(value, low_y), high_y) - low_y) / (high_y - low_y)

    rate = escape(thresholds.unit.rate)
    parts = [f'<text class="title" x="{_LEFT}" y="16">Domain change against heldout change, points of {rate}</text>']
    for tick in ticks(low_x, high_x):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{_signed(-tick)}</text>')
    for tick in ticks(low_y, high_y):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_signed(tick)}</text>')
    parts.append(
        f'<rect class="ship" x="{x(gain):.1f}" y="{y(allowed):.1f}" width="{max(0.0, right - x(gain)):.1f}" '
        f'height="{max(0.0, bottom - y(allowed)):.1f}"/>'
    )
    may = f"may ship: domain ≤ {_signed(-gain)}, heldout ≤ {_signed(allowed)}"
    parts.append(f'<text x="{right - 6}" y="{bottom - 8}" text-anchor="end">{may}</text>')
    parts.append(f'<line class="zero" x1="{_LEFT}" x2="{right}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    middle = f'x="{(_LEFT + right) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle"'
    parts.append(f"<text {middle}>domain change (fewer errors to the right)</text>")
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 4}">heldout change (fewer errors below)</text>')
    for number, one in enumerate(runs):
        colour = f"l{number % 3}"
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for _, a, b in ((0, 0.0, 0.0), *one.points))
        parts.append(f'<polyline class="line thin {colour}" points="{points}"/>')
        for _, a, b in one.points:
            parts.append(f'<circle class="{colour} dot" r="3" cx="{x(a):.1f}" cy="{y(b):.1f}"/>')
        if one.best is not None:
            told, a, b = one.best
            parts += _cross(one.certainty, x, y, (a, b), colour) if one.certainty is not None else []
            # What does not ship is a ring.
            kind = "dot" if one.ships else "ring"
            parts.append(f'<circle class="{colour} {kind}" r="6" cx="{x(a):.1f}" cy="{y(b):.1f}"/>')
            name = escape(sanitise(f"{one.name} {told}{'' if one.ships else ', does not ship'}", 80))
            end, left = ("end", -10) if x(a) > right - 220 else ("start", 10)
            at = f'x="{x(a) + left:.1f}" y="{y(b) - 8:.1f}" text-anchor="{end}"'
            parts.append(f'<text class="{colour}" {at}>{name}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    label = f"Domain change against heldout change of {len(runs)} runs"
    return f'<svg class="chart" role="img" aria-label="{label}" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


def _run(line: Row, judged: Judged) -> _Run:
    intervals = judged.snapshot.intervals
    base = next((one for one in intervals if one.step == 0), None)
    points = []
    for one in intervals:
        gain = None if base is None else change(base.domain.counts, one.domain.counts)
        rise = None if base is None else change(base.heldout.counts, one.heldout.counts)
        if one.step and gain is not None and rise is not None:
            points.append((one.step, -gain, rise))
    sure, verdict = judged.evidence.significance, judged.verdict
    best = next(((f"step {step}", x, y) for step, x, y in points if step == verdict.best_step), None)
    made = next((one for one in judged.snapshot.candidates if one.name == verdict.chosen), None)
    if made is not None and base is not None and made.domain is not None and made.heldout is not None:
        gain, rise = change(base.domain.counts, made.domain.counts), change(base.heldout.counts, made.heldout.counts)
        best = None if gain is None or rise is None else (made.name, -gain, rise)
    ships = line.outcome is Outcome.ACCEPTED
    return _Run(line.key, points, best, ships, None if sure is None else (sure.domain, sure.heldout))


def _signed(tick: float) -> str:
    return f"{tick + 0.0:+g}".replace("-", MINUS)


def _cross(
    certainty: tuple[Certainty, Certainty], x: Scale, y: Scale, at: tuple[float, float], colour: str
) -> Iterator[str]:
    """The 95 % intervals of both, through the point `at`."""
    gain, rise = certainty
    low, high = f"{x(gain.low_pp):.1f}", f"{x(gain.high_pp):.1f}"
    yield f'<line class="cross {colour}" x1="{low}" x2="{high}" y1="{y(at[1]):.1f}" y2="{y(at[1]):.1f}"/>'
    low, high = f"{y(rise.low_pp):.1f}", f"{y(rise.high_pp):.1f}"
    yield f'<line class="cross {colour}" x1="{x(at[0]):.1f}" x2="{x(at[0]):.1f}" y1="{low}" y2="{high}"/>'


def _wider(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin
