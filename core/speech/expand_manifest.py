"""`lora-cli manifest expand`: an evaluation or training set from a pool, without what other sets have."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import AudioError, ManifestError
from core.scoring.text import normaliser
from core.speech.audio import header_seconds
from core.speech.expansion import Choice, FieldMissing, choose
from core.speech.hashing import HashCache, Progress, file_sha256
from core.speech.landmarks import matches
from core.speech.manifest import Utterance, read_manifest
from core.speech.measuring import Measuring
from core.speech.near_text import near_texts
from core.speech.peak_store import PeakStore
from core.speech.peaks import Peaks

AudioKey = tuple[str, float, float | None]
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


@dataclass(frozen=True, slots=True)
class Request:
    """What to build."""

    pools: Sequence[Path]
    size: int
    seed: int
    exclude: Sequence[Path] = ()
    keep: Path | None = None
    fields: Sequence[str] | None = None
    """Strata; None: duration, and speaker where the pool tells it."""
    shared_speakers: bool = False
    """Whether speakers of the excluded sets may be in it."""
    exclude_near_texts: bool = False
    listen: bool = False
    """Compare recordings, too: decodes the pool and the excluded sets."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What was built, and what the pool lacked."""

    utterances: tuple[Utterance, ...]
    kept: int
    pool: int
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason to count."""
    choice: Choice = field(default_factory=lambda: Choice((), {}))
    kept_clashes: int = 0
    """Kept clips whose audio or text is in an excluded set."""


def expand(request: Request, progress: Progress | None = None) -> Expansion:
    """Choose the set. Raises ManifestError for sets that cannot be read, and fields that no line has."""
    pool = [u for path in request.pools for u in read_manifest(path, check_audio=True).utterances]
    excluded = [u for path in request.exclude for u in read_manifest(path, check_audio=False).utterances]
    kept = list(read_manifest(request.keep).utterances) if request.keep else []
    dropped: Counter[str] = Counter()
    usable = _without(pool, excluded, kept, request, dropped)
    if request.listen:
        usable = _without_recordings(usable, excluded, kept, dropped, progress)
    fields = request.fields
    if fields is None:
        fields = ["duration", "speaker"] if any(u.speaker is not None for u in usable) else ["duration"]
    lengths = _Lengths()
    if "duration" in fields:
        usable = lengths.readable(usable, dropped, progress)
        lengths.readable(kept, Counter(), None)
    hashes = HashCache(Path(os.devnull))
    try:
        choice = _chosen(usable, kept, request, fields, lengths)
        copies = _copies([usable[i] for i in choice.order if i >= 0], excluded, hashes)
        if copies:
            # Reading every file of the pool is worth it only where there are copies at all.
            copies |= _copies(usable, excluded, hashes)
            dropped["bytes"] += sum(u.audio in copies for u in usable)
            usable = [u for u in usable if u.audio not in copies]
            choice = _chosen(usable, kept, request, fields, lengths)
    except FieldMissing as error:
        raise ManifestError(
            f"--stratify: no line of the pool has {str(error)!r}: name duration, speaker or a field of the lines"
        ) from error
    texts, taken = {_text(u) for u in excluded}, _Taken(excluded)
    return Expansion(
        utterances=tuple(usable[i] if i >= 0 else kept[-1 - i] for i in choice.order),
        kept=len(kept),
        pool=len(pool),
        dropped=dict(dropped),
        choice=choice,
        kept_clashes=sum(taken.has(u) or _text(u) in texts for u in kept),
    )


def _chosen(
    usable: Sequence[Utterance], kept: Sequence[Utterance], request: Request, fields: Sequence[str], lengths: _Lengths
) -> Choice:
    if not usable and not kept:
        return Choice((), {})  # without a clip every field is missing, which says nothing of the fields
    return choose(usable, kept, request.size, request.seed, fields, lengths.of)


def lacks(request: Request, result: Expansion) -> Iterator[str]:
    """What a person should know of the result, a sentence each."""
    for reason, count in result.dropped.items():
        yield f"left out {count}: {REASONS[reason]}"
    if result.kept > request.size:
        yield f"--keep has {result.kept} clips, more than --size {request.size}: all of them are in the set"
    missing = request.size - len(result.utterances)
    if missing > 0:
        yield f"the pool lacks {missing} of {request.size} clips: {result.pool} in it, {len(result.utterances)} usable"
    if result.kept_clashes:
        yield f"{result.kept_clashes} kept clips have audio or text of an excluded set: run `manifest check` on the two"


def _without(
    pool: Sequence[Utterance],
    excluded: Sequence[Utterance],
    kept: Sequence[Utterance],
    request: Request,
    dropped: Counter[str],
) -> list[Utterance]:
    taken, kept_ones, seen = _Taken(excluded), _Taken(kept), set[AudioKey]()
    texts = {_text(u) for u in (*excluded, *kept)}
    speakers = {u.speaker for u in excluded if u.speaker is not None} if not request.shared_speakers else set()
    near = _near(pool, texts) if request.exclude_near_texts else set()
    usable = []
    for utterance in pool:
        key, text = (str(utterance.audio), utterance.offset_s, utterance.duration_s), _text(utterance)
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


def _near(pool: Sequence[Utterance], texts: set[str]) -> set[str]:
    """Texts of the pool that are nearly one of `texts`."""
    everything = sorted(texts | {_text(utterance) for utterance in pool})
    near: set[str] = set()
    for pair in near_texts(everything):
        first, second = everything[pair.first], everything[pair.second]
        if (first in texts) != (second in texts):
            near.add(second if first in texts else first)
    return near


def _without_recordings(
    usable: Sequence[Utterance],
    excluded: Sequence[Utterance],
    kept: Sequence[Utterance],
    dropped: Counter[str],
    progress: Progress | None,
) -> list[Utterance]:
    everything = [*excluded, *kept, *usable]
    digests, peaks = [], PeakStore()
    requests = [(str(u.audio), u.offset_s, u.duration_s) for u in everything]
    with Measuring(len(requests)) as measuring:
        for facts in measuring.facts(requests):
            digests.append(facts.digest)
            peaks.append(facts.peaks)
            if progress:
                progress(len(digests), len(everything))
    first = len(everything) - len(usable)
    taken = set(digests[:first]) - {b""}
    leaked = {index for index in range(first, len(everything)) if digests[index] in taken}

    def listen(indexes: Sequence[int]) -> list[Peaks]:
        with Measuring(len(indexes)) as measuring:
            return list(measuring.fine_peaks([requests[index] for index in indexes]))

    leaked |= {match.second for match in matches(peaks, listen, first)}
    dropped["recording"] += len(leaked)
    return [utterance for index, utterance in enumerate(usable, first) if index not in leaked]


class _Taken:
    """Which parts of which files sets have."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = {}
        for utterance in utterances:
            self._spans.setdefault(os.path.realpath(utterance.audio), []).append(_span(utterance))

    def has(self, utterance: Utterance) -> bool:
        """Whether any of the utterance's audio is in them."""
        spans = self._spans.get(os.path.realpath(utterance.audio)) if self._spans else None
        if not spans:
            return False
        start, stop = _span(utterance)
        return any(start < end and begin < stop for begin, end in spans)


