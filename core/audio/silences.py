"""Where speech is in a recording: for the times of segments, and to cut long audio where nobody speaks.

A frame of 50 ms is silent when it is hardly louder than the quietest of the recording and much quieter than its speech.
"""

from __future__ import annotations

import numpy as np

from core.audio.samples import FRAME_S, HOP_S, SAMPLE_RATE_HZ, SILENCE_RMS, pause_cuts
from core.audio.sound_file import Samples

Range = tuple[int, int]
"""[start, stop), in samples."""
ENDS_SEGMENT_S = 0.7
"""A silence that is as long ends a segment, whatever the segment's length."""
SHORTEST_SILENCE_S = 0.25
"""A shorter one belongs to the speech around it: the closure of a plosive lasts up to 0.2 s."""
MARGIN_S = 0.1
"""Of silence that a segment keeps at each end: soft sounds begin and end words."""
_ABOVE_FLOOR_DB = 6.0
_BELOW_SPEECH_DB = 15.0
_DEEPEST_DB = 60.0
"""Below the speech: digital silence is no quieter than this."""


def speech_ranges(samples: Samples) -> list[Range]:
    """Where `samples` (samples,) at 16 kHz hold speech, or another sound, in order; none in a silent recording."""
    voiced = _voiced(samples)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], voiced, [False])).astype(np.int8)))
    hop, frame, margin = (int(seconds * SAMPLE_RATE_HZ) for seconds in (HOP_S, FRAME_S, MARGIN_S))
    found: list[Range] = []
    for first, after in edges.reshape(-1, 2).tolist():
        start, stop = first * hop, min((after - 1) * hop + frame, len(samples))
        if found and start - found[-1][1] < SHORTEST_SILENCE_S * SAMPLE_RATE_HZ:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    # A silence is longer than both margins, so that ranges stay apart.
    return [(max(0, start - margin), min(len(samples), stop + margin)) for start, stop in found]


def cut_at_silences(samples: Samples, max_seconds: float) -> list[Range]:
    """Segments of at most `max_seconds` that hold all speech of `samples`; long silences between them are left out.

    A segment that is still too long is cut in its shorter silences, and where there is none at its quietest places.
    """
    limit, apart = int(max_seconds * SAMPLE_RATE_HZ), int(ENDS_SEGMENT_S * SAMPLE_RATE_HZ)
    joined: list[Range] = []
    for start, stop in speech_ranges(samples):
        if joined and start - joined[-1][1] < apart - 2 * MARGIN_S * SAMPLE_RATE_HZ and stop - joined[-1][0] <= limit:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return [
        (start + first, start + last)
        for start, stop in joined
        for first, last in pause_cuts(samples[start:stop], max_seconds, SAMPLE_RATE_HZ)
    ]


def within_speech(piece: Range, speech: list[Range]) -> Range:
    """The piece without the silence at its ends; the piece itself where it holds none of the speech."""
    held = [(max(piece[0], start), min(piece[1], stop)) for start, stop in speech]
    held = [(start, stop) for start, stop in held if start < stop]
    return (held[0][0], held[-1][1]) if held else piece


def _voiced(samples: Samples) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Of each frame (frames,), 10 ms apart, whether it is louder than silence."""
    frame, hop = int(FRAME_S * SAMPLE_RATE_HZ), int(HOP_S * SAMPLE_RATE_HZ)
    if len(samples) < frame:
        return np.ones(min(1, len(samples)), dtype=np.bool_)
    energy = np.concatenate(([0.0], np.cumsum(np.square(samples, dtype=np.float64))))
    starts = np.arange(0, len(samples) - frame + hop, hop)
    stops = np.minimum(starts + frame, len(samples))
    level = 10 * np.log10(np.maximum((energy[stops] - energy[starts]) / (stops - starts), SILENCE_RMS**2 / 1e6))
    speech = float(np.percentile(level, 95))
    floor = max(float(np.percentile(level, 2)), speech - _DEEPEST_DB)
    if speech < 20 * np.log10(SILENCE_RMS):
        return np.zeros(len(level), dtype=np.bool_)
    return np.asarray(level > min(floor + _ABOVE_FLOOR_DB, speech - _BELOW_SPEECH_DB))
