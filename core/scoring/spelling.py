"""How much of a change of a WER is spelling: the same transcripts under several normalisers. Pure.

A recogniser that writes "8, 8, 1" where the reference has "eight eight one" is wrong in every word by one normaliser
and right by another; an adapter that learns the other spelling gains without hearing better, and hides what it lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from core.scoring.alignment import count_errors
from core.scoring.certainty import SetSpelling
from core.scoring.signs import signed
from core.scoring.text import NUMBERS, Normaliser, contractions_apart, normaliser
from core.scoring.units import Unit, joined

Utterances = Sequence[Mapping[str, Any]]
NUMBERS_SHARE = 0.01
"""Of a set's utterances in which one side may write digits where the other has number words."""
SCALE = 0.1
"""Of a change: what two normalisers differ by because they count other words, and not other errors."""
_DIGIT_SAFE = "digits"
_CONTRACTIONS = "basic with contractions apart"


def spelling_of(
    dataset: str, before: Utterances, after: Utterances, own: Normaliser, unit: Unit = Unit.WORD
) -> SetSpelling:
    """What the documents' own texts say, whatever their counts do. `after` has the utterances of `before`."""
    hypotheses = {str(u["id"]): str(u["hypothesis"]) for u in after}
    triples = [(str(u["reference"]), str(u["hypothesis"]), hypotheses[str(u["id"])]) for u in before]
    basic = cache(normaliser("basic").apply)
    ways: dict[str, Callable[[str], str]] = {own.name: basic if own.name == "basic" else cache(own.apply)}
    ways |= {name: cache(normaliser(name).apply) for name in ("jargon", _DIGIT_SAFE) if name != own.name}
    ways |= {} if own.name == "basic" else {"basic": basic}
    ways[_CONTRACTIONS] = cache(lambda text: contractions_apart(basic(text)))
    errors = cache(lambda reference, heard: 0 if reference == heard else count_errors(reference, heard, unit).errors)
    rises: dict[str, float] = {}
    for name, apply in ways.items():
        words = rise = 0
        for texts in triples:
            reference, base, tuned = map(apply, texts)
            words += len(unit.cut(reference))
            rise += errors(reference, tuned) - errors(reference, base) if base != tuned else 0
        rises[name] = 100 * rise / words if words else 0.0
    numbers = max(sum(_apart(basic(one[0]), basic(one[side])) for one in triples) for side in (1, 2))
    others = tuple((name, value) for name, value in rises.items() if name != own.name)
    unparted = sum(1 for _ in joined(one[0] for one in triples))
    return SetSpelling(dataset, own.name, rises[own.name], others, len(triples), numbers, unparted)


def spelling_remarks(sets: Sequence[SetSpelling], guardrail_pp: float, unit: Unit = Unit.WORD) -> tuple[str, ...]:
    """A sentence for each way in which spelling may be what a WER shows; none: empty."""
    return tuple(said for one in sets for said in _remarks(one, max(0.0, guardrail_pp), unit))


def _remarks(one: SetSpelling, guardrail_pp: float, unit: Unit) -> Iterator[str]:
    apart = [(name, rise) for name, rise in one.others if not abs(rise - one.rise_pp) <= _allowed(one, guardrail_pp)]
    if apart:
        name, rise = max(apart, key=lambda other: abs(other[1] - one.rise_pp))
        yield (
            f"Spelling: {one.dataset} {unit.rate} changes by {signed(one.rise_pp)} points under the normaliser "
            f"{one.normaliser}, and by {signed(rise)} under {name}."
        )
    if one.normaliser != _DIGIT_SAFE and one.numbers > NUMBERS_SHARE * one.utterances:
        yield (
            f"Spelling: in {one.numbers} of {one.utterances} {one.dataset} utterances one side has digits where the "
            f"other has number words, which {one.normaliser} does not take for the same."
        )


def _allowed(one: SetSpelling, guardrail_pp: float) -> float:
    return max(guardrail_pp, SCALE * abs(one.rise_pp))


def _apart(reference: str, hypothesis: str) -> bool:
    """Whether one of two normalised texts writes its numbers in digits only, and the other in words."""
    one, other = _numbers(reference), _numbers(hypothesis)
    return (one == (True, False) and other[1]) or (other == (True, False) and one[1])


@cache
def _numbers(text: str) -> tuple[bool, bool]:
    """Whether there are digits in the text, and whether there are number words."""
    return any(character.isdigit() for character in text), not NUMBERS.isdisjoint(text.split())
