"""What GitHub Actions shows of a gate: a step summary, and annotations on the plan's lines. Text in, text out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from core.runs.headline import headline
from core.runs.row import Outcome
from core.sanitise import sanitise
from core.scoring.evidence import State
from lora_tui.reports.report import Report, ReportRow

SUMMARY_BYTES = 1_000_000
"""GitHub drops a summary of more than 1 MiB whole."""
ANNOTATIONS = 10
"""GitHub shows no more of a kind and step."""
MESSAGE_LENGTH = 1000
_LEVELS = {Outcome.REJECTED.value: "error", Outcome.UNDECIDED.value: "warning", Outcome.ACCEPTED.value: "notice"}


def workflow_commands(report: Report, plan: str, lines: Mapping[str, int | None]) -> list[str]:
    """Workflow commands, the gravest first. `plan`: its path in the repository; `lines`: experiment → line."""
    judged = [row for row in report.rows if row.outcome in _LEVELS]
    judged.sort(key=lambda row: list(_LEVELS).index(str(row.outcome)))
    shown = judged if len(judged) <= ANNOTATIONS else judged[: ANNOTATIONS - 1]
    found = [_command(row, plan, lines) for row in shown]
    if len(shown) < len(judged):
        found.append(f"::notice file={_property(plan)}::{len(judged) - len(shown)} more rows left out")
    return found


def path_in_repository(path: Path, repository: Path) -> str:
    """How GitHub calls a file of the checkout, without `..` and links; one that is elsewhere keeps its whole path."""
    written = Path(os.path.normpath(path.absolute()))
    for found, home in ((written, Path(os.path.normpath(repository))), (path.resolve(), repository.resolve())):
        if found.is_relative_to(home):
            return found.relative_to(home).as_posix()
    return str(written)


def _command(row: ReportRow, plan: str, lines: Mapping[str, int | None]) -> str:
    line = lines.get(row.line.key, lines.get(row.line.key.rpartition("#")[0]))
    where = f"file={_property(plan)}" + (f",line={line}" if line is not None else "")
    title = _property(f"{row.line.key}: {row.outcome}")
    reasons = []
    if row.line.verdict is not None:
        wrong = [c for c in row.line.verdict.criteria if c.state is not State.PASS]
        reasons = [f"{c.title}: {c.state.value}. {c.reason}" for c in wrong]
    stands = f"{headline(row.line).text}."
    message = " ".join([*row.line.remarks, stands, *(reasons or [row.line.note or "All criteria pass."])])
    return f"::{_LEVELS[str(row.outcome)]} {where},title={title}::{_data(message)}"


def _data(text: str) -> str:
    return sanitise(text, MESSAGE_LENGTH).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
