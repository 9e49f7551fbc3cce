"""Figures of a set of clips for the audit: how loud they are, which rates they have, what is clipped. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.audit.clip_facts import ClipFacts
from core.audit.line_checks import clip_problems
from core.manifests.manifest import Utterance


@dataclass(slots=True)
class Summary:
    """Figures of one set."""

    name: str
    role: str | None
    path: str
    lines: int = 0
    """Usable ones."""
    words: int = 0
    speakers: int = 0
    seconds: float = 0.0
    """By the audio, or by the manifest without audio."""
    rates_hz: dict[int, int] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    rms_db: list[float] = field(default_factory=list)
    """5th, 50th and 95th percentile of the RMS before normalisation, dB of full scale, without silence."""
    rms_after_db: list[float] = field(default_factory=list)
    clipped_clips: int = 0
    """Recordings with flat tops."""
    clamped_share: float = 0.0
    """Of all samples that the model hears."""


class Figures:
    """Levels of a set's clips, a few bytes a clip."""

    def __init__(self) -> None:
        self.before, self.after = array("f"), array("f")
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.clipped, self.clamped, self.samples = 0, 0.0, 0.0

    def add(self, facts: ClipFacts) -> None:
        """Add the figures of the next clip."""
        if facts.problem:
            return
        self.rates[facts.rate_hz] += 1
        self.channels[facts.channels] += 1
        self.clipped += any(kind == "clipped" for kind, _ in clip_problems(_NOBODY, facts))
        self.clamped += facts.clamped_share * facts.seconds
        self.samples += facts.seconds
        if not facts.silent:
            self.before.append(facts.rms)
            self.after.append(facts.rms_after)

    def fill(self, summary: Summary) -> None:
        """Write them into the set's summary."""
        summary.rates_hz, summary.channels = dict(sorted(self.rates.items())), dict(sorted(self.channels.items()))
        summary.rms_db, summary.rms_after_db = _spread_db(self.before), _spread_db(self.after)
        summary.clipped_clips = self.clipped
        summary.clamped_share = self.clamped / self.samples if self.samples else 0.0


_NOBODY = Utterance(0, "", Path(), "")


def _spread_db(levels: array[float]) -> list[float]:
    if not levels:
        return []
    decibels = 20 * np.log10(np.maximum(np.frombuffer(levels, np.float32), 1e-9))
    return [round(float(value), 1) for value in np.percentile(decibels, (5, 50, 95))]
