"""How the dashboard was left: theme, layout, filter, sorting, ways of drawing. One file for each runs folder.

It is a convenience: a file that is missing, torn or from another version never stops anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from core.system.files import read_json, write_json
from lora_tui.dashboard.layout import EMPHASES
from lora_tui.dashboard.plots.view import SMOOTHING, STRIPS, PlotStyle
from lora_tui.dashboard.themes import DEFAULT, ROLES

_LONGEST, _FARTHEST = 200, 60


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of a dashboard that was closed."""

    theme: str = DEFAULT
    emphasis: str = EMPHASES[0]
    filter: str = ""
    smoothing: int = PlotStyle().smoothing
    by_time: bool = False
    strips: str = PlotStyle().strips
    rates: bool = False
    """The error rates' plots rather than the trade-off, where there is no room for both."""
    table_lines: int = 0
    verdict_lines: int = 0
    log_lines: int = 0
    first_columns: int = 0
    """What parts of the screen were given or lost by hand (`layout.Sizes`)."""
    log_y: bool = False
    sort: str = ""
    """Heading of the matrix's column; empty: the plan's order."""
    descending: bool = False
    order: str = ""
    """Heading by which the board is sorted; empty: the plan's order."""
    falling: bool = False


def read_memory(path: Path) -> Memory:
    """What is good of the file; the rest is as on the first day. Never raises."""
    document, _ = read_json(path)
    default = Memory()
    good: dict[str, object] = {}
    for spec in fields(Memory):
        value = (document or {}).get(spec.name)
        if type(value) is type(getattr(default, spec.name)) and _fits(spec.name, value):
            good[spec.name] = value
    return Memory(**good)  # type: ignore[arg-type]


def write_memory(path: Path, memory: Memory) -> None:
    """Keep it, where there is a folder for it already. Never raises."""
    if path.parent.is_dir():
        try:
            write_json(path, asdict(memory))
        except OSError:
            return


def _fits(name: str, value: object) -> bool:
    choices: dict[str, object] = {"theme": ROLES, "emphasis": EMPHASES, "smoothing": SMOOTHING, "strips": STRIPS}
    if name in choices:
        return value in choices[name]  # type: ignore[operator]
    if type(value) is int:
        return abs(value) <= _FARTHEST
    return not isinstance(value, str) or (len(value) <= _LONGEST and value.isprintable())
