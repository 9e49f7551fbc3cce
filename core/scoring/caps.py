"""Transcripts that reached the longest length that a clip of theirs may have. Pure.

The cap ends a model that repeats itself. Such a transcript is evidence, of a base model on speech that it was not made
for above all. One that was cut while it still said what the reference says is none: the cap takes words from base model
and adapter alike, and what the adapter does with them is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.scoring.text import normaliser

CUT_SHARE = 0.01
"""Of a set's utterances that a cap may cut. No speech reaches one, so that none is cut by chance; more hide what
happens to more than one word in a hundred, of which a guardrail of 0.2 points is a fifth."""
REPEATS = 2.5
"""A transcript that ends in the same piece so many times repeats itself."""
_LEAST_REPEATED = 1 / 3
"""Of the transcript: "no no no" at the end of a long one is speech."""
_RUN_ON = 2.0
"""Times as long as its reference is no transcript of it."""


@dataclass(frozen=True, slots=True)
class Capped:
    """One score of one set."""

    dataset: str
    score: str
    """`base` or `tuned`."""
    utterances: int
    reached: int
    """Transcripts that reached their cap."""
    cut: int
    """Those of them that neither repeat themselves nor run on: cut while they still said what the reference says."""

    @property
    def too_many(self) -> bool:
        """Whether the cap has cut more transcripts than a WER may rest on."""
        return self.cut > CUT_SHARE * self.utterances

    @property
    def sentence(self) -> str:
        """How often, in words, without a full stop."""
        model = "base model" if self.score == "base" else "adapter"
        told = (
            f"{self.reached} of {self.utterances} transcripts of the {model} on {self.dataset} reached their token cap"
        )
        return f"{told}, {self.cut} of them ({self.cut / self.utterances:.1%} of all) before they had ended"


def capped(dataset: str, score: str, texts: Iterable[tuple[str, str]], utterances: int) -> Capped:
    """`texts`: (reference, hypothesis) of the transcripts that reached their cap."""
    found = list(texts)
    return Capped(dataset, score, utterances, len(found), sum(not ran_on(*pair) for pair in found))


def caps_obstacle(scores: Sequence[Capped]) -> str:
    """Why no WER of the run can be judged, or nothing."""
    wrong = [one.sentence for one in scores if one.too_many]
    return f"{'; '.join(wrong)}: how the model goes on there is not known" if wrong else ""


def ran_on(reference: str, hypothesis: str) -> bool:
    """Whether a transcript is no longer one of its reference: it is twice as long, or ends in repeating itself."""
    basic = normaliser("basic").apply
    said, heard = basic(reference).replace(" ", ""), basic(hypothesis).replace(" ", "")
    return len(heard) >= _RUN_ON * max(1, len(said)) or repeated_end(heard) not in said


def repeated_end(text: str) -> str:
    """The end of `text`, which has no spaces, that is one piece again and again (the last may be cut); or nothing."""
    for period, same in enumerate(_same_as_shifted(text[::-1])):
        length = same + period
        if 0 < period <= len(text) / REPEATS and length >= max(REPEATS * period, _LEAST_REPEATED * len(text)):
            return text[-length:]
    return ""


def _same_as_shifted(text: str) -> list[int]:
    """For each shift, how many characters of the text are the same as those that begin it (the Z function).

    Its time grows with the length alone: who writes a transcript must not decide how long a verdict takes.
    """
    found = [0] * len(text)
    left = right = 0  # the match that reaches furthest
    for at in range(1, len(text)):
        same = min(right - at, found[at - left]) if at < right else 0
        while at + same < len(text) and text[same] == text[at + same]:
            same += 1
        found[at] = same
        if at + same > right:
            left, right = at, at + same
    return found
