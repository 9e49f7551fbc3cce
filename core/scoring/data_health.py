"""What an audit of a run's data says to its verdict: sizes, and what its sets have in common. Plain values, pure.

The same recording in training and in an evaluation set makes a WER meaningless, unless the plan accepts it. Shared
texts and speakers are shown only: command phrases repeat, and replay speech is meant to have ordinary voices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETS = ("train", "replay", "domain", "heldout", "selection")
TRAINED = SETS[:2]
KINDS: Mapping[str, str] = {
    "audio": "the same audio",
    "near_audio": "the same recording, re-encoded, cut or at another level",
    "text": "the same text",
    "near_text": "nearly the same text",
    "speaker": "the same speaker",
}
"""What two sets can have in common, the worst first."""
AUDIO = ("audio", "near_audio")


@dataclass(frozen=True, slots=True)
class SetHealth:
    """Figures of one set. Levels are dB of full scale; None where there is none."""

    name: str
    clips: int
    words: int
    seconds: float
    speakers: int
    """0: not told."""
    silent: int
    """Clips of RMS below 1e-4."""
    clipped: int
    """Recordings with flat tops."""
    rms_db: float | None
    """Median before normalisation."""
    rms_spread_db: float | None
    """From the 5th to the 95th percentile before normalisation …"""
    rms_after_spread_db: float | None
    """… and after it: normalised alike, it is 0, but for clamped clips."""
    clamped_share: float
    """Of the samples that the model hears."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What clips of an evaluation set have in common with another set."""

    kind: str
    """A key of KINDS."""
    dataset: str
    """The evaluation set."""
    other: str
    count: int
    """Clips of `dataset`; speakers, of the kind `speaker`."""
    examples: tuple[str, ...] = ()
    """`heldout:12 ↔ train:3: why`; text from outside, as it is."""

    @property
    def leak(self) -> bool:
        """Whether a model may have learnt by heart what it is judged on."""
        return self.kind in AUDIO and self.other in TRAINED


@dataclass(frozen=True, slots=True)
class DataHealth:
    """The audit of a run's sets."""

    sets: tuple[SetHealth, ...]
    shared: tuple[Shared, ...]
    """The worst first."""
    key: str = ""
    """What identifies the audited contents and the method."""

    @property
    def leaks(self) -> tuple[Shared, ...]:
        """What makes a WER meaningless."""
        return tuple(one for one in self.shared if one.leak)


def health_of(document: Mapping[str, Any]) -> DataHealth:
    """The audit in a stored document. ValueError, KeyError, TypeError or AttributeError when it is none."""
    sets = tuple(SetHealth(**one) for one in document["sets"])
    shared = tuple(Shared(**{**one, "examples": tuple(map(str, one["examples"]))}) for one in document["shared"])
    names = {one.name for one in sets}
    for one in shared:
        if one.kind not in KINDS or one.dataset not in SETS or one.other not in SETS:
            raise ValueError(f"{one.kind} shared by {one.dataset} and {one.other} means nothing")
        if isinstance(one.count, bool) or not isinstance(one.count, int) or one.count < 1:
            raise ValueError(f"count is {one.count!r}")
    for one_set in sets:
        if one_set.name not in SETS or isinstance(one_set.clips, bool) or not isinstance(one_set.clips, int):
            raise ValueError(f"set {one_set.name!r} means nothing")
    if not {"train", "domain", "heldout"} <= names:
        raise ValueError("not all sets of the run were audited")
    return DataHealth(sets, shared, str(document["key"]))


def leak_sentence(leaks: Sequence[Shared]) -> str:
    """`3 heldout clips are in train (the same audio), 1 domain clip …`, without a full stop."""
    return ", ".join(
        f"{one.count} {one.dataset} clip{'s are' if one.count > 1 else ' is'} in {one.other} ({KINDS[one.kind]})"
        for one in leaks
    )


def leak_obstacle(health: DataHealth | None, accepted: str | None) -> str:
    """Why a WER cannot be judged for its data, or nothing. `accepted`: the plan's reason for leakage, or None."""
    if health is None:
        return (
            "whether evaluation audio is in training is not known: the data are not audited yet "
            "(`lora-cli manifest check --run RUN_DIR` does it)"
        )
    if health.leaks and not accepted:
        return f"{leak_sentence(health.leaks)}: take them out, or say why that is right in gate.accept_leakage"
    return ""
