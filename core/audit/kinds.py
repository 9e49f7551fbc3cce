"""What the data audit can find: each kind with its severity and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from core.scoring.data_health import JUDGED, SETS, TRAINED

__all__ = ["JUDGED", "ROLES", "TRAINED"]
ROLES = SETS


class Severity(Enum):
    """How much a finding matters. Only blocking ones change the exit code."""

    BLOCKING = "blocking"
    WARNING = "warning"
    NOTE = "note"


_BLOCKING = {
    "line": "lines that are not usable",
    "missing": "audio files that are not there",
    "unreadable": "audio files that cannot be decoded",
    "empty": "clips without samples",
    "slice": "slices that lie outside their file",
    "channel": "channels that their file does not have",
    "truncated": "audio that ends before its header says",
    "nan": "NaN or infinite samples",
    "repeat": "clips that one manifest names twice",
    "leaked_audio": "evaluation clips whose audio is in training",
    "leaked_near_audio": "evaluation clips of a recording in training, re-encoded, cut, at another level or speed",
}
_WARNINGS = {
    "cut_off": "files that are shorter than their container says; the rest of the speech is gone",
    "odd_header": "files whose header does not say how long they are; all that is there is heard",
    "cancelled": "channels of opposite phase, which cancel out: the model hears what is left",
    "different_channels": "channels with different sound, which the model hears as one mixture",
    "silent": "silence (RMS below 1e-4)",
    "clipped": "clipped recordings (flat tops)",
    "dc": "a strong DC offset; it eats the loudness that speech should have",
    "duration": "duration in the manifest is not the file's",
    "too_fast": "more text than can be said in that time",
    "too_slow": "far less text than the time holds",
    "empty_text": "no words in the text",
    "odd_text": "odd texts",
    "too_many_tokens": "texts longer than the model can write",
    "unwritable": "characters that the model's tokenizer cannot write",
    "suppressed": "tokens that the model's generation config bans; training texts that have them lift the ban",
    "same_audio": "the same audio more than once",
    "near_audio": "the same recording more than once, re-encoded, cut, or at another level, speed or pitch",
    "joined_words": "evaluation sets whose texts have no spaces between words: gate.unit must not be word",
    "joined_text": "texts without spaces between words: a word error rate takes their sentences for words",
    "leaked_text": "evaluation texts that are in training",
    "leaked_near_text": "evaluation texts that are nearly in training",
    "mixed_rates": "sets with different sample rates",
}
_NOTES = {
    "lifted": "training texts with tokens that the model's generation config bans; training on them lifts the ban",
    "same_text": "the same text more than once",
    "near_text": "nearly the same text more than once",
    "shared_speaker": "speakers of an evaluation set who are in training",
    "several_rates": "several sample rates or channel counts in one set",
    "speaker_field": "lines that name their speaker in another field than `speaker`, which nobody reads",
    "other_case": "texts in another letter case than most",
    "small": "too few words for thresholds of tenths of a point",
}
KINDS: dict[str, tuple[Severity, str]] = {
    kind: (severity, meaning)
    for severity, kinds in (
        (Severity.BLOCKING, _BLOCKING),
        (Severity.WARNING, _WARNINGS),
        (Severity.NOTE, _NOTES),
    )
    for kind, meaning in kinds.items()
}
"""In the order in which a report shows them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one line of a set, or with a whole set (`line` 0)."""

    kind: str
    where: str
    """The set's name."""
    line: int
    id: str
    detail: str
    other: str = ""
    """`set:line` of what it clashes with."""

    @property
    def severity(self) -> Severity:
        """How severe the finding is, which its kind alone decides."""
        return KINDS[self.kind][0]


def leaks(role: str | None, other: str | None) -> bool:
    """Whether one of two sets is trained on and the other is judged."""
    return (role in TRAINED and other in JUDGED) or (role in JUDGED and other in TRAINED)
