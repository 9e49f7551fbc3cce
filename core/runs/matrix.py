"""The run matrix: every row of the plan and every earlier result, as values and as the cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.runs.figures import NONE, duration, from_to, points
from core.runs.health_text import health_facts
from core.runs.judged import Judged
from core.runs.origin import Fact, origin
from core.runs.position import Position, read_positions
from core.runs.snapshot import RunState
from core.scoring.counts import ErrorCounts
from core.scoring.data_health import DataHealth
from core.scoring.evidence import State, Verdict

CRITERIA = {
    "convergence": "Convergence",
    "stability": "Stability",
    "integrity": "Integrity",
    "domain_gain": "Domain gain",
    "heldout": "Heldout",
    "parity": "Parity",
}
HEADINGS = (
    "Experiment", "Settings", "Steps", "Domain WER %", "Gain, points", "Heldout WER %", "Change, points",
    *CRITERIA.values(), "Slices", "Verdict", "Duration", "Adapter", "Note",
)  # fmt: skip
_GOES_ON = frozenset({state.value for state in RunState if state.active} | {"queued", "waiting", "held"})
"""The words of the queue for a run that waits to be resumed are among them."""
_NOTE_LENGTH = 200
_HASH_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Findings:
    """A titled list of facts that every format of a report shows under the run."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One row. WER in percent; what is not known is None. Two rows may show the same run."""

    experiment: str
    title: str = ""
    settings: str = ""
    """The settings in which the rows of the plan differ (`differing_settings`)."""
    status: str = ""
    """The queue's word for the row (`core.queue.entries`), else the run's state; not run, skipped, history."""
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
    findings: tuple[Findings, ...] = ()
    """What else a reader must know of the run: a heading and its facts each, such as the health of the data."""
    seeds: tuple[int, int] | None = None
    """(k, n): k of the n repeats with other seeds that `gate.confirm_seeds` asks for were accepted."""
    data_health: DataHealth | None = None
    positions: tuple[Position, ...] = ()
    """What the order of the evaluation sets does to their WER."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known before its verdict is believed: every format shows it at its head."""
        return self.verdict.remarks if self.verdict is not None else ()


def run_row(
    experiment: str,
    settings: str,
    judged: Judged,
    *,
    title: str = "",
    note: str = "",
) -> MatrixRow:
    """The row of a run that was started. Without `note` it says why the run failed, or what it lacks."""
    snapshot, evidence, verdict = judged.snapshot, judged.evidence, judged.verdict
    positions, _ = read_positions(snapshot.paths)
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
        note=note or evidence.failure or first_reason(verdict),
        problems=judged.problems,
        evidence=origin(judged),
        findings=(Findings("Data health", health_facts(evidence, verdict, judged.thresholds, positions)),),
        data_health=evidence.data_health,
        positions=positions,
    )


def first_reason(verdict: Verdict) -> str:
    """Why it is not ACCEPTED: the reason of the first criterion that fails, else of the first that is unknown."""
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
    each = differing_values(all_settings)
    return tuple(", ".join(f"{name}={value}" for name, value in one.items()) for one in each)


def differing_values(all_settings: Sequence[Mapping[str, Any]], taken: Sequence[str] = ()) -> list[dict[str, str]]:
    """For each of the nested settings: name → value as text, of every key in which they are not all equal.

    `taken`: names that mean something else where these are shown; a key of that name is told with its section.
    """
    flat = [_flatten(settings) for settings in all_settings]
    keys = sorted({key for one in flat for key in one})
    differing = [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
    # The last part of a key is enough where nothing else has the same name.
    short = [key.rpartition(".")[2] for key in differing]
    alone = [name for name in short if short.count(name) == 1 and name not in taken]
    names = {key: name if name in alone else key for key, name in zip(differing, short, strict=True)}
    return [{names[k]: _value(one[k]) for k in differing if k in one} for one in flat]


def cells(row: MatrixRow) -> list[str]:
    """The row under HEADINGS, as text that is not escaped yet."""
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
        row.verdict.slices.value if row.verdict is not None and row.verdict.slices is not None else NONE,
        verdict_word(row),
        NONE if row.duration_s is None else duration(row.duration_s),
        (row.adapter_hash or NONE)[:_HASH_LENGTH],
        _shortened(row.note) or NONE,
    ]


def verdict_word(row: MatrixRow) -> str:
    """`accepted`, `rejected (diverged)`, `failed`, `training, so far undecided`; without a verdict just the state."""
    status = row.status.replace("_", " ")
    if row.verdict is None:
        return status or NONE
    word = row.verdict.word
    if row.seeds is not None:
        word += f", seeds {row.seeds[0]}/{row.seeds[1]}"
    if row.status in _GOES_ON:
        return f"{status}, so far {word}"
    return word if row.status in ("done", word) else f"{word} ({status})"


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
