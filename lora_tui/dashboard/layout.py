"""How the lines of a screen are divided among the parts of the board. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
_BLOCK_FROM, _BLOCK_WIDE, _ROW_WIDE = 19, 110, 150
"""Lines of plots from which two stand one above the other; columns from which all four have room then, or else."""
_LOG_FROM, LOG_MOST = 22, 10
"""Lines of plots beyond which the log has lines of its own, and how many at most."""
_UPCOMING_FROM = 8
"""Lines for all parts from which there is one for what is started next."""
_FARTHEST = 60


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lines, or columns, that parts were given or lost by hand."""

    table: int = 0
    verdict: int = 0
    log: int = 0
    first: int = 0
    """Columns of the first plot."""

    def changed(self, part: str, by: int) -> Sizes:
        """One part larger or smaller."""
        return replace(self, **{part: min(max(-_FARTHEST, getattr(self, part) + by), _FARTHEST)})


@dataclass(frozen=True, slots=True)
class Layout:
    """Heights in lines; 0 hides the part."""

    table: int
    plots: int
    verdict: int
    log: int = 0
    """The end of the log, beside its line in the status line."""
    arrangement: str = "first"
    """How the plots stand: all four in a `row`, or in a `block` with domain above heldout; trade-off and loss `first`,
    or loss, domain and heldout (`rates`, `rates-block`), where there is no room for all."""
    upcoming: bool = False
    """Whether there is a line for what is started next."""
    usable: bool = True

    @property
    def whole(self) -> bool:
        """Whether all four plots are there."""
        return self.arrangement in ("row", "block")


def share(
    width: int,
    height: int,
    rows: int,
    emphasis: str = EMPHASES[0],
    *,
    more: int = 0,
    rates: bool = False,
    sizes: Sizes | None = None,
    log: int = LOG_MOST,
    upcoming: bool = False,
) -> Layout:
    """The layout for a screen of this size and a queue of `rows` rows, whose verdicts have `more` criteria than six.

    `rates`: rather the error rates' plots. `log`: lines that there are of the log. `upcoming`: whether it is known what
    is started next.

    What is given up as the screen shrinks: the log, reasons of the verdict, what is started next, most rows of the
    queue, the plots, the verdict.
    """
    sizes = sizes or Sizes()
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return Layout(0, 0, 0, usable=False)
    room = height - _CHROME
    # The last line that plots need is theirs.
    for_plots = 3 + _VERDICT_SHORT + more + (width < _NARROW) + _PLOTS_LEAST
    upcoming = upcoming and room >= _UPCOMING_FROM and room != for_plots
    room -= upcoming
    if rows == 0:
        return Layout(room, 0, 0, upcoming=upcoming)  # what to do next is all there is to say
    if width < 60:
        return Layout(room - _HEAD_LINES, 0, _HEAD_LINES, upcoming=upcoming)
    verdict = _VERDICT_LONG + 2 * more if room >= 34 and emphasis == EMPHASES[0] else _VERDICT_SHORT + more
    verdict += width < _NARROW
    verdict = max(1, min(verdict + sizes.verdict, max(verdict, room - 3)))
    wanted = max(rows + 1, 2)
    table = min(wanted, {"plots": 4, "queue": max(5, room - verdict)}.get(emphasis, max(5, room // 4)))
    table = max(2, table + sizes.table)
    plots = room - table - verdict
    if plots < _PLOTS_LEAST and emphasis != "queue":
        table = min(table, max(3, room - verdict - _PLOTS_LEAST))
        plots = room - table - verdict
    if plots < _PLOTS_LEAST:
        plots = 0
        if room - verdict < 3:
            verdict = min(_HEAD_LINES, room - 1)
        table = room - verdict
    of_itself = min(max(0, plots - _LOG_FROM), LOG_MOST, log if log > 1 else 0)
    log = min(max(0, of_itself + sizes.log), max(0, plots - _PLOTS_LEAST))
    plots -= log
    if plots >= _BLOCK_FROM:
        arrangement = "block" if width >= _BLOCK_WIDE else ("rates-block" if rates else "first")
    else:
        arrangement = "row" if width >= _ROW_WIDE else ("rates" if rates else "first")
    return Layout(table, plots, verdict, log, arrangement, upcoming)
