"""What GitHub Actions shows of a gate: a step summary, and annotations on the plan's lines. Text in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.queue.report import Outcome, RowReport
from core.sanitise import sanitise
from core.scoring.evidence import State

SUMMARY_BYTES = 1_000_000
"""GitHub drops a summary of more than 1 MiB whole."""
ANNOTATIONS = 10
"""GitHub shows no more of a kind and step."""
MESSAGE_LENGTH = 1000
_LEVELS = {Outcome.REJECTED: "error", Outcome.UNDECIDED: "warning", Outcome.ACCEPTED: "notice"}


def workflow_commands(reports: Sequence[RowReport], plan: str, lines: Mapping[str, int | None]) -> list[str]:
    """Workflow commands, the gravest first. `plan`: its path in the repository; `lines`: experiment → line."""
    judged = [item for item in reports if item.outcome in _LEVELS]
    judged.sort(key=lambda item: list(_LEVELS).index(item.outcome))
    shown = judged if len(judged) <= ANNOTATIONS else judged[: ANNOTATIONS - 1]
    found = [_command(item, plan, lines.get(item.row.experiment)) for item in shown]
    if len(shown) < len(judged):
        found.append(f"::notice file={_property(plan)}::{len(judged) - len(shown)} more rows left out")
    return found


def _command(item: RowReport, plan: str, line: int | None) -> str:
    where = f"file={_property(plan)}" + (f",line={line}" if line is not None else "")
    title = _property(f"{item.row.key}: {item.outcome.value}")
    reasons = []
    if item.verdict is not None:
        wrong = [c for c in item.verdict.criteria if c.state is not State.PASS]
        reasons = [f"{c.title}: {c.state.value}. {c.reason}" for c in wrong]
    message = " ".join(reasons) or item.matrix.note or "All criteria pass."
    return f"::{_LEVELS[item.outcome]} {where},title={title}::{_data(message)}"


def _data(text: str) -> str:
    return sanitise(text, MESSAGE_LENGTH).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
