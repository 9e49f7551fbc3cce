"""An export beside the adapter that was judged: transcripts that changed, and by how much the error rate did. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.scoring.significance import SEED, PairedErrors, interval, rises, units_of

_ERRORS = ("substitutions", "deletions", "insertions")
Utterances = Sequence[Mapping[str, Any]]
"""The `utterances` of a score document."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one set's transcripts say in the runtime and did not when the adapter was judged."""

    utterances: int
    changed: int
    """Transcripts that are not the same to the letter."""
    errors: int
    """In the runtime."""
    reference_words: int
    rise_pp: float
    """Points by which the error rate is higher in the runtime."""
    low_pp: float | None
    high_pp: float | None
    """The 95 % interval of that; None where it cannot be told, of a single utterance."""


def difference(judged: Utterances, served: Utterances, block_by: str = "speaker") -> Difference:
    """Of two score documents of the same clips in the same order, in the unit that they count.

    The interval is that of other speakers where all are named, and else that of other recordings (`rises`).
    ValueError without reference words.
    """
    words = np.array([u["reference_words"] for u in judged], dtype=np.float64)
    before, after = (
        np.array([sum(u[name] for name in _ERRORS) for u in utterances], dtype=np.float64)
        for utterances in (judged, served)
    )
    if not words.sum() > 0:
        raise ValueError("there are no reference words")
    low = high = None
    names = [u.get("speaker") if block_by == "speaker" else (u.get("fields") or {}).get(block_by) for u in judged]
    known = [str(name) for name in names if name is not None and str(name).strip()]
    if len(words) > 1:
        units = units_of(
            PairedErrors(words, before, after, np.zeros((0, len(words))), known if len(known) == len(names) else None)
        )
        low, high = interval(rises(units, seed=(SEED, 3)))
    return Difference(
        utterances=len(words),
        changed=sum(one["hypothesis"] != other["hypothesis"] for one, other in zip(judged, served, strict=True)),
        errors=int(after.sum()),
        reference_words=int(words.sum()),
        rise_pp=float(100 * (after - before).sum() / words.sum()),
        low_pp=low,
        high_pp=high,
    )


def sentence(dataset: str, found: Difference, rate: str = "WER") -> str:
    """`domain: 3 of 100 transcripts changed, WER +0.12 points (95 % interval -0.10 to +0.34)`."""
    interval_ = "" if found.low_pp is None else f" (95 % interval {found.low_pp:+.2f} to {found.high_pp:+.2f})"
    return (
        f"{dataset}: {found.changed} of {found.utterances} transcripts changed, {rate} {found.rise_pp:+.2f} "
        f"points{interval_}"
    )
