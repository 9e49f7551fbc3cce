"""`lora-cli manifest expand`: an evaluation or training set from a pool, without what other sets have.

Utterances are chosen by strata and shuffled, so that every part is a fair sample; the same seed chooses the same.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.audio.samples import header_seconds
from core.audit.pool_filter import REASONS, Taken, copies_of, text_of, without, without_recordings
from core.errors import AudioError, ManifestError
from core.manifests.hashing import HashCache, Progress
from core.manifests.manifest import Utterance, read_manifest

BINS = 5
"""Equal parts into which durations and other numbers are cut."""


class FieldMissing(ValueError):
    """No utterance of the pool has the field that the strata were asked over."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, by position in the pool, in the order to write; kept ones come as -1 - position."""

    order: tuple[int, ...]
    strata: Mapping[tuple[str, ...], tuple[int, int]]
    """Stratum to (in the pool and kept, chosen)."""


def choose(
    pool: Sequence[Utterance],
    kept: Sequence[Utterance],
    size: int,
    seed: int,
    fields: Sequence[str],
    seconds: Callable[[Utterance], float],
) -> Choice:
    """`size` utterances: all of `kept`, and from `pool` what brings each stratum to its share of the two together.

    `fields` are speaker, duration or names of other fields. Raises FieldMissing. Fewer when the pool is too small.
    """
    rng = random.Random(seed)
    everything = [*pool, *kept]
    labels = _labels(everything, fields, seconds)
    members: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(pool)):
        members.setdefault(labels[index], []).append(index)
    have = Counter(labels[len(pool) :])
    for stratum in sorted(members):
        rng.shuffle(members[stratum])
    room = {stratum: len(found) for stratum, found in members.items()}
    wanted = _shares(Counter(labels), min(size, len(everything)), have, room, rng)
    chosen: dict[tuple[str, ...], list[int]] = {}
    for stratum in sorted(set(labels)):
        picks = members.get(stratum, [])[: wanted.get(stratum, 0)]
        chosen[stratum] = picks + [-1 - i for i in range(len(kept)) if labels[len(pool) + i] == stratum]
    totals = Counter(labels)
    strata = {stratum: (totals[stratum], len(found)) for stratum, found in chosen.items()}
    return Choice(tuple(_fair_order(chosen, rng)), strata)


def _shares(
    totals: Mapping[tuple[str, ...], int],
    size: int,
    have: Mapping[tuple[str, ...], int],
    room: Mapping[tuple[str, ...], int],
    rng: random.Random,
) -> dict[tuple[str, ...], int]:
    """How many to take of each stratum: its share of `size` (largest remainders, ties by chance), less what it has."""
    everything = sum(totals.values())
    exact = {stratum: size * count / everything for stratum, count in totals.items()}
    take = {s: min(room.get(s, 0), max(0, math.floor(exact[s]) - have.get(s, 0))) for s in totals}
    # Strata smaller than one utterance are common (speaker by duration): chance decides among equal remainders.
    missing = size - sum(take.values()) - sum(have.values())
    order = sorted(totals, key=lambda s: (take[s] + have.get(s, 0) - exact[s], rng.random()))
    while missing > 0:
        before = missing
        for stratum in order:
            if missing > 0 and take[stratum] < room.get(stratum, 0):
                take[stratum] += 1
                missing -= 1
        if missing == before:
            break
    # Kept ones may crowd a stratum beyond its share: the largest others give way.
    while missing < 0 and any(take.values()):
        largest = max(take, key=lambda s: (take[s], s))
        take[largest] -= 1
        missing += 1
    return take


def _fair_order(chosen: Mapping[tuple[str, ...], Sequence[int]], rng: random.Random) -> list[int]:
    """Each stratum spread evenly over the whole, from a random start: any contiguous part holds its share of each."""
    placed: list[tuple[float, float, int]] = []
    for stratum in sorted(chosen):
        items = list(chosen[stratum])
        rng.shuffle(items)
        start = rng.random()
        placed += [((place + start) / len(items), rng.random(), item) for place, item in enumerate(items)]
    return [item for _, _, item in sorted(placed)]


def _labels(
    utterances: Sequence[Utterance], fields: Sequence[str], seconds: Callable[[Utterance], float]
) -> list[tuple[str, ...]]:
    """Each utterance's stratum: one word a field."""
    columns = [_column(utterances, name, seconds) for name in fields]
    return list(zip(*columns, strict=True)) if columns else [()] * len(utterances)


def _column(utterances: Sequence[Utterance], name: str, seconds: Callable[[Utterance], float]) -> list[str]:
    values: list[object]
    if name == "duration":
        values = [seconds(utterance) for utterance in utterances]
    elif name == "speaker":
        values = [utterance.speaker for utterance in utterances]
    elif name == "channel":
        values = [None if utterance.channel is None else str(utterance.channel) for utterance in utterances]
    else:
        values = [utterance.extra.get(name) for utterance in utterances]
    known = [value for value in values if value is not None]
    if not known:
        raise FieldMissing(name)
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        numbers = sorted(float(value) for value in known)  # type: ignore[arg-type]
        edges = [numbers[len(numbers) * part // BINS] for part in range(1, BINS)]
        return ["?" if v is None else _bin(name, float(v), edges) for v in values]  # type: ignore[arg-type]
    return ["?" if value is None else str(value) for value in values]


def _bin(name: str, value: float, edges: Sequence[float]) -> str:
    above = sum(value >= edge for edge in edges)
    low = f"{edges[above - 1]:.3g}" if above else ""
    high = f"{edges[above]:.3g}" if above < len(edges) else ""
    return f"{name} {low}…{high}"


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
