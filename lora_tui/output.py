"""Owns stdout: data for pipes and files. Talk goes to stderr (`lora_tui.diagnostics`)."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.errors import ExitCode, UserError
from core.queue.report import RowReport
from core.runs.files import write_text
from core.runs.matrix import MatrixRow, render_markdown, verdict_word
from core.sanitise import sanitise

SCHEMA_VERSION = 1
LATER = (".xml", ".html")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = (
    "experiment", "title", "settings", "status", "run", "steps_completed", "steps_planned", "baseline_domain",
    "tuned_domain", "baseline_heldout", "tuned_heldout", "duration_s", "adapter_hash", "note",
)  # fmt: skip


def write(text: str) -> None:
    """Data to stdout. A reader that closed the pipe early (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_exports(paths: Sequence[Path]) -> None:
    """UserError for a format that cannot be written: said before anything is trained."""
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in LATER:
            raise UserError(f"--export {path}: {suffix} is not available in this version: use .md, .csv or .json")
        if suffix not in (".md", ".csv", ".json"):
            raise UserError(f"--export {path}: the name must end in .md, .csv or .json")
        if not path.absolute().parent.is_dir():
            raise UserError(f"--export {path}: no such folder: create {path.absolute().parent}")


def export(path: Path, rows: Sequence[MatrixRow], reports: Sequence[RowReport], code: ExitCode) -> None:
    """Write the run matrix in the format of the name's ending. UserError when it cannot be written."""
    texts = {".md": markdown, ".csv": as_csv}
    suffix = path.suffix.lower()
    text = as_json(rows, reports, code) if suffix == ".json" else texts[suffix](rows)
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--export {path}: cannot be written: {error.strerror}") from error


def markdown(rows: Sequence[MatrixRow]) -> str:
    """The run matrix for people."""
    return render_markdown(rows)


def as_json(rows: Sequence[MatrixRow], reports: Sequence[RowReport], code: ExitCode) -> str:
    """The run matrix with every criterion, and the exit code. What is not known is null."""
    outcomes = {id(report.matrix): report for report in reports}
    document = {
        "schema": SCHEMA_VERSION,
        "exit_code": int(code),
        "rows": [_json_row(row, outcomes.get(id(row))) for row in rows],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _json_row(row: MatrixRow, report: RowReport | None) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in _COLUMNS} | {"problems": list(row.problems)}
    plain["outcome"] = None if report is None else report.outcome.value
    plain["folder"] = None if report is None or report.run is None else str(report.run.root)
    verdict = row.verdict
    plain["verdict"] = None if verdict is None else verdict.decision.value
    plain["best_step"] = None if verdict is None else verdict.best_step
    plain["criteria"] = [
        {name: _finite(value) for name, value in asdict(criterion).items()} | {"state": criterion.state.value}
        for criterion in (() if verdict is None else verdict.criteria)
    ]
    return plain


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(rows: Sequence[MatrixRow]) -> str:
    """One line a row. No cell can be taken for a formula by a spreadsheet."""
    criteria = list(dict.fromkeys(c.name for row in rows if row.verdict for c in row.verdict.criteria))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *criteria, "verdict"])
    for row in rows:
        states = {c.name: c.state.value for c in row.verdict.criteria} if row.verdict else {}
        cells = [getattr(row, name) for name in _COLUMNS]
        writer.writerow([_cell(c) for c in [*cells, *(states.get(name) for name in criteria), verdict_word(row)]])
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = sanitise(value)
    return f"'{text}" if value.startswith(_FORMULA) else text
