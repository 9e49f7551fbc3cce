"""The filter line: `id:2 lr>=1e-4 verdict:rejected training`. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from core.runs.headline import verdict_of
from core.runs.row import Row
from core.scoring.units import Unit
from lora_tui.dashboard.text.columns import progress

Predicate = Callable[[Row], bool]

_TERM = re.compile(r"^([a-z/]+)(:|>=|<=|>|<|=)(.+)$", re.IGNORECASE)
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq}
_TEXTS: dict[str, Callable[[Row], str]] = {
    "id": lambda row: row.key,
    "title": lambda row: row.title,
    "run": lambda row: "" if row.run is None else row.run.name,
    "state": lambda row: row.status.text,
    "verdict": lambda row: f"{row.word or ''} {verdict_of(row) or ''}",
}
_NUMBERS: dict[str, Callable[[Row], float | None]] = {
    "lr": lambda row: row.figures.learning_rate,
    **dict.fromkeys((unit.rate.lower() for unit in Unit), lambda row: row.figures.domain.now),
    "domain": lambda row: row.figures.domain.now,
    "heldout": lambda row: row.figures.heldout.now,
    "gain": lambda row: None if row.figures.domain.change is None else -row.figures.domain.change,
    "steps": lambda row: row.figures.steps,
    "done": lambda row: None if (share := progress(row)) is None else 100 * share,
}
_MEANT = {"pass": "accepted", "fail": "rejected", "unknown": "undecided"}
EXAMPLE = "id:2 lr>=1e-4 verdict:fail, or any word"
HELP = (
    "words, id: title: state: verdict: (accepted, rejected, failed, undecided), "
    "lr wer heldout gain steps done with > >= < <="
)


def parse(text: str) -> tuple[Predicate, str | None]:
    """(which rows pass, what is wrong with the text or None). All terms must hold; a wrong one is left out."""
    terms: list[Predicate] = []
    problem = None
    for word in text.split():
        match = _TERM.match(word)
        if match is None:
            terms.append(_contains(word))
            continue
        name, sign, value = match[1].lower(), match[2], match[3]
        if name in _TEXTS and sign in (":", "="):
            terms.append(_field_contains(name, value))
        elif name in _NUMBERS and (number := _number(value)) is not None:
            terms.append(_compares(name, _COMPARE["=" if sign == ":" else sign], number))
        else:
            problem = f"`{word}` is no filter: {HELP}"
    return lambda row: all(term(row) for term in terms), problem


def _contains(word: str) -> Predicate:
    wanted = word.lower()
    return lambda row: any(wanted in text(row).lower() for text in _TEXTS.values()) or wanted in row.settings.lower()


def _field_contains(name: str, value: str) -> Predicate:
    wanted = _MEANT.get(value.lower(), value.lower()) if name == "verdict" else value.lower()
    if name == "verdict" and value.lower() == "fail":
        return lambda row: row.word in ("rejected", "failed")
    if name == "id":
        return lambda row: row.key.lower().startswith(wanted)
    return lambda row: wanted in _TEXTS[name](row).lower()


def _compares(name: str, compare: Callable[[float, float], bool], number: float) -> Predicate:
    def holds(row: Row) -> bool:
        value = _NUMBERS[name](row)
        return value is not None and compare(value, number)

    return holds


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None
