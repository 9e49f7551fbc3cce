"""How the lines of a screen are divided among the parts of the board. Pure."""

from __future__ import annotations

from dataclasses import dataclass

EMPHASES = ("balanced", "plots", "queue")
"""What gets the room: a share for each part, or as much as can be for one of them."""
SMALLEST = (30, 6)
"""Columns and lines below which only a sentence is shown."""
_CHROME = 3
"""Header, status line and footer."""
_VERDICT_SHORT, _VERDICT_LONG = 7, 15
_NARROW = 100
"""Columns below which the sentence of where a run stands takes two lines."""
_HEAD_LINES = 2
"""Of the verdict, where there is no room for its criteria."""
_PLOTS_LEAST = 7
_STACKED_FROM = 19
"""Lines of plots from which the two WER plots stand one above the other."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Heights in lines; 0 hides the part."""

    table: int
    plots: int
    verdict: int
    stacked: bool
    """Loss on the left, domain above heldout on the right; else all three side by side."""
    usable: bool = True


def share(width: int, height: int, rows: int, emphasis: str = EMPHASES[0]) -> Layout:
    """The layout for a screen of this size and a queue of `rows` rows.

    What is given up as the screen shrinks: reasons of the verdict, most rows of the queue, the plots, the verdict.
    """
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return Layout(0, 0, 0, False, usable=False)
    room = height - _CHROME
    if rows == 0:
        return Layout(room, 0, 0, False)  # what to do next is all there is to say
    if width < 60:
        return Layout(room - _HEAD_LINES, 0, _HEAD_LINES, False)
    verdict = _VERDICT_LONG if room >= 34 and emphasis == EMPHASES[0] else _VERDICT_SHORT
    verdict += width < _NARROW
    wanted = max(rows + 1, 2)
    table = min(wanted, {"plots": 4, "queue": max(5, room - verdict)}.get(emphasis, max(5, room // 4)))
    plots = room - table - verdict
    if plots < _PLOTS_LEAST and emphasis != "queue":
        table = min(wanted, max(3, room - verdict - _PLOTS_LEAST))
        plots = room - table - verdict
    if plots < _PLOTS_LEAST:
        plots = 0
        if room - verdict < 3:
            verdict = min(_HEAD_LINES, room - 1)
        table = room - verdict
    return Layout(table, plots, verdict, plots >= _STACKED_FROM)
