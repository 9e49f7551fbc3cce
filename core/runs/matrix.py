"""The run matrix: every row of the plan and every earlier result as a table, and each verdict's reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.runs.evidence import Gathered
from core.runs.figures import NONE, duration, from_to, points
from core.runs.origin import Fact, origin
from core.runs.snapshot import RunSnapshot, RunState
from core.sanitise import escape_markdown, escape_markdown_cell
from core.scoring.certainty import sentence
from core.scoring.counts import ErrorCounts
from core.scoring.evidence import Criterion, State, Verdict

CRITERIA = {
    "convergence": "Convergence",
    "stability": "Stability",
    "integrity": "Integrity",
    "domain_gain": "Domain gain",
    "heldout": "Heldout",
    "parity": "Parity",
}
_HEADINGS = (
    "Experiment", "Settings", "Steps", "Domain WER %", "Gain, points", "Heldout WER %", "Change, points",
    *CRITERIA.values(), "Verdict", "Duration", "Adapter", "Note",
)  # fmt: skip
_ACTIVE = frozenset(state.value for state in RunState if state.active)
_NOTE_LENGTH = 200
_HASH_LENGTH = 12


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One row. WER in percent; what is not known is None. Two rows may show the same run."""

    experiment: str
    title: str = ""
    settings: str = ""
    """The settings in which the rows of the plan differ (`differing_settings`)."""
    status: str = ""
    """The run's state, or skipped, waiting, history."""
    run: str | None = None
    """Name of the run folder."""
    steps_completed: int | None = None
    steps_planned: int | None = None
    baseline_domain: float | None = None
    tuned_domain: float | None = None
    baseline_heldout: float | None = None
    tuned_heldout: float | None = None
    verdict: Verdict | None = None
    duration_s: float | None = None
    adapter_hash: str | None = None
    note: str = ""
    """The reason, where a run failed, was skipped, waits or is rejected; otherwise a remark."""
    problems: tuple[str, ...] = ()
    evidence: tuple[Fact, ...] = ()
    """What the verdict rests on."""


def run_row(
    experiment: str,
    settings: str,
    snapshot: RunSnapshot,
    gathered: Gathered,
    verdict: Verdict,
    *,
    title: str = "",
    note: str = "",
) -> MatrixRow:
    """The row of a run that was started. Without `note` it says why the run failed, or what it lacks."""
    evidence = gathered.evidence
    artifact = evidence.artifact
    return MatrixRow(
        experiment=experiment,
        title=title or snapshot.title,
        settings=settings,
        status=str(snapshot.state),
        run=snapshot.paths.name,
        steps_completed=snapshot.steps_completed,
        steps_planned=snapshot.steps_planned,
        baseline_domain=_percent(evidence.baseline_domain),
        tuned_domain=_percent(evidence.tuned_domain),
        baseline_heldout=_percent(evidence.baseline_heldout),
        tuned_heldout=_percent(evidence.tuned_heldout),
        verdict=verdict,
        duration_s=snapshot.duration_s if snapshot.attempts else None,
        adapter_hash=artifact.current_hash if artifact is not None else None,
        note=note or evidence.failure or _first_reason(verdict),
        problems=gathered.problems,
        evidence=origin(snapshot, snapshot.paths, gathered),
    )


def _first_reason(verdict: Verdict) -> str:
    for state in (State.FAIL, State.UNKNOWN):
        for criterion in verdict.criteria:
            if criterion.state is state:
                return criterion.reason
    return ""


def unrun_row(
    experiment: str, settings: str, status: str, reason: str, *, title: str = "", steps: int | None = None
) -> MatrixRow:
    """The row of an experiment without a run: skipped or waiting, and why."""
    return MatrixRow(experiment, title, settings, status, steps_planned=steps, note=reason)


def history_row(
    experiment: str,
    title: str = "",
    note: str = "",
    domain_wer: float | None = None,
    heldout_wer: float | None = None,
) -> MatrixRow:
    """The row of an earlier result made elsewhere, with the figures that there are."""
    return MatrixRow(experiment, title, status="history", tuned_domain=domain_wer, tuned_heldout=heldout_wer, note=note)


