"""The tables and the figure of a frontier."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.frontier.rows import Cell, Estimate, Row, Study, over_seeds

BEGIN, END = "<!-- tables: python -m benchmarks.frontier -->", "<!-- end of tables -->"
GUARDRAIL, ASKED = 0.2, 1.0
"""Points, as a gate has them that names none."""


def into_page(page: str, text: str) -> str:
    """`page` with `text` between its marker lines; at its end where it has none."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after or chr(10)}"


def tables(studies: Iterable[Study]) -> list[str]:
    """Markdown: of each study the settings over their seeds, then each run, then what was not run."""
    lines: list[str] = []
    for study in studies:
        lines += [f"### {study.title}", "", *_over_seeds(study), "", *_each_run(study), "", *_not_run(study), ""]
    return lines


def _over_seeds(study: Study) -> list[str]:
    ran = [cell for cell in study.cells if cell.ran]
    if not ran:
        return []
    first = ran[0].ran[0]
    return [
        f"Base model: {first.base_domain:.2f} % on domain, {first.base_heldout:.2f} % on heldout. Means over seeds "
        "with their 95 % interval (Student's t); *the end* is the last interval, as it was trained.",
        "",
        "| Setting | | Runs | Gain | Regression | Accepted | at 0.95 | The end: gain | regression |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_cell(cell) for cell in ran),
    ]


def _cell(cell: Cell) -> str:
    ran = cell.ran
    ends = [one.end for one in ran if one.end is not None]
    words = [
        f"`{cell.name}`",
        cell.title.replace("|", "/"),
        f"{len(ran)} of {len(cell.rows)}",
        _mean([one.gain.value for one in ran]),
        _mean([one.rise.value for one in ran]),
        f"{sum(one.outcome == 'accepted' for one in ran)} of {len(ran)}",
        f"{sum(one.sure.lower() == 'accepted' for one in ran)} of {len(ran)}",
        _mean([end[0] for end in ends]),
        _mean([end[1] for end in ends]),
    ]
    return f"| {' | '.join(words)} |"


def _mean(values: Sequence[float]) -> str:
    found = over_seeds(values)
    if found is None:
        return _signed(values[0]) if values else ""
    return _estimate(found)


def _estimate(one: Estimate) -> str:
    return f"{_signed(one.value)} [{_signed(one.low)}, {_signed(one.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _each_run(study: Study) -> list[str]:
    rows = [row for cell in study.cells for row in cell.rows if row.ran is not None]
    if not rows:
        return []
    return [
        "Each run, with the 95 % interval of its own sets (by speaker, as the gate has it):",
        "",
        "| Setting | Seed | Ships | Gain | Regression | P (gain) | P (guardrail) | Verdict | at 0.95 | "
        "In the way at 0.95 | Minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_run(row) for row in rows),
    ]


def _run(row: Row) -> str:
    ran = row.ran
    assert ran is not None
    words = [
        f"`{row.cell}`",
        f"{row.seed}",
        ran.chosen,
        _estimate(ran.gain),
        _estimate(ran.rise),
        *(f"{100 * probability:.1f} %" for probability in ran.meets),
        ran.outcome,
        ran.sure.lower(),
        "; ".join(ran.in_the_way),
        f"{ran.minutes:.1f}",
    ]
    return f"| {' | '.join(words)} |"


def _not_run(study: Study) -> list[str]:
    missing = {
        cell.name: [str(row.seed) for row in cell.rows if row.ran is None]
        for cell in study.cells
        if any(row.ran is None for row in cell.rows)
    }
    if not missing:
        return ["Every row was run."]
    told = ", ".join(
        f"`{name}` (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})" for name, seeds in missing.items()
    )
    return [f"**Not run:** {told}."]


_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 330, 60, 230, 34, 40
_COLOURS = (
    "#0969da",
    "#bc4c00",
    "#8250df",
    "#1a7f37",
    "#cf222e",
    "#6e7781",
    "#9a6700",
    "#bf3989",
    "#0a3069",
    "#4d2d00",
)


def draw(studies: Sequence[Study]) -> str:
    """An SVG figure, a panel for each study: gain to the right, regression upwards, a dot with its intervals a run."""
    shown = [study for study in studies if any(cell.ran for cell in study.cells)]
    parts = [part for number, study in enumerate(shown) for part in _panel(study, number * _PANEL)]
    height = max(1, len(shown)) * _PANEL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="Gain and regression of every run">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(study: Study, top: float) -> Iterable[str]:
    runs = [one for cell in study.cells for one in cell.ran]
    across = _span([0.0, ASKED, *(one.gain.value for one in runs)])
    up = _span([0.0, GUARDRAIL, *(one.rise.value for one in runs)])
    right, bottom = _WIDTH - _RIGHT, top + _PANEL - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (min(max(value, across[0]), across[1]) - across[0]) / (across[1] - across[0]) * (right - _LEFT)

    def y(value: float) -> float:
        kept = min(max(value, up[0]), up[1])
        return bottom - (kept - up[0]) / (up[1] - up[0]) * (bottom - top - _TOP)

    def text(at_x: float, at_y: float, words: str, more: str = "") -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" {more}>{escape(words)}</text>'

    def line(from_x: float, from_y: float, to_x: float, to_y: float, more: str) -> str:
        return f'<line x1="{from_x:.1f}" y1="{from_y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" {more}/>'

    yield text(_LEFT, top + 18, study.title, 'font-weight="600" font-size="13"')
    corner = f'x="{x(ASKED):.1f}" y="{y(GUARDRAIL):.1f}"'
    size = f'width="{right - x(ASKED):.1f}" height="{bottom - y(GUARDRAIL):.1f}"'
    yield f'<rect {corner} {size} fill="#1a7f3714"/>'
    for tick in _ticks(*across):
        yield line(x(tick), bottom, x(tick), bottom + 4, 'stroke="#888"')
        yield text(x(tick), bottom + 16, f"{tick:g}", 'text-anchor="middle"')
    for tick in _ticks(*up):
        yield line(_LEFT, y(tick), right, y(tick), 'stroke="#8883"')
        yield text(_LEFT - 6, y(tick) + 4, f"{tick:+g}".replace("-", "−"), 'text-anchor="end"')
    yield line(_LEFT, y(GUARDRAIL), right, y(GUARDRAIL), 'stroke="#cf222e" stroke-dasharray="8 3"')
    yield text(right, bottom + 30, "gain on domain, points", 'text-anchor="end"')
    yield text(_LEFT, top + 32, "regression on heldout, points; dashed: the guardrail; shaded: what the gate accepts")
    for number, cell in enumerate(cell for cell in study.cells if cell.ran):
        colour = _COLOURS[number % len(_COLOURS)]
        for one in cell.ran:
            at_x, at_y = x(one.gain.value), y(one.rise.value)
            yield line(x(one.gain.low), at_y, x(one.gain.high), at_y, f'stroke="{colour}66"')
            yield line(at_x, y(one.rise.low), at_x, y(one.rise.high), f'stroke="{colour}66"')
            yield f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="4" fill="{colour}"/>'
        down = top + _TOP + 10 + 16 * number
        yield f'<circle cx="{right + 16}" cy="{down - 4}" r="4" fill="{colour}"/>'
        yield text(right + 26, down, cell.name)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.15 * (high - low)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 8)
    return [round(step * n, 6) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
