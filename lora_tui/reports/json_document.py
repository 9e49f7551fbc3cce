"""The report as JSON: all of it, for programs. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from core.console import quiet
from core.runs.matrix import values
from core.runs.row import Row
from lora_tui.reports.csv_table import COLUMNS
from lora_tui.reports.report import Report, ReportRow

SCHEMA_VERSION = 1


def render(report: Report) -> str:
    """Never cut; what is not known is null. ASCII, and no line that a CI runner would take for a command."""
    return quiet(json.dumps(document(report), indent=1, allow_nan=False)) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The same as a value."""
    return {
        "schema": SCHEMA_VERSION,
        "exit_code": int(report.exit_code),
        "remarks": list(report.remarks()),
        "rows": [_row(row) for row in report.rows],
    }


def _row(row: ReportRow) -> dict[str, Any]:
    line = row.line
    verdict = line.verdict
    known = values(line)
    plain: dict[str, Any] = {name: known[name] for name in COLUMNS}
    plain |= {"remarks": list(line.remarks), "runs_judged": runs_judged(line)}
    plain |= {"problems": list(row.problems), "evidence": dict(row.evidence)}
    plain["findings"] = {findings.title: [list(fact) for fact in findings.facts] for findings in row.findings}
    health = None if line.judged is None else line.judged.evidence.data_health
    plain["data_health"] = None if health is None else asdict(health)
    plain["positions"] = [finite(asdict(position)) for position in row.positions]
    plain |= {"outcome": row.outcome, "folder": None if line.run is None else str(line.run.root)}
    plain["verdict"] = None if verdict is None else verdict.decision.value
    plain["best_step"] = None if verdict is None else verdict.best_step
    plain["candidate"] = None if verdict is None else verdict.chosen
    plain["criteria"] = [
        finite(asdict(criterion)) | {"state": criterion.state.value}
        for criterion in (() if verdict is None else verdict.criteria)
    ]
    plain["charts"] = {
        chart.key: {item.name: [list(point) for point in item.points] for item in chart.lines if item.dots}
        for chart in row.charts
    }
    plain["clips"] = [
        {"set": clip.dataset, "kind": clip.kind, "id": clip.id, "errors": list(clip.errors)}
        | {"aligned": [[cell for cell, _ in column] for column in clip.columns]}
        for clip in row.clips
    ]
    return plain


def runs_judged(line: Row) -> dict[str, Any] | None:
    """How many runs were judged on the row's sets, and how likely one at least was accepted by luck, by policy."""
    tried = line.tried
    return None if tried is None else {"runs": tried.runs, "reserve": tried.reserve, "by_luck": dict(tried.shown)}


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON has no word for, however deep."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
