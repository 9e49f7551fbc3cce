"""Data health in words: what the sets are, what they share, whether an average is a lucky one, parity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from core.audit.kinds import KINDS as AUDIT_KINDS
from core.runs.position import Part, Position
from core.scoring.caps import Capped
from core.scoring.data_health import KINDS, DataHealth, SetHealth, Shared, Together, copies_sentence
from core.scoring.evidence import Evidence, State, Thresholds, Verdict

Fact = tuple[str, str]
"""(what, its value); text from outside stays as it is."""
ODD_AUDIO = ("cancelled", "different_channels", "cut_off", "odd_header")
SHOWN_PARTS = 12
_SETS = ("domain", "heldout")
_SCORES = {"base": "base model:", "tuned": "adapter:"}
EXAMPLES = 2


def headline(
    health: DataHealth | None, positions: Sequence[Position], accepted: str | None, caps: Sequence[Capped] = ()
) -> tuple[State, str]:
    """The data's health and what their decoding cut, in one line, for a panel of few lines."""
    state, told = _data_headline(health, positions, accepted)
    cut = [one for one in caps if one.too_many]
    if not cut:
        return state, told
    named = ", ".join(f"{one.cut} of {one.utterances} {one.dataset} transcripts ({one.score})" for one in cut)
    return State.UNKNOWN, f"TOKEN CAPS cut {named}; {told}"


def _data_headline(health: DataHealth | None, positions: Sequence[Position], accepted: str | None) -> tuple[State, str]:
    effects = [f"{p.dataset} ({p.score})" for p in positions if p.effect]
    order = f"; POSITION EFFECT: {', '.join(effects)}" if effects else ""
    if health is None:
        return State.UNKNOWN, f"not audited yet{order}"
    leaks = sum(one.count for one in health.leaks)
    if leaks:
        told = f"{_count(leaks, 'recording')} {'leaks' if leaks == 1 else 'leak'}"
        return (
            (State.PASS, f"{told}, accepted{order}") if accepted else (State.UNKNOWN, f"{told} into evaluation{order}")
        )
    copies = health.too_many_copies
    if copies:
        return State.UNKNOWN, f"{copies_sentence(health, copies)}{order}"
    shared = sum(one.count for one in health.shared if one.kind in ("text", "near_text"))
    texts = f"; {_count(shared, 'text')} shared" if shared else ""
    return State.PASS, f"no leaked recording in {_count(sum(one.clips for one in health.sets), 'clip')}{texts}{order}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def health_facts(
    evidence: Evidence, verdict: Verdict, thresholds: Thresholds, positions: Sequence[Position]
) -> tuple[Fact, ...]:
    """All of it, in the order of a report."""
    health = evidence.data_health
    facts: list[Fact] = []
    if health is None:
        facts.append(("Audit", "none yet: `lora-cli manifest check --run RUN_DIR` makes it where the audio is"))
    else:
        facts += [(f"Set {one.name}", size_sentence(one)) for one in health.sets]
        facts += [("Leakage" if one.leak else "Shared", shared_sentence(one)) for one in health.shared]
        if not health.leaks:
            facts.append(("Leakage", "no recording of an evaluation set is in training"))
        elif thresholds.accept_leakage:
            facts.append(("Leakage accepted", thresholds.accept_leakage))
        facts += [("Copies", copies_sentence(health, [one])) for one in health.copies]
        facts += [("Not independent", together_sentence(one)) for one in health.together]
        facts += [("Odd audio", sentence) for sentence in odd_audio_sentences(health)]
        if thresholds.unknown_speakers:
            facts.append(("Speakers unknown", thresholds.unknown_speakers))
    for position in positions:
        facts += position_facts(position)
    facts += [(f"Token caps, {name}", said) for name in _SETS if (said := caps_sentence(evidence, name))]
    parity = verdict.criterion("parity")
    facts.append(("Parity", f"{parity.state.value}: {parity.reason}"))
    if evidence.parity is not None:
        facts.append(("Normalisation", _fingerprints(evidence)))
    return tuple(facts)


