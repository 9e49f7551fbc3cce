"""The audit of a run's data as a file: read, and believed only if it is whole and of the run's own sets.

Runs of equal data share one audit. A runs folder may have come from elsewhere, with an audit that hides what leaks. So
what is shared carries the seal of the user and machine that made it; anything else is made anew. A run's own copy of it
is told by the same seal from one that was edited after the run ended.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from core.audit.kinds import KINDS as AUDIT_KINDS
from core.runs import folder
from core.runs.folder import LinkError
from core.runs.paths import RunPaths, RunsFolder
from core.sanitise import quoted
from core.scoring.data_health import (
    JUDGED,
    KINDS,
    SCHEMA_VERSION,
    SETS,
    DataHealth,
    SetHealth,
    Shared,
    Together,
    copies_sentence,
)
from core.scoring.evidence import Capped, Evidence, State, Thresholds, Verdict
from core.system import files
from core.system.files import read_json
from core.system.seals import is_whole, machine_key, name_of, seal, sealed_by

if TYPE_CHECKING:
    from core.runs.position import Part, Position  # takes numpy, which most readers of an audit do without

_MOST = 10**12
"""No set has so many of anything."""


def audited_hashes(config: Mapping[str, Any] | None) -> dict[str, str]:
    """The content hashes of the sets that a run trains and is judged on, by its run.json. None of `model`."""
    hashes = (config or {}).get("hashes")
    settings = (config or {}).get("settings")
    train = settings.get("train") if isinstance(settings, dict) else None
    share = train.get("replay_share") if isinstance(train, dict) else None
    found = {name: str(hashes[name]) for name in SETS if name in hashes} if isinstance(hashes, dict) else {}
    if share == 0:
        found.pop("replay", None)
    return found


def read_health(paths: RunPaths, config: Mapping[str, Any] | None) -> tuple[DataHealth | None, str | None]:
    """(the audit in the run's folder, None), (None, what is wrong with it), or (None, None) without one."""
    document, problem = read_json(paths.data_health)
    if document is None:
        return None, problem
    found = believed(document, audited_hashes(config))
    return (None, f"{paths.data_health}: {found}") if isinstance(found, str) else (found, None)


def audit_outdated(paths: RunPaths) -> bool:
    """Whether a run has no audit, or one that an older version made, whole."""
    document, problem = read_json(paths.data_health)
    if document is None:
        return problem is None
    schema = document.get("schema")
    return type(schema) is int and schema < SCHEMA_VERSION and is_whole(document)


def believed(document: Mapping[str, Any], hashes: Mapping[str, str]) -> DataHealth | str:
    """The audit in `document` if it is whole, unchanged and of sets with these `hashes`; else what is wrong."""
    if document.get("schema") != SCHEMA_VERSION:
        return (
            f"schema {quoted(document.get('schema'))}, made by another version; this one reads {SCHEMA_VERSION}: "
            "`lora-cli manifest check --run RUN_DIR` makes it anew"
        )
    if not is_whole(document):
        return "edited: it does not bear out its own checksum"
    if document.get("hashes") != hashes:
        return "an audit of other data than the run's"
    try:
        return health_of(document)
    except ValueError as error:
        return f"not an audit of a run's data ({error})"


def health_of(document: Mapping[str, Any]) -> DataHealth:
    """The audit in a stored document. ValueError when it is none."""
    missing = [item.name for item in fields(DataHealth) if item.name not in document]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    try:
        found = msgspec.convert(dict(document), DataHealth)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    names = [one.name for one in found.sets]
    if not {"train", "domain", "heldout"} <= set(names) <= set(SETS) or len(names) > len(set(names)):
        raise ValueError(f"the audit of {', '.join(names) or 'nothing'} is not that of a run's sets")
    for one_set in found.sets:
        figures = [getattr(one_set, item.name) for item in fields(one_set) if item.name != "name"]
        if not all(value is None or (math.isfinite(value) and abs(value) < _MOST) for value in figures):
            raise ValueError(f"figures of {one_set.name} mean nothing")
    for one in found.shared:
        if one.kind not in KINDS or one.dataset not in JUDGED or one.other not in SETS or not 0 < one.count < _MOST:
            raise ValueError(f"{one.kind} shared by {one.dataset} and {one.other} means nothing")
    for copies in found.copies:
        if copies.dataset not in JUDGED or copies.other not in JUDGED or not 0 < copies.count < _MOST:
            raise ValueError(f"copies of {copies.other} in {copies.dataset} mean nothing")
    clips = {one.name: one.clips for one in found.sets}
    for alike in found.together:
        places = [place for group in alike.groups for place in group]
        if alike.dataset not in JUDGED or len(places) > len(set(places)):
            raise ValueError(f"utterances of {alike.dataset} are in two groups")
        if not all(0 <= place < clips.get(alike.dataset, 0) for place in places):
            raise ValueError(f"{alike.dataset} has no such utterances")
    return found


def read_shared(root: Path, key: str) -> dict[str, Any] | None:
    """The audit with this key in the runs folder `root`, if this user made it on this machine."""
    document, _ = folder.read_json(*_place(root, key))
    audit, seals = ((document or {}).get(name) for name in ("audit", "seals"))
    secret = machine_key()
    if secret is None or not isinstance(audit, dict) or not isinstance(seals, dict):
        return None
    return audit if sealed_by(secret, seals, _bytes(audit)) else None


def write_shared(root: Path, key: str, audit: Mapping[str, Any]) -> None:
    """Keep the audit for other runs of the same data.

    Nothing is kept where there is no secret to seal it with, or where a link would lead out of the runs folder.
    """
    secret = machine_key()
    if secret is not None:
        content = json.loads(json.dumps(audit))
        with contextlib.suppress(LinkError):
            folder.write_json(
                *_place(root, key), {"audit": content, "seals": {name_of(secret): seal(secret, _bytes(content))}}
            )


def made_here(paths: RunPaths) -> bool:
    """Whether the audit in the run's folder is one that this user made on this machine, be it after the run ended."""
    own, _ = files.read_json(paths.data_health)
    if own is None or not isinstance(key := own.get("key"), str) or not key.isalnum():
        return False
    return read_shared(paths.root.parent, key) == own


def _place(root: Path, key: str) -> tuple[Path, Path]:
    """The real runs folder, which may be a link to another disk, and the file in it."""
    real = root.resolve()
    return real, RunsFolder(real, real).data_health(key)


def _bytes(audit: Mapping[str, Any]) -> bytes:
    return b"audit\n" + json.dumps(audit, sort_keys=True).encode()


# Data health in words: what the sets are, what they share, whether an average is a lucky one, parity

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
