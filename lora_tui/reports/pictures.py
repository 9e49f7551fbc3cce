"""The charts of a report as files beside it. Pure: names and texts; `lora_tui.output` writes them."""

from __future__ import annotations

import hashlib
import re

from lora_tui.reports import svg
from lora_tui.reports.report import Report

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_MOST = 160
"""Characters of a run's name in a file's name, which may have 255 bytes with what is put around it."""


def files(report: Report) -> dict[tuple[str, str], tuple[str, str]]:
    """(run, key of the chart) → (file name, SVG text), of every run that has a section."""
    return {
        (row.line.run, chart.key): (f"{safe_name(row.line.run)}-{chart.key}.svg", svg.render(chart, row.line.run))
        for row, same in report.sectioned()
        if row.line.run is not None and same is None
        for chart in row.charts
    }


def safe_name(run: str) -> str:
    """The run's name as a file name; one that had to be changed, or is long, gets a hash: no two are the same."""
    safe = _UNSAFE.sub("_", run)
    digest = hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return safe if safe == run and len(safe) <= _MOST else f"{safe[:80]}-{digest}"