def caps_sentence(evidence: Evidence, dataset: str) -> str:
    """How many transcripts of a set reached the longest length that a clip of theirs may have; nothing: not known."""
    told = [
        f"{_SCORES[one.score]} {one.reached} of {one.utterances} transcripts reached theirs, {one.cut} of them cut"
        for one in evidence.caps
        if one.dataset == dataset
    ]
    return "; ".join(told)


def odd_audio_sentences(health: DataHealth) -> list[str]:
    """What of the sets is heard otherwise than it seems, one sentence a kind."""
    found = []
    for kind in ODD_AUDIO:
        counts = health.findings.get(kind, {})
        told = ", ".join(f"{_count(count, 'clip')} of {name}" for name, count in counts.items())
        if told:
            found.append(f"{told}: {AUDIT_KINDS[kind][1]}")
    return found


def size_sentence(one: SetHealth) -> str:
    """Sizes and levels of a set."""
    speakers = _count(one.speakers, "speaker") if one.speakers else "speakers not told"
    sizes = f"{_count(one.clips, 'clip')}, {_count(one.words, 'word')}, {one.seconds / 3600:.2f} h, {speakers}"
    levels = ""
    if one.rms_db is not None:
        levels = f", RMS {one.rms_db:.0f} dB, spread {one.rms_spread_db or 0:.1f} dB, normalised "
        levels += f"{one.rms_after_spread_db or 0:.1f} dB, {one.clamped_share:.3%} of samples clamped"
    return f"{sizes}, {one.silent} silent, {one.clipped} clipped{levels}"


def shared_sentence(one: Shared) -> str:
    """What two sets have in common, with examples."""
    what = _count(one.count, "speaker" if one.kind == "speaker" else "clip")
    examples = "".join(f"; {example}" for example in one.examples[:EXAMPLES])
    return f"{KINDS[one.kind]}: {what} of {one.dataset} in {one.other}{examples}"


def together_sentence(one: Together) -> str:
    """How many utterances are weighed together, because they have audio in common."""
    clips, largest = sum(map(len, one.groups)), max(map(len, one.groups), default=0)
    groups = _count(len(one.groups), "group")
    return (
        f"{clips} {one.dataset} clips have audio in common, in {groups} (the largest of {largest}), each weighed as one"
    )


def position_facts(position: Position) -> list[Fact]:
    """The lucky-average test on one score, and the error rate by position, length and speaker."""
    name = f"{position.dataset.capitalize()} order, {position.score}"
    word = "POSITION EFFECT: a part of this set must not be taken for the whole" if position.effect else "no effect"
    settles = f"the running {position.unit.rate} stays within 0.2 points of its end ({position.wer:.2f} %) after "
    settles += f"{position.settled_after} of {position.clips} clips (shuffled: {position.shuffled_settles_after})"
    facts: list[Fact] = [(name, f"{word} (p = {position.p_value:.4f}); {settles}")]
    if position.score == "tuned":
        for title, parts in (
            ("position", position.blocks),
            ("length", position.durations),
            ("speaker", position.speakers),
        ):
            if parts:
                facts.append((f"{position.dataset.capitalize()} {position.unit.rate} by {title}", _parts(parts)))
    return facts


def _parts(parts: Sequence[Part]) -> str:
    told = "; ".join(
        f"{name} {'nothing to count' if wer is None else f'{wer:.1f} %'}" for name, _, wer in islice(parts, SHOWN_PARTS)
    )
    more = len(parts) - SHOWN_PARTS
    return f"{told}; and {more} more" if more > 0 else told


def _fingerprints(evidence: Evidence) -> str:
    parity = evidence.parity
    if parity is None or parity.trainer_fingerprint is None or parity.evaluator_fingerprint is None:
        return "a fingerprint is missing"
    if parity.trainer_fingerprint == parity.evaluator_fingerprint:
        return f"trainer and evaluation alike: {parity.trainer_fingerprint}"
    return f"trainer {parity.trainer_fingerprint}, evaluation {parity.evaluator_fingerprint}"
