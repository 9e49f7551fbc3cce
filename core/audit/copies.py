"""Which utterances of the evaluation sets are of one recording, by what the audit found. Pure.

Two things follow from it, and they are not the same. Utterances with audio in common, if only a part of it, are *not
independent*: they are weighed as one (`together`). An utterance that says again what another says, from the same
recording, is a *copy*, which adds nothing to a set (`copies`). Sentences that were joined from the same recordings of
single words have audio in common and are no copies of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from core.audit.kinds import JUDGED, Finding
from core.scoring.text import normaliser

_EXACT = frozenset({"same_audio", "leaked_audio"})
_NEAR = frozenset({"near_audio", "leaked_near_audio"})

SAID_AGAIN = 0.75
"""Share of the shorter text's words that the other has too, in their order, where one is a copy: a copy may be cut, or
its text reworded. Of 219 pairs of spoken digits that have recordings of single words in common, 8 have so many."""

Place = tuple[str, int]
"""(set, line)."""


class _Groups:
    """Places that belong together, directly or by others (union–find)."""

    def __init__(self) -> None:
        self._above: dict[Place, Place] = {}

    def join(self, one: Place, other: Place) -> None:
        self._above[self._root(one)] = self._root(other)

    def all(self) -> Iterator[dict[str, list[int]]]:
        """Each group: lines by set."""
        groups: dict[Place, dict[str, list[int]]] = {}
        for place in sorted(self._above):
            name, line = place
            groups.setdefault(self._root(place), {}).setdefault(name, []).append(line)
        yield from groups.values()

    def _root(self, place: Place) -> Place:
        while (above := self._above.setdefault(place, place)) != place:
            self._above[place] = self._above[above]
            place = above
        return place


def of_one_recording(
    findings: Iterable[Finding], texts: Mapping[str, Mapping[int, str]]
) -> tuple[dict[str, list[list[int]]], list[dict[str, str | int]]]:
    """(groups of lines with audio in common, by evaluation set; rows of how many lines of a set are copies).

    `texts`: role → line → text. A row has `dataset`, `other` and `count`: where they are two sets, how many lines of
    `dataset` are of a recording in `other`; where they are one, how many lines are beside the first of each recording.
    """
    words = normaliser("basic").apply
    common, copied = _Groups(), _Groups()
    for finding in findings:
        other, _, line = finding.other.rpartition(":")
        if finding.kind not in _EXACT | _NEAR or finding.where not in texts or other not in texts:
            continue
        one, another = (finding.where, finding.line), (other, int(line))
        common.join(one, another)
        said = [words(texts[name].get(number, "")).split() for name, number in (one, another)]
        if finding.kind in _EXACT or _says_again(*said):
            copied.join(one, another)
    together: dict[str, list[list[int]]] = {}
    for group in common.all():
        for name, lines in group.items():
            if name in JUDGED and len(lines) > 1:
                together.setdefault(name, []).append(lines)
    return {name: sorted(groups) for name, groups in sorted(together.items())}, _rows(list(copied.all()))


def _says_again(one: Sequence[str], another: Sequence[str]) -> bool:
    """Whether most words of the shorter text are in the other, in their order."""
    blocks = SequenceMatcher(None, one, another, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= SAID_AGAIN * min(len(one), len(another))


def _rows(groups: Sequence[Mapping[str, Sequence[int]]]) -> list[dict[str, str | int]]:
    rows: list[dict[str, str | int]] = []
    for name in JUDGED:
        for other in JUDGED:
            both = [group for group in groups if name in group and other in group]
            count = sum(len(group[name]) - (name == other) for group in both)
            if count:
                rows.append({"dataset": name, "other": other, "count": count})
    return rows
