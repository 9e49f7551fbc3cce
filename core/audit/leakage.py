"""What lines have in common, within a set and between sets: audio, recordings, texts, speakers. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from core.audit.fingerprint.landmarks import matches
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.pictures import Picture
from core.audit.kinds import Finding, leaks
from core.audit.near_text import near_texts
from core.manifests.manifest import Utterance


@dataclass(slots=True)
class AuditSet:
    """A manifest in its role, with what was found out about its lines; lists run along `utterances`."""

    name: str
    role: str | None
    utterances: Sequence[Utterance]
    texts: list[str] = field(default_factory=list)
    """Normalised."""


ClipRef = tuple[int, int]
"""(set, utterance)."""
Listen = Callable[[Sequence[Utterance]], Sequence[Picture]]
"""Decodes clips once more, for their pictures."""


def common_findings(sets: Sequence[AuditSet], heard: Fingerprints | None, listen: Listen) -> Iterator[Finding]:
    """All that lines have in common with each other. `heard`: of all their lines, in order; None without audio."""
    if heard is not None:
        yield from _audio(sets, heard, listen)
    yield from _texts(sets)
    yield from _speakers(sets)


def _audio(sets: Sequence[AuditSet], heard: Fingerprints, listen: Listen) -> Iterator[Finding]:
    starts = list(accumulate((len(one.utterances) for one in sets), initial=0))

    def place(clip: int) -> ClipRef:
        number = bisect_right(starts, clip) - 1
        return number, clip - starts[number]

    groups = {}
    for clips in heard.take_equal_samples():
        groups[clips[0]] = places = [place(clip) for clip in clips]
        yield from _repeats(sets, places, "leaked_audio", "same_audio", "the same samples")

    def listen_to(clips: Sequence[int]) -> Sequence[Picture]:
        return listen([sets[number].utterances[line] for number, line in map(place, clips)])

    for match in matches(heard, listen_to):
        detail = f"the same recording ({match.share:.0%} of its sound, {match.how})"
        one, another = (groups.get(clip) or [place(clip)] for clip in (match.first, match.second))
        for leaked, here, there in _pairs(sets, one, another):
            yield _finding(sets, "leaked_near_audio" if leaked else "near_audio", here, there, detail)


def _texts(sets: Sequence[AuditSet]) -> Iterator[Finding]:
    groups: dict[str, list[ClipRef]] = {}
    for number, one in enumerate(sets):
        for index, text in enumerate(one.texts):
            if text:
                groups.setdefault(text, []).append((number, index))
    for text, places in groups.items():
        yield from _repeats(sets, places, "leaked_text", "same_text", repr(text[:80]))
    texts = list(groups)
    for near in near_texts(texts):
        detail = f"{texts[near.first][:80]!r} and {texts[near.second][:80]!r}"
        for leaked, place, other in _pairs(sets, groups[texts[near.first]], groups[texts[near.second]]):
            yield _finding(sets, "leaked_near_text" if leaked else "near_text", place, other, detail)


def _speakers(sets: Sequence[AuditSet]) -> Iterator[Finding]:
    first_line: list[dict[str, int]] = []
    for one in sets:
        lines: dict[str, int] = {}
        for index, utterance in enumerate(one.utterances):
            if utterance.speaker is not None:
                lines.setdefault(utterance.speaker, index)
        first_line.append(lines)
    for number, one in enumerate(sets):
        for other, another in enumerate(sets):
            if not leaks(one.role, another.role) or one.role not in ("domain", "heldout", "selection"):
                continue
            for speaker in first_line[number].keys() & first_line[other].keys():
                places = (number, first_line[number][speaker]), (other, first_line[other][speaker])
                yield _finding(sets, "shared_speaker", *places, f"speaker {speaker[:60]!r} is in {another.name}, too")


def _repeats(
    sets: Sequence[AuditSet], places: list[ClipRef], leaked: str, repeated: str, detail: str
) -> Iterator[Finding]:
    """Each later member of a group once, against the member that makes it worst."""
    if len(places) < 2:
        return
    trained = next((p for p in places if sets[p[0]].role in ("train", "replay")), None)
    for position, place in enumerate(places):
        if trained and leaks(sets[place[0]].role, sets[trained[0]].role):
            yield _finding(sets, leaked, place, trained, detail)
        elif position:
            yield _finding(sets, repeated, place, places[0], detail)


def _pairs(
    sets: Sequence[AuditSet], one: list[ClipRef], another: list[ClipRef]
) -> Iterator[tuple[bool, ClipRef, ClipRef]]:
    """(leaks, place, other): every judged line against one trained line; else one pair."""
    any_leak = False
    for here, there in ((one, another), (another, one)):
        trained = next((p for p in there if sets[p[0]].role in ("train", "replay")), None)
        for place in here if trained else ():
            if trained and leaks(sets[place[0]].role, sets[trained[0]].role):
                any_leak = True
                yield True, place, trained
    if not any_leak:
        yield False, another[0], one[0]


def _finding(sets: Sequence[AuditSet], kind: str, place: ClipRef, other: ClipRef, detail: str) -> Finding:
    one, another = sets[place[0]], sets[other[0]]
    utterance = one.utterances[place[1]]
    clash = f"{another.name}:{another.utterances[other[1]].line}"
    return Finding(kind, one.name, utterance.line, utterance.id, detail, clash)
