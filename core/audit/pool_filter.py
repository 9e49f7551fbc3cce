"""What of a pool a new set may not have: files, recordings, texts and speakers that other sets have."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.audit.clip_facts import ClipRequest, Measuring, clip_request
from core.audit.fingerprint.landmarks import matches
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.pictures import Picture
from core.audit.leakage import near_texts
from core.manifests.hashing import HashCache, Progress, file_sha256
from core.manifests.manifest import Utterance
from core.scoring.text import normaliser

REASONS = {
    "kept": "in the kept set already, or an overlapping slice of what is",
    "audio": "the same file as in an excluded set, or an overlapping slice of it",
    "bytes": "a copy of an excluded file",
    "recording": "the same recording as in an excluded or kept set",
    "text": "a text of an excluded or kept set",
    "near text": "nearly a text of an excluded or kept set",
    "speaker": "a speaker of an excluded set (--shared-speakers lets them in)",
    "unreadable": "audio whose length cannot be read",
    "repeat": "the same file or slice twice in the pool",
}


def without(
    pool: Sequence[Utterance],
    excluded: Sequence[Utterance],
    kept: Sequence[Utterance],
    dropped: Counter[str],
    *,
    shared_speakers: bool,
    near_texts_too: bool,
) -> list[Utterance]:
    """Those of `pool` without the files, texts and speakers of the other sets; kept ones may share speakers."""
    taken, kept_ones, seen = Taken(excluded), Taken(kept), set[ClipRequest]()
    texts = {text_of(u) for u in (*excluded, *kept)}
    speakers = {u.speaker for u in excluded if u.speaker is not None} if not shared_speakers else set()
    near = _near(pool, texts) if near_texts_too else set()
    usable = []
    for utterance in pool:
        key, text = clip_request(utterance), text_of(utterance)
        reason = (
            "audio"
            if taken.has(utterance)
            else "kept"
            if kept_ones.has(utterance)
            else "repeat"
            if key in seen
            else "text"
            if text in texts
            else "near text"
            if text in near
            else "speaker"
            if utterance.speaker in speakers
            else None
        )
        seen.add(key)
        if reason:
            dropped[reason] += 1
        else:
            usable.append(utterance)
    return usable


def without_recordings(
    usable: Sequence[Utterance],
    excluded: Sequence[Utterance],
    kept: Sequence[Utterance],
    dropped: Counter[str],
    progress: Progress | None,
) -> list[Utterance]:
    """Those of `usable` whose recordings are in neither of the other two."""
    everything = [*excluded, *kept, *usable]
    heard = Fingerprints()
    requests = [clip_request(u) for u in everything]
    with Measuring(len(requests)) as measuring:
        for facts in measuring.facts(requests):
            heard.append(facts.digest, facts.peaks, facts.shape)
            if progress:
                progress(len(heard), len(everything))
    first = len(everything) - len(usable)
    groups = heard.take_equal_samples()
    leaked = {clip for group in groups if group[0] < first for clip in group if clip >= first}

    def listen(indexes: Sequence[int]) -> list[Picture]:
        with Measuring(len(indexes)) as measuring:
            return list(measuring.pictures([requests[index] for index in indexes]))

    alike = {group[0]: group for group in groups}
    for match in matches(heard, listen, first):
        leaked.update(alike.get(match.second, [match.second]))
    dropped["recording"] += len(leaked)
    return [utterance for index, utterance in enumerate(usable, first) if index not in leaked]


def copies_of(utterances: Sequence[Utterance], excluded: Sequence[Utterance], hashes: HashCache) -> set[Path]:
    """Files that are copies of excluded ones. Only files of equal size are read."""
    by_size: dict[int, set[Path]] = {}
    for audio in {u.audio for u in excluded}:
        by_size.setdefault(_size(audio), set()).add(audio)
    by_size.pop(-1, None)
    # Slices of an excluded file are no copies of it: what they have in common was looked at already.
    paths = {u.audio for u in utterances} - {u.audio for u in excluded}
    copies: set[Path] = set()
    for path in paths:
        alike = by_size.get(_size(path))
        if alike and file_sha256(path, hashes) in {file_sha256(other, hashes) for other in alike}:
            copies.add(path)
    return copies


class Taken:
    """Which parts of which files sets have."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._spans: dict[str, list[tuple[float, float, int | None]]] = {}
        for utterance in utterances:
            self._spans.setdefault(os.path.realpath(utterance.audio), []).append(_span(utterance))

    def has(self, utterance: Utterance) -> bool:
        """Whether any of the utterance's audio is in them."""
        spans = self._spans.get(os.path.realpath(utterance.audio)) if self._spans else None
        if not spans:
            return False
        start, stop, channel = _span(utterance)
        return any(
            start < end and begin < stop and (channel is None or other is None or channel == other)
            for begin, end, other in spans
        )


def _near(pool: Sequence[Utterance], texts: set[str]) -> set[str]:
    """Texts of the pool that are nearly one of `texts`."""
    everything = sorted(texts | {text_of(utterance) for utterance in pool})
    near: set[str] = set()
    for pair in near_texts(everything):
        first, second = everything[pair.first], everything[pair.second]
        if (first in texts) != (second in texts):
            near.add(second if first in texts else first)
    return near


def _span(utterance: Utterance) -> tuple[float, float, int | None]:
    """Where a clip lies in its file, s, and on which channel; None: all."""
    start, length_s = utterance.offset_s, utterance.duration_s
    return start, math.inf if length_s is None else start + length_s, utterance.channel


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


_BASIC = normaliser("basic").apply


def text_of(utterance: Utterance) -> str:
    """What two clips are said to have the same text by."""
    return _BASIC(utterance.text)
