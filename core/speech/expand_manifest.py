"""`lora-cli manifest expand`: an evaluation or training set from a pool, without what other sets have."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ManifestError
from core.scoring.text import normaliser
from core.speech.audio import header_seconds
from core.speech.expansion import Choice, FieldMissing, choose
from core.speech.hashing import HashCache, Progress, file_sha256
from core.speech.landmarks import matches
from core.speech.manifest import Utterance, read_manifest
from core.speech.measuring import measured
from core.speech.near_text import near_texts

AudioKey = tuple[str, float, float | None]
REASONS = {
    "audio": "the same file or slice as in an excluded or kept set",
    "bytes": "a copy of an excluded file",
    "recording": "the same recording as in an excluded or kept set",
    "text": "a text of an excluded or kept set",
    "near text": "nearly a text of an excluded or kept set",
    "speaker": "a speaker of an excluded set",
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
    exclude_speakers: bool = False
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
    hashes = HashCache(Path(os.devnull))
    while True:
        try:
            choice = choose(usable, kept, request.size, request.seed, fields, _seconds)
        except FieldMissing as error:
            raise ManifestError(
                f"--stratify: no line of the pool has {str(error)!r}: name duration, speaker or a field of the lines"
            ) from error
        copies = _copies([usable[i] for i in choice.order if i >= 0], excluded, hashes)
        if not copies:
            break
        dropped["bytes"] += len(copies)
        usable = [u for u in usable if _key(u) not in copies]
    texts = {_text(u) for u in excluded}
    keys = {_key(u) for u in excluded}
    return Expansion(
        utterances=tuple(usable[i] if i >= 0 else kept[-1 - i] for i in choice.order),
        kept=len(kept),
        pool=len(pool),
        dropped=dict(dropped),
        choice=choice,
        kept_clashes=sum(_key(u) in keys or _text(u) in texts for u in kept),
    )


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
    others = [*excluded, *kept]
    keys, seen = {_key(u) for u in others}, set[AudioKey]()
    texts = {_text(u) for u in others}
    speakers = {u.speaker for u in excluded if u.speaker is not None} if request.exclude_speakers else set()
    near = _near(pool, texts) if request.exclude_near_texts else set()
    usable = []
    for utterance in pool:
        key, text = _key(utterance), _text(utterance)
        reason = (
            "audio"
            if key in keys
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
    digests, peaks = [], []
    with closing(measured([(str(u.audio), u.offset_s, u.duration_s) for u in everything])) as facts_of_all:
        for facts in facts_of_all:
            digests.append(facts.digest)
            peaks.append(facts.peaks)
            if progress:
                progress(len(digests), len(everything))
    first = len(everything) - len(usable)
    taken = set(digests[:first]) - {b""}
    leaked = {index for index in range(first, len(everything)) if digests[index] in taken}
    leaked |= {match.second for match in matches(peaks) if match.first < first <= match.second}
    dropped["recording"] += len(leaked)
    return [utterance for index, utterance in enumerate(usable, first) if index not in leaked]


def _copies(chosen: Sequence[Utterance], excluded: Sequence[Utterance], hashes: HashCache) -> set[AudioKey]:
    """Chosen clips whose file is a copy of an excluded one. Only files of equal size are read."""
    by_size: dict[int, set[Path]] = {}
    for audio in {u.audio for u in excluded}:
        by_size.setdefault(_size(audio), set()).add(audio)
    copies: set[AudioKey] = set()
    for utterance in chosen:
        alike = by_size.get(_size(utterance.audio)) if utterance.audio.is_file() else None
        if alike and file_sha256(utterance.audio, hashes) in {file_sha256(path, hashes) for path in alike}:
            copies.add(_key(utterance))
    return copies


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _key(utterance: Utterance) -> AudioKey:
    return os.path.realpath(utterance.audio), utterance.offset_s, utterance.duration_s if utterance.offset_s else None


_BASIC = normaliser("basic").apply


def _text(utterance: Utterance) -> str:
    return _BASIC(utterance.text)


def _seconds(utterance: Utterance) -> float:
    if utterance.duration_s is not None:
        return utterance.duration_s
    return max(0.0, header_seconds(utterance.audio) - utterance.offset_s)
