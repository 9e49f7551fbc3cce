"""Owns stdout: data for pipes and files. Talk goes to stderr (`lora_tui.diagnostics`)."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.errors import ExitCode, UserError
from core.queue.report import RowReport
from core.runs.files import write_text
from core.runs.matrix import MatrixRow, render_markdown, verdict_word
from core.sanitise import sanitise
from lora_tui import github_actions, html_page, junit_xml

SCHEMA_VERSION = 1
EXPORT_BYTES = 8_000_000
"""Largest export: what does not open is no report. JSON and CSV are for programs and never cut."""
FORMATS = (".md", ".csv", ".json", ".xml", ".html")
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
        if suffix not in FORMATS:
            raise UserError(f"--export {path}: the name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        if not path.absolute().parent.is_dir():
            raise UserError(f"--export {path}: no such folder: create {path.absolute().parent}")


def export(path: Path, rows: Sequence[MatrixRow], reports: Sequence[RowReport], code: ExitCode) -> None:
    """Write the run matrix in the format of the name's ending. UserError when it cannot be written."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        text = as_json(rows, reports, code)
    elif suffix == ".csv":
        text = as_csv(rows)
    else:
        text = within(
            EXPORT_BYTES, rows, {".md": _markdown, ".xml": junit_xml.render, ".html": html_page.render}[suffix]
        )
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--export {path}: cannot be written: {error.strerror}") from error


def within(limit: int, rows: Sequence[MatrixRow], render: Callable[[Sequence[MatrixRow], int], str]) -> str:
    """The rendered rows in at most `limit` bytes: the last rows are left out, and the text says how many."""
    kept = len(rows)
    text = render(rows, 0)
    while kept and (size := len(text.encode("utf-8", "replace"))) > limit:
        kept = min(kept - 1, int(kept * limit / size))
        text = render(rows[:kept], len(rows) - kept)
    return text


def step_summary(rows: Sequence[MatrixRow]) -> str | None:
    """Append the run matrix to GitHub's step summary, where there is one; what was wrong, or None."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    text = within(github_actions.SUMMARY_BYTES, rows, _markdown)
    try:
        with Path(path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        return f"the step summary {path} cannot be written: {error.strerror}"
    return None


def _markdown(rows: Sequence[MatrixRow], left_out: int) -> str:
    return render_markdown(rows, left_out=left_out)


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
    plain = {name: getattr(row, name) for name in _COLUMNS}
    plain |= {"problems": list(row.problems), "evidence": dict(row.evidence)}
    plain["outcome"] = None if report is None else report.outcome.value
    plain["folder"] = None if report is None or report.run is None else str(report.run.root)
    verdict = row.verdict
    plain["verdict"] = None if verdict is None else verdict.decision.value
    plain["best_step"] = None if verdict is None else verdict.best_step
    plain["criteria"] = [
        finite(asdict(criterion)) | {"state": criterion.state.value}
        for criterion in (() if verdict is None else verdict.criteria)
    ]
    return plain


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON has no word for, however deep."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
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