def differing_settings(all_settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """For each of the nested settings, `key=value` for every key in which they are not all equal."""
    flat = [_flatten(settings) for settings in all_settings]
    keys = sorted({key for one in flat for key in one})
    differing = [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
    # The last part of a key is enough where no other section has the same one.
    short = [key.rpartition(".")[2] for key in differing]
    names = {key: name if short.count(name) == 1 else key for key, name in zip(differing, short, strict=True)}
    return tuple(", ".join(f"{names[k]}={_value(one[k])}" for k in differing if k in one) for one in flat)


def render_markdown(
    rows: Sequence[MatrixRow], heading: str = "Run matrix", preamble: str = "", left_out: int = 0
) -> str:
    """The matrix as GitHub Markdown: a table, then for each run the sentences of its criteria.

    `heading` and `preamble` are escaped like everything else. The same rows give the same text. `left_out`: rows that
    are not among them, for want of room.
    """
    lines = [f"# {escape_markdown(heading)}", ""]
    if preamble:
        lines += [escape_markdown(preamble), ""]
    lines += [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    lines += [_line(escape_markdown_cell(cell) for cell in _cells(row)) for row in rows]
    if not rows:
        lines += ["", "No experiments."]
    if left_out:
        lines += ["", f"{left_out} rows left out."]
    shown: dict[str, str] = {}
    for row in rows:
        if row.verdict is not None:
            lines += ["", *_section(row, row.verdict, shown)]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: MatrixRow) -> list[str]:
    states = {c.name: c.state.value for c in row.verdict.criteria} if row.verdict is not None else {}
    name = f"{row.experiment} {row.title}".strip()
    return [
        name,
        row.settings or NONE,
        _steps(row),
        from_to(row.baseline_domain, row.tuned_domain),
        points(row.tuned_domain, row.baseline_domain),
        from_to(row.baseline_heldout, row.tuned_heldout),
        points(row.baseline_heldout, row.tuned_heldout),
        *(states.get(criterion, NONE) for criterion in CRITERIA),
        verdict_word(row),
        NONE if row.duration_s is None else duration(row.duration_s),
        (row.adapter_hash or NONE)[:_HASH_LENGTH],
        _shortened(row.note) or NONE,
    ]


def verdict_word(row: MatrixRow) -> str:
    """`accepted`, `rejected (diverged)`, `training, so far undecided`; without a verdict just the state."""
    status = row.status.replace("_", " ")
    if row.verdict is None:
        return status or NONE
    word = row.verdict.decision.value
    if row.status in _ACTIVE:
        return f"{status}, so far {word}"
    return word if row.status == "done" else f"{word} ({status})"


def _section(row: MatrixRow, verdict: Verdict, shown: dict[str, str]) -> list[str]:
    name = escape_markdown(f"{row.experiment} {row.title}".strip())
    lines = [f"## {name}", ""]
    if row.run is not None and row.run in shown:
        return [*lines, f"The same run as {shown[row.run]}: {escape_markdown(row.run)}."]
    if row.run is not None:
        shown[row.run] = escape_markdown(row.experiment)
        lines += [f"Run {escape_markdown(row.run)}: **{escape_markdown(verdict_word(row))}**.", ""]
    if row.note and all(row.note != criterion.reason for criterion in verdict.criteria):
        lines += [escape_markdown(row.note), ""]
    lines += [_sentence(criterion) for criterion in verdict.criteria]
    lines += [f"- Problem: {escape_markdown(problem)}" for problem in row.problems]
    if row.evidence:
        lines += ["", "Evidence:", ""]
        lines += [f"- {escape_markdown(name)}: {escape_markdown(value)}" for name, value in row.evidence]
    return lines


def _sentence(criterion: Criterion) -> str:
    state = f"**{criterion.state.value}**" if criterion.state is not State.PASS else criterion.state.value
    line = f"- {escape_markdown(criterion.title)}: {state}. {escape_markdown(criterion.reason)}"
    if criterion.certainty is None:
        return line
    return f"{line}\n  - {escape_markdown(sentence(criterion.certainty, criterion.name))}"


def _percent(counts: ErrorCounts | None) -> float | None:
    return None if counts is None else counts.wer_percent


def _steps(row: MatrixRow) -> str:
    if row.steps_completed is None or row.steps_completed == row.steps_planned:
        return NONE if row.steps_planned is None else str(row.steps_planned)
    return f"{row.steps_completed} of {row.steps_planned if row.steps_planned else '?'}"


def _shortened(note: str) -> str:
    return note if len(note) <= _NOTE_LENGTH else note[: _NOTE_LENGTH - 1] + "…"


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
