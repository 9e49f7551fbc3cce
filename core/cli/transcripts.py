"""A transcript as plain text, JSON, SubRip (SRT) or WebVTT. Pure; whatever is spoken is content, never mark-up."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from core.console import quiet
from core.sanitise import sanitise

LINE_CHARACTERS = 42
"""Of a line of subtitles, as broadcasters have it."""
_SRT = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})
"""SRT has no escapes, and players take <…> for HTML and {\\…} for commands: what looks like these stands instead."""
_VTT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, slots=True)
class TimedText:
    """What is said from `start_s` to `end_s` of a recording."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that is said in a recording."""

    name: str
    """As it was asked for."""
    seconds: float
    segments: tuple[TimedText, ...]
    """In order; none of them empty."""
    cut: bool
    """Whether it was longer than what is decoded at once."""
    silent: bool

    @property
    def text(self) -> str:
        """Without times."""
        return " ".join(segment.text for segment in self.segments)


def as_text(transcript: Transcript) -> str:
    """The text alone; of a recording that was cut, a line for each segment, with its times."""
    if not transcript.cut:
        return sanitise(transcript.text) + "\n"
    return "".join(
        f"[{_clock(segment.start_s, '.')} → {_clock(segment.end_s, '.')}] {sanitise(segment.text)}\n"
        for segment in transcript.segments
    )


def as_json(transcript: Transcript) -> str:
    """One object on one line, in ASCII."""
    return quiet(json.dumps(document(transcript), allow_nan=False)) + "\n"


def document(transcript: Transcript) -> dict[str, Any]:
    """The object of `as_json`."""
    return {
        "audio_filepath": transcript.name,
        "text": transcript.text,
        "duration": round(transcript.seconds, 3),
        "cut_at_pauses": transcript.cut,
        "silent": transcript.silent,
        "segments": [
            {"start": round(segment.start_s, 3), "end": round(segment.end_s, 3), "text": segment.text}
            for segment in transcript.segments
        ],
    }


def as_srt(transcript: Transcript) -> str:
    """Numbered cues (SubRip)."""
    cues = (
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_lines(text, _SRT)}\n"
        for number, (start, end, text) in enumerate(_cues(transcript), start=1)
    )
    return "\n".join(cues)


def as_vtt(transcript: Transcript) -> str:
    """WebVTT, as the W3C defines it."""
    cues = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_lines(text, _VTT)}\n" for start, end, text in _cues(transcript)
    )
    return "\n".join(("WEBVTT\n", *cues))


FORMATS: dict[str, Callable[[Transcript], str]] = {"text": as_text, "json": as_json, "srt": as_srt, "vtt": as_vtt}
ENDINGS = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
SUBTITLES = ("srt", "vtt")


def _cues(transcript: Transcript) -> Iterable[tuple[float, float, str]]:
    """Times in order, and an end that is after its start in whole milliseconds."""
    earliest = 0.0
    for segment in transcript.segments:
        text = " ".join(segment.text.split())
        if text:
            start = max(earliest, round(segment.start_s, 3))
            earliest = max(start + 0.001, round(segment.end_s, 3))
            yield start, earliest, text


def _lines(text: str, marks: dict[int, str]) -> str:
    """Lines of a cue: none is empty, which would end it, and none holds an arrow of times."""
    lines = textwrap.wrap(sanitise(text), LINE_CHARACTERS, break_on_hyphens=False) or [""]
    return "\n".join(line.translate(marks) for line in lines)


def _clock(seconds: float, mark: str) -> str:
    """hh:mm:ss and milliseconds behind `mark`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{milliseconds:03}"
