"""The charts of a report as SVG text that needs no script, font or network. Pure: `lora_tui.output` writes the files.

Own code, because it is two kinds of line and an axis: matplotlib would add a second to a gate that answers in less,
and charts with both a light and a dark face are not what it draws.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

from core.sanitise import sanitise
from lora_tui.reports.curves import Chart, Line
from lora_tui.reports.report import Report

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 132, 46, 40
_LABEL_GAP = 14
Scale = Callable[[float], float]
"""A value → where it stands in the picture."""
STYLE = """\
.chart { background: #fff; color: #1f2328; font: 12px system-ui, sans-serif; }
.chart text { fill: currentColor; } .chart .bad { fill: #cf222e; font-weight: 700; }
.chart .title { font-weight: 600; font-size: 13px; }
.chart .grid { stroke: #8884; } .chart .axis { stroke: #888; }
.chart .best { stroke: #888; stroke-dasharray: 2 3; }
.chart .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .chart .thin { stroke-width: 1; }
.chart .l0 { stroke: #0969da; color: #0969da; } .chart .l1 { stroke: #bc4c00; color: #bc4c00; stroke-dasharray: 7 3; }
.chart .l2 { stroke: #8250df; color: #8250df; stroke-dasharray: 2 2; }
.chart .dot { fill: currentColor; stroke: none; stroke-dasharray: none; }
.chart .level { stroke: #57606a; stroke-dasharray: 5 4; } .chart .limit { stroke: #cf222e; stroke-dasharray: 10 3; }
@media (prefers-color-scheme: dark) {
  .chart { background: #0d1117; color: #e6edf3; }
  .chart .l0 { stroke: #58a6ff; color: #58a6ff; } .chart .l1 { stroke: #f0883e; color: #f0883e; }
  .chart .l2 { stroke: #bc8cff; color: #bc8cff; } .chart .level { stroke: #9198a1; } .chart .limit { stroke: #ff7b72; }
}
"""


def render(chart: Chart, label: str, *, standalone: bool = True) -> str:
    """The chart; `label` is what it is of, for those who cannot see it. A page that has STYLE asks for no own one."""
    low, high = _range(chart)
    last = max(max(step for step, _ in line.points) for line in chart.lines) or 1.0

    def x(step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    right = WIDTH - _RIGHT
    parts = [f'<text class="title" x="{_LEFT}" y="16">{_text(chart.title)}, {_text(chart.unit)}</text>']
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(0, last):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{_text(chart.x_name)}</text>'
    )
    bottom = HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    if chart.best_step is not None and 0 <= chart.best_step <= last:
        best = x(chart.best_step)
        parts.append(f'<line class="best" x1="{best:.1f}" x2="{best:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{best:.1f}" y="{_TOP - 4}" text-anchor="middle">best: step {chart.best_step}</text>')
    heights = _apart([y(level.value) for level in chart.levels])
    for index, (level, height) in enumerate(zip(chart.levels, heights, strict=True)):
        kind, at = "level" if index == 0 else "limit", y(level.value)
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{right + 6}" y="{height + 4:.1f}">{_text(level.name)} {level.value:.2f}</text>')
    for index, line in enumerate(chart.lines):
        parts += _line(line, f"l{index % 3}", x, y)
    parts += _legend(chart.lines) if len(chart.lines) > 1 else []
    name = _text(f"{label}: {chart.title}, {chart.unit}")
    style = f"<style>{STYLE}</style>" if standalone else ""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    space = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    return (
        f'<svg{space} class="chart" role="img" aria-label="{name}" {size}>{style}\n' + "\n".join(parts) + "\n</svg>\n"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from low to high, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _range(chart: Chart) -> tuple[float, float]:
    """The values to show, with a margin; never of no height, never below 0."""
    values = [value for line in chart.lines for _, value in line.points if value is not None]
    values += [level.value for level in chart.levels]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or max(0.5, abs(high) * 0.05)
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _line(line: Line, colour: str, x: Scale, y: Scale) -> list[str]:
    parts: list[str] = []
    for piece in _pieces(line):
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in piece)
        thin = "" if line.dots else " thin"
        parts.append(f'<polyline class="line {colour}{thin}" points="{points}"/>')
        if line.dots or len(piece) == 1:
            parts += [f'<circle class="{colour} dot" r="2.6" cx="{x(s):.1f}" cy="{y(v):.1f}"/>' for s, v in piece]
    broken = [step for step, value in line.points if value is None]
    parts += [
        f'<text class="bad" x="{x(s):.1f}" y="{HEIGHT - _BOTTOM - 2}" text-anchor="middle">×</text>' for s in broken
    ]
    return parts


def _pieces(line: Line) -> list[list[tuple[float, float]]]:
    """The line, broken where a value is not finite."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for step, value in line.points:
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((step, value))
    return [piece for piece in pieces if piece]


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, left = [], float(WIDTH - _RIGHT + 8)
    for index, line in enumerate(lines):
        height = _TOP + 8 + index * 18
        parts.append(f'<line class="line l{index % 3}" x1="{left}" x2="{left + 24}" y1="{height}" y2="{height}"/>')
        parts.append(f'<text x="{left + 30}" y="{height + 4}">{_text(line.name)}</text>')
    return parts


def _apart(heights: Sequence[float]) -> list[float]:
    """Where labels stand so that none covers another."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + _LABEL_GAP)
    return placed


def _text(text: str) -> str:
    return escape(sanitise(text, 200))


_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_MOST = 160
"""Characters of a run's name in a file's name, which may have 255 bytes with what is put around it."""


def files(report: Report) -> dict[tuple[str, str], tuple[str, str]]:
    """(run, key of the chart) → (file name, SVG text), of every run that has a section."""
    return {
        (row.run, chart.key): (f"{safe_name(row.run)}-{chart.key}.svg", render(chart, row.run))
        for row, same in report.sectioned()
        if row.run is not None and same is None
        for chart in row.charts
    }


def safe_name(run: str) -> str:
    """The run's name as a file name; one that had to be changed, or is long, gets a hash: no two are the same."""
    safe = _UNSAFE.sub("_", run)
    digest = hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return safe if safe == run and len(safe) <= _MOST else f"{safe[:80]}-{digest}"
