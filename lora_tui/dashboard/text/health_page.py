"""The data page of a run: sizes, leakage, lucky averages with the running WER, parity. Pure: a view in, lines out."""

from __future__ import annotations

import numpy as np

from core.runs.health_text import health_facts
from core.runs.position import Position
from core.sanitise import sanitise
from lora_tui.cells import Pieces, broken, cropped, padded
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import Curve, Level, Plot
from lora_tui.dashboard.plots.series import Floats
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.text.verdict_lines import health_pieces

PLOT_HEIGHT = 14
_NAME = 24


def health_lines(view: RunView, width: int, *, ascii_only: bool) -> list[Pieces]:
    """The whole page at `width` cells: the headline, the plots of the running WER, then every fact, folded."""
    (mark, role), (title, _), (told, _) = health_pieces(view)
    lines: list[Pieces] = [[(mark, role)], *_folded(title, told, width, ""), []]
    shown = [p for p in view.positions if p.score == "tuned"] or list(view.positions)
    for position in shown:
        lines += [list(line) for line in draw(running_plot(position), width, PLOT_HEIGHT, ascii_only=ascii_only)]
        lines.append([])
    health = view.judged.evidence.data_health
    leaky = health is not None and bool(health.leaks)
    facts = health_facts(view.judged.evidence, view.verdict, view.thresholds, view.positions)
    for name, value in facts:
        role = "fail" if name == "Leakage" and leaky else ""
        role = "unknown" if "POSITION EFFECT" in value else role
        lines += _folded(sanitise(name, 60), sanitise(value), width, role)
    if not shown:
        missing = "No running WER yet: it is drawn from evals/position.json, once the base model is scored."
        lines += [[], [(missing, "muted")]]
    return lines


def running_plot(position: Position) -> Plot:
    """The WER of the first n clips, between the bounds that 95 of 100 shuffled orders keep to."""
    first = position.drawn_from
    xs = np.array(position.at[first:], np.float64)

    def curve(label: str, role: str, values: tuple[float, ...], *, dots: bool = False) -> Curve:
        ys: Floats = np.array(values[first:], np.float64)
        return Curve(label, role, xs, ys, dots=dots, legend=not dots, unit_digits=2)

    curves = (
        curve("low", "raw", position.low, dots=True),
        curve("high", "raw", position.high, dots=True),
        curve("", position.dataset, position.running),
    )
    effect = ", POSITION EFFECT" if position.effect else ""
    title = f"running {position.dataset} WER %, {position.score}{effect} (dots: 95 % of shuffled orders)"
    return Plot(title, curves, (Level(position.wer, "all", "line-base"),), x_name="clips")


def _folded(name: str, value: str, width: int, role: str) -> list[Pieces]:
    """A fact over as many lines as it takes."""
    return broken([(padded(cropped(name, _NAME - 1), _NAME), "muted"), (value, role)], width)
