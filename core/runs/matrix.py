"""The run matrix: every row of the plan and every earlier result, as values and as the cells of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.plan.schema import HistoryRow
from core.runs.headline import headline, verdict_of
from core.runs.row import NONE, Figures, Row, Wer, duration, from_to, points, rate_of
from core.runs.status import Status
from core.scoring.units import Unit

CRITERIA = {
    "convergence": "Convergence",
    "stability": "Stability",
    "integrity": "Integrity",
    "domain_gain": "Domain",
    "heldout": "Heldout",
    "parity": "Parity",
}
_PERMISSION = "train.allow_high_learning_rate"
"""No setting by which runs are told apart: the learning rate that it permits is shown."""
_HEADLINE_LENGTH = 200
_HASH_LENGTH = 12
_MORE_CRITERIA = {"runtime": "Runtime", "reserve": "Reserve"}


def criteria_of(rows: Iterable[Row]) -> dict[str, str]:
    """The criteria that have a column, and its heading: runtime and reserve only where a row has one."""
    there = {name for row in rows for name, _ in row.figures.criteria}
    return CRITERIA | {name: title for name, title in _MORE_CRITERIA.items() if name in there}


def headings(rows: Sequence[Row]) -> tuple[str, ...]:
    """What stands over the cells of these rows."""
    rate = rate_of(rows)
    return (
        "Experiment", "Settings", "Steps", f"Domain {rate} %", "Domain change", f"Heldout {rate} %", "Heldout change",
        *criteria_of(rows).values(), "Slices", "Verdict", "Duration", "Adapter", "Where it stands",
    )  # fmt: skip


def history_row(number: int, entry: HistoryRow, unit: Unit) -> Row:
    """The row of an earlier result made elsewhere, with the figures that there are."""
    domain, heldout = (Wer(tuned=wer, now=wer) for wer in (entry.domain_wer, entry.heldout_wer))
    figures = Figures(domain=domain, heldout=heldout, unit=unit)
    return Row(
        f"history:{number}", entry.id, Status.HISTORY, entry.note, title=entry.title, planned=False, figures=figures
    )


def differing_settings(all_settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """For each of the nested settings, `key=value` for every key in which they are not all equal."""
    each = differing_values(all_settings)
    return tuple(", ".join(f"{name}={value}" for name, value in one.items()) for one in each)


def differing_values(all_settings: Sequence[Mapping[str, Any]], taken: Sequence[str] = ()) -> list[dict[str, str]]:
    """For each of the nested settings: name → value as text, of every key in which they are not all equal.

    `taken`: names that mean something else where these are shown; a key of that name is told with its section.
    """
    flat = [_flatten(settings) for settings in all_settings]
    keys = sorted({key for one in flat for key in one} - {_PERMISSION})
    differing = [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
    # The last part of a key is enough where nothing else has the same name.
    short = [key.rpartition(".")[2] for key in differing]
    alone = [name for name in short if short.count(name) == 1 and name not in taken]
    names = {key: name if name in alone else key for key, name in zip(differing, short, strict=True)}
    return [{names[k]: _value(one[k]) for k in differing if k in one} for one in flat]


def cells(row: Row, criteria: Iterable[str] = tuple(CRITERIA)) -> list[str]:
    """The row under `headings`, as text that is not escaped yet. `criteria`: those that have a column."""
    states = {c.name: c.state.value for c in row.verdict.criteria} if row.verdict is not None else {}
    figures = row.figures
    return [
        row.name,
        row.settings or NONE,
        _steps(figures),
        from_to(figures.domain.baseline, figures.domain.tuned),
        points(_rise(figures.domain)),
        from_to(figures.heldout.baseline, figures.heldout.tuned),
        points(_rise(figures.heldout)),
        *(states.get(criterion, NONE) for criterion in criteria),
        row.verdict.slices.value if row.verdict is not None and row.verdict.slices is not None else NONE,
        verdict_word(row),
        NONE if figures.duration_s is None else duration(figures.duration_s),
        (figures.adapter_hash or NONE)[:_HASH_LENGTH],
        _shortened(headline(row).text),
    ]


def values(row: Row) -> dict[str, str | int | float | None]:
    """The row for programs: what is known of it under the names of the CSV table."""
    figures = row.figures
    return {
        "experiment": row.key,
        "title": row.title,
        "settings": row.settings,
        "status": row.status.value,
        "run": None if row.run is None else row.run.name,
        "steps_completed": figures.steps,
        "steps_planned": figures.steps_planned,
        "baseline_domain": figures.domain.baseline,
        "tuned_domain": figures.domain.tuned,
        "baseline_heldout": figures.heldout.baseline,
        "tuned_heldout": figures.heldout.tuned,
        "rate": None if figures.unit is None else figures.unit.rate,
        "duration_s": figures.duration_s,
        "adapter_hash": figures.adapter_hash,
        "note": row.note,
        "headline": headline(row).text,
    }


def verdict_word(row: Row) -> str:
    """`accepted`, `rejected (diverged)`, `failed`, `training, on course`; without a verdict just the state."""
    status = row.status.text
    if row.verdict is None:
        return status
    word = verdict_of(row) or row.verdict.word if row.seeds is None else row.verdict.word
    if row.seeds is not None:
        word += f", seeds {row.seeds[0]}/{row.seeds[1]}"
    if row.goes_on:
        return f"{status}, {word}"
    return word if row.status.value in ("done", word) else f"{word} ({status})"


def _rise(wer: Wer) -> float | None:
    """By the tuned score alone: the matrix shows no guess."""
    return None if wer.tuned is None else wer.change


def _steps(figures: Figures) -> str:
    if figures.steps is None or figures.steps == figures.steps_planned:
        return NONE if figures.steps_planned is None else str(figures.steps_planned)
    return f"{figures.steps} of {figures.steps_planned if figures.steps_planned else '?'}"


def _shortened(text: str) -> str:
    return text if len(text) <= _HEADLINE_LENGTH else text[: _HEADLINE_LENGTH - 1] + "…"


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
