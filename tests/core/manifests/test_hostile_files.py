"""Files that lie, are damaged or far too large: one clear error of our own, at once, in little memory."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio.samples import decode_clip
from core.audit.clip_facts import measure
from core.errors import AudioError, ManifestError, PlanError
from core.manifests.manifest import good_utterances, read_manifest
from core.manifests.parsing import Problems
from core.plan.read import parse_plan

RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LINE = b'{"audio_filepath": "a.wav", "text": "hello", "duration": 1.5, "offset": 0.5, "speaker": "ann"}\n'
PIECES = [
    b"NaN",
    b"Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 5000,
    b'{"a":' * 2000,
    b"\xff",
    b"\\ud800",
    b"\0",
    b'"',
    b"\n",
]


def encoded(container: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(2000) / 5) * 0.3, 16_000, format=container, subtype=subtype)
    return buffer.getvalue()


SOUNDS = [encoded("WAV"), encoded("WAV", "FLOAT"), encoded("FLAC"), encoded("OGG", "VORBIS"), encoded("AIFF")]


@st.composite
def spoilt(draw: st.DrawFn, originals: list[bytes], pieces: list[bytes]) -> bytes:
    """One of `originals` with a few pieces put in, taken out or changed."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 16)))
        data[start:stop] = draw(st.sampled_from(pieces) | st.binary(max_size=8))
    return bytes(data)


@RELAXED
@given(spoilt([LINE, LINE * 3], PIECES))
def test_spoilt_manifests_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(data)
    list(good_utterances(path, Problems(path)))
    try:
        read_manifest(path, check_audio=False)
    except ManifestError as error:
        assert str(path) in str(error)


@RELAXED
@given(spoilt(SOUNDS, [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xff"]))
def test_spoilt_sounds_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip"
    path.write_bytes(data)
    measure(path)
    try:
        clip = decode_clip(path)
    except AudioError as error:
        assert str(path) in str(error)
    else:
        assert np.isfinite(clip.samples).all()


@RELAXED
@given(
    spoilt(
        [b"[model]\nid = 'x'\n[data]\ntrain = 'a'\n[train]\nsteps = 100\nlearning_rate = 1e-4\n"],
        [*PIECES, b"[[", b"="],
    )
)
def test_spoilt_plans_are_refused_or_read(data: bytes) -> None:
    try:
        parse_plan(data.decode("utf-8", "replace"), "plan.toml")
    except PlanError as error:
        assert "plan.toml" in str(error)


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "[train]\nsteps = " + "9" * 10_000])
def test_numbers_too_long_for_python_in_a_plan(text: str) -> None:
    with pytest.raises(PlanError, match=r"plan.toml: not valid TOML: a number is too long"):
        parse_plan(text, "plan.toml")
    with pytest.raises(PlanError):
        parse_plan("", "plan.toml", ["train.steps=" + "9" * 5000])


@pytest.mark.parametrize(
    ("channels", "claimed"), [(1, 0x7FFFFFFF), (1, 0xFFFFFFF0), (1024, 0xFFFFFF00), (65_535, 4000)]
)
def test_headers_that_claim_more_than_there_is(tmp_path: Path, channels: int, claimed: int) -> None:
    align = channels * 2 & 0xFFFF
    head = struct.pack("<HHIIHH", 1, channels, 16_000, 16_000 * align & 0xFFFFFFFF, align, 16)
    path = tmp_path / "lies.wav"
    riff = b"RIFF" + struct.pack("<I", claimed & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16)
    path.write_bytes(riff + head + b"data" + struct.pack("<I", claimed) + b"\1\2" * 4000)
    facts = measure(path)
    assert facts.problem or facts.seconds < 1
