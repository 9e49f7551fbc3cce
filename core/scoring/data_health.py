"""What an audit of a run's data says to its verdict: sizes, and what its sets have in common. Plain values, pure.

The same recording in training and in an evaluation set makes a WER meaningless, unless the plan accepts it. Shared
texts and speakers are shown only: command phrases repeat, and replay speech is meant to have ordinary voices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SCHEMA_VERSION = 2
"""Of the document that holds an audit (`DataHealth`)."""
EVALUATED = ("domain", "heldout", "selection", "selection_heldout")
"""The sets that the trainer scores at every interval, where given."""
RESERVES: Mapping[str, str] = {"domain": "reserve_domain", "heldout": "reserve_heldout"}
"""Which reserve has the last word on what was accepted on a set."""
SETS = ("train", "replay", *EVALUATED, *RESERVES.values())
TAKEN_FROM: Mapping[str, str] = {"selection": "train", "selection_heldout": "replay"}
"""Which set `data.selection_share` takes a selection set from."""
TRAINED, JUDGED = SETS[:2], SETS[2:]
KINDS: Mapping[str, str] = {
    "audio": "the same audio",
    "near_audio": "the same recording, re-encoded, cut or at another level",
    "text": "the same text",
    "near_text": "nearly the same text",
    "speaker": "the same speaker",
}
"""What two sets can have in common, the worst first."""
AUDIO = ("audio", "near_audio")
COPIES_SHARE = 0.05
"""Share of an evaluation set's clips that may be copies. More leave the WER criteria unknown: the WER then counts some
speech several times, whatever is done about its certainty; and a set that is chosen on, or that guards, is no other
set any more. So few move a WER by no more than a twentieth of what those clips differ from the rest."""


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
class Copies:
    """How many clips of an evaluation set are of a recording that is there already."""

    dataset: str
    """The evaluation set."""
    other: str
    """The same set: beside the first of each recording; or another evaluation set, which has the recording too."""
    count: int

    @property
    def within(self) -> bool:
        """Whether they are copies of clips of the same set."""
        return self.dataset == self.other


@dataclass(frozen=True, slots=True)
class Together:
    """Utterances that have a recording, or a part of one, in common: they are not independent."""

    dataset: str
    """The evaluation set."""
    groups: tuple[tuple[int, ...], ...]
    """Positions in the set, from 0."""


@dataclass(frozen=True, slots=True)
class DataHealth:
    """The audit of a run's sets."""

    sets: tuple[SetHealth, ...]
    shared: tuple[Shared, ...]
    """The worst first."""
    key: str = ""
    """What identifies the audited contents and the method."""
    copies: tuple[Copies, ...] = ()
    together: tuple[Together, ...] = ()
    findings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """All that was found, by kind (docs/data.md) and set."""

    @property
    def leaks(self) -> tuple[Shared, ...]:
        """What makes a WER meaningless."""
        return tuple(one for one in self.shared if one.leak)

    @property
    def too_many_copies(self) -> tuple[Copies, ...]:
        """Those that are more than `COPIES_SHARE` of their set."""
        clips = {one.name: one.clips for one in self.sets}
        return tuple(one for one in self.copies if one.count > COPIES_SHARE * clips.get(one.dataset, 0))


def leak_sentence(leaks: Sequence[Shared]) -> str:
    """`3 heldout clips are in train (the same audio), 1 domain clip …`, without a full stop."""
    return ", ".join(
        f"{one.count} {one.dataset} clip{'s are' if one.count > 1 else ' is'} in {one.other} ({KINDS[one.kind]})"
        for one in leaks
    )


def copies_sentence(health: DataHealth, copies: Sequence[Copies]) -> str:
    """`60 of 500 domain clips (12.0 %) are copies of others in domain, …`, without a full stop."""
    clips = {one.name: one.clips for one in health.sets}

    def in_words(one: Copies) -> str:
        whole = clips.get(one.dataset, 0)
        of, share = (f" of {whole}", f" ({100 * one.count / whole:.1f} %)") if whole else ("", "")
        verb = "is a copy" if one.count == 1 else "are copies"
        return (
            f"{one.count}{of} {one.dataset} clips{share} {verb} of {'others' if one.within else 'clips'} in {one.other}"
        )

    return ", ".join(map(in_words, copies))


def data_obstacle(health: DataHealth | None, accepted: str | None) -> str:
    """Why a WER cannot be judged for its data, or nothing. `accepted`: the plan's reason for leakage, or None.

    Leakage may be meant, where the product hears again what it was trained on. That copies are evidence, or that two
    sets are two, cannot be: no reason helps there.
    """
    if health is None:
        return (
            "whether evaluation audio is in training is not known: the data are not audited yet "
            "(`lora-cli manifest check --run RUN_DIR` does it)"
        )
    if health.leaks and not accepted:
        return f"{leak_sentence(health.leaks)}: take them out, or say why that is right in gate.accept_leakage"
    copies = health.too_many_copies
    if copies:
        return (
            f"{copies_sentence(health, copies)}, and more than {COPIES_SHARE:.0%} of a set may not be: "
            "leave one clip of each recording, in one set"
        )
    return ""
