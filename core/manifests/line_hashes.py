"""What is used of a manifest's lines besides their audio, in one hash: texts, slices, speakers and fields.

The manifest's own hash (core.manifests.hashing) stands for what a run trains and is scored on, and is part of its
identity. It holds neither speakers nor fields: they change no weight and no transcript, and whoever names speakers
later need not train again. They do decide how results are sliced and which utterances are resampled together. So a run
records this second hash beside the first, its score documents carry what it is taken over, and both must agree. It can
be had without the audio. The audio's path is not in it, as it is not in the manifest's hash: a corpus may move.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.manifests.manifest import Manifest, Utterance
from core.system.checksums import hash_lines

FIELD_LENGTH = 60
"""Longest text of a manifest's other field, in characters, that is kept with an utterance's score."""
_WHOLE = 2**53

Field = str | int | float


@dataclass(frozen=True, slots=True)
class Line:
    """What a score document keeps of a manifest's line, and what `lines_sha256` is taken over, but for the id."""

    id: str
    reference: str
    offset: float
    duration: float | None
    """Seconds, as the line gives them."""
    channel: int | None
    speaker: str | None
    fields: Mapping[str, Field]
    """The line's other fields that are short texts or numbers: what results can be sliced by."""


def line_of(utterance: Utterance) -> Line:
    """What is used of a line."""
    return Line(
        utterance.id,
        utterance.text,
        utterance.offset_s,
        utterance.duration_s,
        utterance.channel,
        utterance.speaker,
        short_fields(utterance.extra),
    )


def lines_of(manifest: Manifest) -> Iterator[Line]:
    """What is used of each line, in order."""
    return map(line_of, manifest.utterances)


def lines_sha256(lines: Iterable[Line]) -> str:
    """64 hex digits over texts, slices, channels, speakers and fields, in order. Neither audio nor its path counts."""
    return hash_lines(
        "lines 1",
        (
            [one.reference, one.offset, one.duration, one.channel, one.speaker, sorted(one.fields.items())]
            for one in lines
        ),
    )


def references_sha256(lines: Iterable[tuple[str, str]]) -> str:
    """64 hex digits over the (id, text) of an evaluation set: all that the scores of older runs tell of it."""
    return hash_lines("references 1", (list(line) for line in lines))


def short_fields(extra: Mapping[str, Any]) -> dict[str, Field]:
    """The fields that are texts of at most 60 characters or finite numbers."""
    return {key: value for key, value in extra.items() if _is_short(value)}


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= FIELD_LENGTH
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < _WHOLE
