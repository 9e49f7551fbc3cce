"""What lines have in common, within a set and between sets: audio, recordings, texts, speakers. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from core.audit.fingerprint.landmarks import matches
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.pictures import Picture
from core.audit.kinds import JUDGED, Finding, leaks
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
            if not leaks(one.role, another.role) or one.role not in JUDGED:
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


# Texts that say nearly the same: other order, other small words, other endings
#
# Words are weighed by how rare they are in all texts together (bits of surprise). Two texts are near when the words
# that they share hold most of the bits of both, and more bits than chance would give among so many pairs: five digits
# in common are nothing, five words of a trade are. A digit is one of ten, however rare it is among other texts.

STEM = 5
"""Letters of a word that count: endings differ in paraphrases."""
RAREST = 5
"""Candidates share two of their 5 rarest words."""
NEAR = 0.75
"""Share of the bits of both texts that they must have in common."""
MARGIN_BITS = 10.0
"""Above what chance gives: about one false pair in a thousand manifests."""
GROUP = 40
"""Members of one group of candidates that each text is compared with."""
DIGITS = frozenset(
    ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", *"0123456789")
)
DIGIT_BITS = math.log2(10)
"""At most, of each of these words."""
_AT_ONCE = 1 << 15
"""Pairs that are weighed together: bounds the memory."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearText:
    """Two texts, by position in the list (`first` < `second`), that say nearly the same."""

    first: int
    second: int
    share: float


@dataclass(frozen=True, slots=True)
class _Bags:
    """Texts as bags of words: `words` and `counts` of text i are at starts[i] … starts[i + 1], rare words first."""

    starts: Integers
    words: NDArray[np.int32]
    counts: NDArray[np.int32]
    bits: NDArray[np.float64]
    """Of each word."""
    weights: NDArray[np.float64]
    """Bits of each text."""


def near_texts(texts: Sequence[str]) -> Iterator[NearText]:
    """Pairs of different `texts` (normalised, no two equal) that are near, in order."""
    if not texts:
        return
    bags = _bags(texts)
    least = 2 * math.log2(max(2, len(texts))) + MARGIN_BITS
    candidates = _candidates(bags, least)
    for start in range(0, len(candidates), _AT_ONCE):
        pairs = candidates[start : start + _AT_ONCE]
        first, second = pairs // len(texts), pairs % len(texts)
        held, orders = _shared(bags, first, second)
        share = 2 * held / (bags.weights[first] + bags.weights[second])
        for at in np.flatnonzero((share >= NEAR) & (held - orders >= least)):
            yield NearText(int(first[at]), int(second[at]), round(float(share[at]), 3))


def _bags(texts: Sequence[str]) -> _Bags:
    ids: dict[str, int] = {}
    lengths = np.zeros(len(texts), np.int64)
    pieces = []
    for index, text in enumerate(texts):
        words = [ids.setdefault(word[:STEM], len(ids)) for word in text.split()]
        lengths[index] = len(words)
        pieces.append(np.array(words, np.int32))
    spoken = np.concatenate(pieces)
    del pieces
    totals = np.bincount(spoken, minlength=len(ids))
    # Words are numbered from the rarest on; equally rare ones by the alphabet.
    names = list(ids)
    order = sorted(range(len(names)), key=lambda word: (totals[word], names[word]))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    bits = np.log2(len(spoken) / np.maximum(1, totals[order])) if names else np.empty(0)
    digits = np.array([names[word] in DIGITS for word in order], bool)
    bits[digits] = np.minimum(bits[digits], DIGIT_BITS)
    owners = np.repeat(np.arange(len(texts)), lengths)
    keys, counts = np.unique(owners * max(1, len(names)) + rank[spoken], return_counts=True)
    owner, word = keys // max(1, len(names)), (keys % max(1, len(names))).astype(np.int32)
    starts = np.searchsorted(owner, np.arange(len(texts) + 1))
    weights = np.bincount(owner, weights=bits[word] * counts, minlength=len(texts)).astype(np.float64)
    return _Bags(starts, word, counts.astype(np.int32), bits, weights)


def _candidates(bags: _Bags, least: float) -> Integers:
    """first * texts + second of the pairs that share two of their rarest words, ascending."""
    texts = len(bags.weights)
    sizes = np.diff(bags.starts)
    keys, owners = [], []
    for far in range(1, RAREST):
        has = np.flatnonzero((sizes > far) & (bags.weights >= least))
        for near in range(far):
            one = bags.words[bags.starts[has] + near].astype(np.int64)
            another = bags.words[bags.starts[has] + far]
            keys.append(one * len(bags.bits) + another)
            owners.append(has.astype(np.int32))
    key, owner = np.concatenate(keys), np.concatenate(owners)
    order = np.lexsort((owner, key))
    key, owner = key[order], owner[order].astype(np.int64)
    found: list[Integers] = []
    for distance in range(1, GROUP + 1):
        equal = np.flatnonzero(key[:-distance] == key[distance:])
        if not len(equal):
            break
        found.append(owner[equal] * texts + owner[equal + distance])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def _shared(bags: _Bags, first: Integers, second: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(bits of the words that each pair shares, bits that such a bag lacks against a sequence: its orders)."""
    key, count = _spread(bags, first)
    other_key, other_count = _spread(bags, second)
    _, here, there = np.intersect1d(key, other_key, assume_unique=True, return_indices=True)
    both = np.minimum(count[here], other_count[there])
    pair, word = np.divmod(key[here], len(bags.bits))
    held = np.bincount(pair, weights=bags.bits[word] * both, minlength=len(first)).astype(np.float64)
    words = np.bincount(pair, weights=both, minlength=len(first)).astype(np.int64)
    repeats = np.bincount(pair, weights=_LOG2_FACTORIAL[np.minimum(both, _MOST)], minlength=len(first))
    return held, _LOG2_FACTORIAL[np.minimum(words, _MOST)] - repeats


def _spread(bags: _Bags, texts: Integers) -> tuple[Integers, NDArray[np.int32]]:
    """(pair * words + word, count) of the words of each of `texts`, ascending."""
    lengths = bags.starts[texts + 1] - bags.starts[texts]
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(bags.starts[texts] - ends + lengths, lengths)
    pair = np.repeat(np.arange(len(texts)), lengths)
    return pair * len(bags.bits) + bags.words[at], bags.counts[at]


_MOST = 10_000
_LOG2_FACTORIAL = np.concatenate(([0.0], np.cumsum(np.log2(np.arange(1, _MOST + 1)))))
