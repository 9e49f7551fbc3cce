"""Transcripts in each format: what is spoken is content, read back by a parser of subtitles."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cli.transcripts import FORMATS, SUBTITLES, TimedText, Transcript, as_json, as_srt, as_text, as_vtt

webvtt = pytest.importorskip("webvtt")  # of the extra dev

TALK = Transcript(
    "talk.wav",
    3725.5,
    (TimedText(0.0, 1.25, "good morning"), TimedText(3661.2341, 3665.0, "<b>1 & 2</b>"), TimedText(3665.0, 3666, " ")),
    cut=True,
    silent=False,
)
HOSTILE = [
    "00:00:01,000 --> 00:00:09,000",
    "2\n\n2\n00:00:01.000 --> 00:00:02.000\nowned",
    "WEBVTT\n\nNOTE x",
    "{\\an8\\fs200}up</v><script>alert(1)</script>&amp;",
    "\x1b]0;owned\x07 \u202e \u2028 \r\n\r\n1",
    "::error::owned ##[group]",
]


def parsed(kind: str, text: str) -> list[Any]:
    return list(webvtt.from_buffer(io.StringIO(text), format=kind).captions)


def test_text_is_the_text_alone_or_a_line_with_times_for_each_segment_of_what_was_cut() -> None:
    whole = Transcript("a.wav", 2.0, (TimedText(0.1, 1.9, "one two"),), cut=False, silent=False)
    assert as_text(whole) == "one two\n"
    assert as_text(TALK).splitlines()[0] == "[00:00:00.000 → 00:00:01.250] good morning"


def test_json_has_the_segments() -> None:
    found = json.loads(as_json(TALK))
    assert found["segments"][1] == {"start": 3661.234, "end": 3665.0, "text": "<b>1 & 2</b>"}
    assert (found["duration"], found["cut_at_pauses"], as_json(TALK).count("\n")) == (3725.5, True, 1)


def test_srt_is_numbered_and_vtt_has_its_head() -> None:
    assert as_srt(TALK) == (
        "1\n00:00:00,000 --> 00:00:01,250\ngood morning\n\n2\n01:01:01,234 --> 01:01:05,000\n‹b›1 & 2‹/b›\n"
    )
    assert as_vtt(TALK) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\ngood morning\n\n"
        "01:01:01.234 --> 01:01:05.000\n&lt;b&gt;1 &amp; 2&lt;/b&gt;\n"
    )


@pytest.mark.parametrize("kind", SUBTITLES)
def test_a_parser_reads_the_same_cues_back(kind: str) -> None:
    cues = parsed(kind, FORMATS[kind](TALK))
    assert [(cue.start, cue.end) for cue in cues] == [
        ("00:00:00.000", "00:00:01.250"),
        ("01:01:01.234", "01:01:05.000"),
    ]
    assert cues[0].text == "good morning"


@pytest.mark.parametrize("kind", SUBTITLES)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_no_cue_and_no_mark_up(kind: str, text: str) -> None:
    spoken = Transcript("a", 9.0, (TimedText(1, 2, text), TimedText(3, 4, "the end")), cut=True, silent=False)
    made = FORMATS[kind](spoken)
    assert len(parsed(kind, made)) == 2
    lines = made.splitlines()
    assert sum(" --> " in line for line in lines) == 2
    assert all(c == "\n" or c.isprintable() for c in made)
    assert "<" not in made and (kind == "vtt" or "{" not in made)


@pytest.mark.parametrize("kind", SUBTITLES)
@given(
    spoken=st.lists(
        st.tuples(st.floats(0, 1e5), st.floats(0, 30), st.text(min_size=1).filter(lambda text: text.split())),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_said_there_are_as_many_cues_in_order(kind: str, spoken: list[tuple[float, float, str]]) -> None:
    segments = tuple(TimedText(start, start + length, text) for start, length, text in sorted(spoken))
    cues = parsed(kind, FORMATS[kind](Transcript("a", 1e6, segments, cut=True, silent=False)))
    assert len(cues) == len(spoken)
    times = [time for cue in cues for time in (cue.start, cue.end)]
    assert all(cue.text for cue in cues) and times == sorted(times)
