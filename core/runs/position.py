"""What the order of a run's evaluation sets does to their WER: computed by the trainer, kept with the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.runs.folder import sha256_of, write_json
from core.runs.paths import RunPaths
from core.runs.scores import read_score
from core.scoring.position import SHUFFLES, PositionReport, ScoredClip, Slice, position_report
from core.scoring.units import Unit
from core.system.files import read_json
from core.system.seals import is_whole, with_checksum

SCHEMA_VERSION = 1
SETS = ("domain", "heldout")
POINTS = 200
"""Of a running WER that are kept."""
MOST_SPEAKERS = 50
LARGE, FEWER_SHUFFLES = 20_000, 400
"""Sets of more clips are shuffled less often: enough for the band, and for p below 0.01."""

Part = tuple[str, int, float | None]
"""(name, clips, WER in percent)."""


@dataclass(frozen=True, slots=True)
class Position:
    """The lucky-average test on one score. WERs in percent; the three curves run along `at`."""

    dataset: str
    score: str
    """`base` or `tuned`."""
    clips: int
    wer: float
    p_value: float
    effect: bool
    """Whether the order is not one that chance would give."""
    settled_after: int
    """Clips after which the running WER stays within 0.2 points of its end; a shuffled order needs …"""
    shuffled_settles_after: int
    at: tuple[int, ...]
    running: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    blocks: tuple[Part, ...] = ()
    """In the manifest's order."""
    durations: tuple[Part, ...] = ()
    speakers: tuple[Part, ...] = ()
    """The 50 of highest WER."""
    unit: Unit = Unit.WORD
    """What its error rates count."""

    @property
    def drawn_from(self) -> int:
        """The first of `at` to draw: before a twentieth of the clips a running WER is nothing but noise."""
        return next(index for index, n in enumerate(self.at) if 20 * n >= self.clips)


def write_positions(paths: RunPaths) -> None:
    """Compute from the score documents that are there, and keep it with them. Of broken ones nothing is kept."""
    write_json(paths.root, paths.position, _document(paths))


def read_positions(paths: RunPaths) -> tuple[tuple[Position, ...], str | None]:
    """(what is kept and is of the documents as they are, None), or ((), what is wrong with it)."""
    document, problem = read_json(paths.position)
    if document is None:
        return (), problem
    if document.get("schema") != SCHEMA_VERSION or not is_whole(document):
        return (), f"{paths.position}: edited, or of another version"
    if document.get("documents") != {name: digest for name, (digest, _) in _scores(paths).items()}:
        return (), None  # a newer score is there, and will be looked at
    try:
        return tuple(_restored(one) for one in document["positions"]), None
    except (KeyError, TypeError, ValueError) as error:
        return (), f"{paths.position}: not what it should be ({error})"


def positions_differ(paths: RunPaths) -> bool:
    """Whether what is kept is not what the documents give."""
    kept, _ = read_json(paths.position)
    return kept is not None and kept != json.loads(json.dumps(_document(paths)))


def _document(paths: RunPaths) -> dict[str, Any]:
    scores = _scores(paths)
    positions = []
    for name, (_, path) in scores.items():
        dataset, _, score = name.partition(" ")
        position = _position(dataset, score, path)
        if position is not None:
            # As earlier versions wrote it, where it can be.
            written = asdict(position)
            positions.append({k: v for k, v in written.items() if (k, v) != ("unit", Unit.WORD)})
    documents = {name: digest for name, (digest, _) in scores.items()}
    return with_checksum({"schema": SCHEMA_VERSION, "documents": documents, "positions": positions})


def _scores(paths: RunPaths) -> dict[str, tuple[str, Path]]:
    """`domain base` → (digest, path) of the documents that are there."""
    found: dict[str, tuple[str, Path]] = {}
    for dataset in SETS:
        for score, path in (("base", paths.evaluation(0, dataset)), ("tuned", paths.tuned(dataset))):
            try:
                found[f"{dataset} {score}"] = sha256_of(path), path
            except OSError:
                continue
    return found


def _position(dataset: str, score: str, path: Path) -> Position | None:
    document, _ = read_score(path)
    if document is None:
        return None
    clips = [ScoredClip(u.counts, u.seconds, u.speaker) for u in document.utterances]
    try:
        found = position_report(clips, SHUFFLES if len(clips) <= LARGE else FEWER_SHUFFLES)
    except ValueError:
        return None
    return replace(_kept(dataset, score, found), unit=document.unit)


def _kept(dataset: str, score: str, found: PositionReport) -> Position:
    count = len(found.running)
    shown = min(POINTS, count)
    at = sorted({1 + round(index * (count - 1) / max(1, shown - 1)) for index in range(shown)})
    worst = sorted(found.speakers, key=lambda part: -(part.counts.wer_percent or 0.0))[:MOST_SPEAKERS]
    return Position(
        dataset=dataset,
        score=score,
        clips=count,
        wer=found.running[-1],
        p_value=round(found.p_value, 6),
        effect=found.position_effect,
        settled_after=found.settled_after,
        shuffled_settles_after=found.shuffled_settles_after,
        at=tuple(at),
        running=tuple(found.running[n - 1] for n in at),
        low=tuple(found.low[n - 1] for n in at),
        high=tuple(found.high[n - 1] for n in at),
        blocks=_parts(found.blocks),
        durations=_parts(found.durations),
        speakers=_parts(worst),
    )


def _parts(slices: Sequence[Slice]) -> tuple[Part, ...]:
    rounded = [None if (wer := one.counts.wer_percent) is None else round(wer, 3) for one in slices]
    return tuple((one.name, one.clips, wer) for one, wer in zip(slices, rounded, strict=True))


def _restored(raw: Mapping[str, Any]) -> Position:
    curves = {name: tuple(map(float, raw[name])) for name in ("running", "low", "high")}
    parts: dict[str, tuple[Part, ...]] = {
        kind: tuple((str(name), int(clips), None if wer is None else float(wer)) for name, clips, wer in raw[kind])
        for kind in ("blocks", "durations", "speakers")
    }
    unit = Unit(raw.get("unit", Unit.WORD))
    found = Position(**{**raw, **curves, **parts, "at": tuple(map(int, raw["at"])), "unit": unit})
    if (
        not found.at
        or found.at[-1] != found.clips
        or len({len(found.at), *map(len, curves.values())}) > 1
        or found.dataset not in SETS
    ):
        raise ValueError("curves of different lengths")
    return found