def _span(utterance: Utterance) -> tuple[float, float]:
    """Where a clip lies in its file, s."""
    start, length_s = utterance.offset_s, utterance.duration_s
    return start, math.inf if length_s is None else start + length_s


def _copies(utterances: Sequence[Utterance], excluded: Sequence[Utterance], hashes: HashCache) -> set[Path]:
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


_BASIC = normaliser("basic").apply


def _text(utterance: Utterance) -> str:
    return _BASIC(utterance.text)


class _Lengths:
    """How long clips are, s: as told, or by the file's header, which is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, float] = {}

    def readable(
        self, utterances: Sequence[Utterance], dropped: Counter[str], progress: Progress | None
    ) -> list[Utterance]:
        """Those whose length is told or can be read."""
        good = []
        for done, utterance in enumerate(utterances, 1):
            if utterance.duration_s is None and utterance.audio not in self._read:
                try:
                    self._read[utterance.audio] = header_seconds(utterance.audio)
                except AudioError:
                    dropped["unreadable"] += 1
                    continue
                if progress:
                    progress(done, len(utterances))
            good.append(utterance)
        return good

    def of(self, utterance: Utterance) -> float:
        """Seconds; 0 for what cannot be read."""
        if utterance.duration_s is not None:
            return utterance.duration_s
        return max(0.0, self._read.get(utterance.audio, 0.0) - utterance.offset_s)
