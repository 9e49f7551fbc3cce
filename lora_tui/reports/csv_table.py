"""The report as CSV: one line a row. Pure."""

from __future__ import annotations

import csv
import io

from core.runs.matrix import values, verdict_word
from core.sanitise import sanitise
from lora_tui.reports.report import Report

COLUMNS = (
    "experiment", "title", "settings", "status", "run", "steps_completed", "steps_planned", "baseline_domain",
    "tuned_domain", "baseline_heldout", "tuned_heldout", "rate", "duration_s", "adapter_hash", "note", "headline",
)  # fmt: skip
_DECIMALS = 6
"""An error rate of a million words has no more; JSON has every digit."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""A spreadsheet takes what begins so for a formula, and runs it."""


def render(report: Report) -> str:
    """Every row, never cut. No cell can be taken for a formula by a spreadsheet."""
    lines = [row.line for row in report.rows]
    criteria = list(dict.fromkeys(c.name for line in lines if line.verdict for c in line.verdict.criteria))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *map(_cell, criteria), "verdict", "remarks"])
    for line in lines:
        states = {c.name: c.state.value for c in line.verdict.criteria} if line.verdict else {}
        known = values(line)
        cells: list[object] = [known[name] for name in COLUMNS]
        cells += [*(states.get(name) for name in criteria), verdict_word(line), " ".join(line.remarks)]
        writer.writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if not isinstance(value, str):
        return value
    text = sanitise(value)
    return f"'{text}" if value.lstrip(" ").startswith(_FORMULA) else text
