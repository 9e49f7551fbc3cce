"""`lora-cli manifest expand`: an evaluation or training set from a pool, without what other sets have."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.audio.samples import header_seconds
from core.audit.pool_filter import REASONS, Taken, copies_of, text_of, without, without_recordings
from core.errors import AudioError, ManifestError
from core.manifests.choosing import Choice, FieldMissing, choose
from core.manifests.hashing import HashCache, Progress
from core.manifests.manifest import Utterance, read_manifest


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


def expand(request: Request, progress: Progress | None = None, reading: Progress | None = None) -> Expansion:
    """Choose the set. Raises ManifestError for sets that cannot be read, and fields that no line has.

    `reading(done, 0)` is called for each line of the manifests, then `progress(done, total)` for each file that must
    be looked at. Both may raise, to stop.
    """
    lines = itertools.count(1)

    def seen() -> None:
        if reading:
            reading(next(lines), 0)

    pool = [u for path in request.pools for u in read_manifest(path, check_audio=True, seen=seen).utterances]
    excluded = [u for path in request.exclude for u in read_manifest(path, check_audio=False, seen=seen).utterances]
    kept = list(read_manifest(request.keep, seen=seen).utterances) if request.keep else []
    dropped: Counter[str] = Counter()
    usable = without(
        pool,
        excluded,
        kept,
        dropped,
        shared_speakers=request.shared_speakers,
        near_texts_too=request.exclude_near_texts,
    )
    if request.listen:
        usable = without_recordings(usable, excluded, kept, dropped, progress)
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
        copies = copies_of([usable[i] for i in choice.order if i >= 0], excluded, hashes)
        if copies:
            # Reading every file of the pool is worth it only where there are copies at all.
            copies |= copies_of(usable, excluded, hashes)
            dropped["bytes"] += sum(u.audio in copies for u in usable)
            usable = [u for u in usable if u.audio not in copies]
            choice = _chosen(usable, kept, request, fields, lengths)
    except FieldMissing as error:
        raise ManifestError(
            f"--stratify: no line of the pool has {str(error)!r}: name duration, speaker or a field of the lines"
        ) from error
    texts, taken = {text_of(u) for u in excluded}, Taken(excluded)
    return Expansion(
        utterances=tuple(usable[i] if i >= 0 else kept[-1 - i] for i in choice.order),
        kept=len(kept),
        pool=len(pool),
        dropped=dict(dropped),
        choice=choice,
        kept_clashes=sum(taken.has(u) or text_of(u) in texts for u in kept),
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
