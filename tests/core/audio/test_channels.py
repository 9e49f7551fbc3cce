"""Channels: which one is heard, and whether the mean of all is what they say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio.cache import SampleCache
from core.audio.samples import read_clip
from core.audio.sound_file import Samples
from core.audit.clip_facts import measure
from core.audit.line_checks import clip_problems
from core.cli.__main__ import main
from core.errors import AudioError, ManifestError
from core.manifests.decoding import cached_clips, clip_notices, manifest_clips_key
from core.manifests.hashing import HashCache, lines_of, lines_sha256, manifest_sha256
from core.manifests.manifest import Manifest, Utterance, read_manifest

RATE = 16_000


def voice(seed: int, seconds: float = 3.0) -> Samples:
    """Noise in syllables, with pauses, as speech is."""
    rng = np.random.default_rng(seed)
    swell = np.repeat(rng.choice([0.01, 0.1, 0.5, 1.0], int(seconds * 8)), RATE // 8)
    smooth = np.convolve(rng.standard_normal(len(swell)), np.ones(8) / 8, "same")
    return np.asarray(0.1 * swell * smooth, np.float32)


def found(folder: Path, *channels: Samples) -> dict[str, str]:
    path = folder / "a.wav"
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="PCM_16")
    kinds = dict(clip_problems(Utterance(0, "", path, ""), measure(path)))
    return {kind: kinds[kind] for kind in ("cancelled", "different_channels") if kind in kinds}


def echo(sound: Samples, seed: int) -> Samples:
    """The same sound at another place of a room."""
    rng = np.random.default_rng(seed)
    answer = rng.standard_normal(1600) * np.exp(-np.arange(1600) / 300) * 0.3
    answer[rng.integers(5, 60)] += 1
    return np.asarray(np.convolve(sound, answer)[: len(sound)], np.float32)


def test_opposite_phases_are_found(tmp_path: Path) -> None:
    one = voice(1)
    hum = np.asarray(np.random.default_rng(3).standard_normal(len(one)) * 1e-4, np.float32)
    assert "opposite phase" in found(tmp_path, one, -one)["cancelled"]
    assert "cancelled" in found(tmp_path, one + hum, -one)
    assert "cancelled" in found(tmp_path, one + np.float32(0.05), np.float32(0.05) - one)
    assert "cancelled" in found(tmp_path, one, np.float32(-0.6) * one)
    assert found(tmp_path, one, one) == {}
    assert found(tmp_path, one, np.zeros_like(one)) == {}
    assert found(tmp_path, one, np.float32(-0.02) * one) == {}


def test_different_sound_in_the_channels_is_found(tmp_path: Path) -> None:
    one, two = voice(1), voice(2)
    assert "two speakers" in found(tmp_path, one, two)["different_channels"]
    assert "different_channels" in found(tmp_path, one, two * np.float32(0.25))
    crosstalk = np.float32(0.05)
    assert "different_channels" in found(tmp_path, one + crosstalk * two, two + crosstalk * one)


@pytest.mark.parametrize("seed", range(6))
def test_two_microphones_before_one_speaker_are_no_finding(tmp_path: Path, seed: int) -> None:
    one = voice(seed)
    hiss = np.random.default_rng(seed).standard_normal((2, len(one))).astype(np.float32) * np.float32(0.001)
    assert found(tmp_path, echo(one, seed) + hiss[0], echo(one, seed + 50) + hiss[1]) == {}
    assert found(tmp_path, one, np.roll(one, 37)) == {}


def test_a_chosen_channel_is_heard_alone(tmp_path: Path) -> None:
    one, two = voice(1), voice(2)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([one, two], axis=1), RATE, subtype="FLOAT")
    assert np.array_equal(read_clip(path, channel=0), one)
    assert np.array_equal(read_clip(path, 1.0, 0.5, channel=1), two[16_000:24_000])
    assert np.array_equal(read_clip(path), (one + two) / np.float32(2))
    assert dict(clip_problems(Utterance(0, "", path, ""), measure(path, channel=1))) == {}
    with pytest.raises(AudioError, match=r"no channel 2: the file has 2 channels, and the first is 0"):
        read_clip(path, channel=2)


def lines(path: Path, rows: list[dict[str, Any]]) -> Manifest:
    path.write_text("".join(json.dumps({"audio": "call.wav", "text": "a"} | row) + "\n" for row in rows))
    return read_manifest(path)


def test_a_channel_is_part_of_a_line_s_identity_everywhere(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", np.stack([voice(1), voice(2)], axis=1), RATE, subtype="FLOAT")
    both = lines(tmp_path / "both.jsonl", [{"channel": 0}, {"channel": 1}, {"channel": 1, "offset": 0, "duration": 1}])
    assert [u.id for u in both.utterances] == ["call.wav#0", "call.wav#1", "call.wav@0+1#1"]
    hashes = HashCache(tmp_path / "hashes.json")
    store = cached_clips(both, SampleCache(tmp_path / "cache"), hashes)
    assert np.array_equal(store[0], voice(1))
    assert np.array_equal(store[1], voice(2))
    assert np.array_equal(store[2], voice(2)[:RATE])
    alone = [lines(tmp_path / f"{i}.jsonl", [row]) for i, row in enumerate([{}, {"channel": 0}, {"channel": 1}])]
    assert len({manifest_sha256(m, hashes) for m in alone}) == 3
    assert len({manifest_clips_key(m, ["0"]) for m in alone}) == 3
    assert len({lines_sha256(lines_of(m)) for m in alone}) == 3
    with pytest.raises(ManifestError, match="the same audio as line 1"):
        lines(tmp_path / "twice.jsonl", [{"channel": 0}, {"channel": 0}])


def test_a_set_without_channels_keeps_its_hash(tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(b"any bytes")
    manifest = lines(tmp_path / "m.jsonl", [{"offset": 1, "duration": 2.5}])
    line = json.dumps(["a", 1.0, 2.5, hashlib.sha256(b"any bytes").hexdigest()])
    before_channels = hashlib.sha256(f"manifest 1\n{line}\n".encode()).hexdigest()
    assert manifest_sha256(manifest, HashCache(tmp_path / "h.json")) == before_channels


@pytest.mark.parametrize("channel", ["0", "left", -1, 1.5, True, [0, 1], 5000])
def test_channels_that_are_no_number_are_refused(tmp_path: Path, channel: object) -> None:
    (tmp_path / "call.wav").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"m\.jsonl:1: 'channel' must be the number of the channel to hear, 0"):
        lines(tmp_path / "m.jsonl", [{"channel": channel}])


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, int]]]:
    code = main(["manifest", "check", str(path), "--json"])
    return code, json.loads(capsys.readouterr().out)["counts"]


def test_check_names_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = voice(1), voice(2)
    for name, channels in (("call", (one, two)), ("turned", (one, -one))):
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, axis=1), RATE)
    lines(tmp_path / "m.jsonl", [{}, {"audio": "turned.wav"}])
    code, counts = check(tmp_path / "m.jsonl", capsys)
    assert code == 0
    assert (counts["different_channels"], counts["cancelled"]) == ({"m": 1}, {"m": 1})
    lines(tmp_path / "m.jsonl", [{"channel": 0}, {"channel": 1}, {"audio": "turned.wav", "channel": 1}])
    code, counts = check(tmp_path / "m.jsonl", capsys)
    assert not {"different_channels", "cancelled", "same_audio"} & set(counts)
    lines(tmp_path / "m.jsonl", [{"channel": 2}])
    code, counts = check(tmp_path / "m.jsonl", capsys)
    assert (code, counts["channel"]) == (1, {"m": 1})


def test_channels_survive_rewriting(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", np.stack([voice(1), voice(2)], axis=1), RATE)
    lines(tmp_path / "m.jsonl", [{"channel": 0}, {"channel": 1, "text": "b", "offset": 0}])
    main(["manifest", "expand", "--pool", str(tmp_path / "m.jsonl"), "--size", "2", "-o", str(tmp_path / "e.jsonl")])
    main(["manifest", "export", "nemo", str(tmp_path / "m.jsonl"), "-o", str(tmp_path / "n.jsonl")])
    main(["manifest", "import", "nemo", str(tmp_path / "n.jsonl"), "-o", str(tmp_path / "i.jsonl")])
    for name in ("e", "n", "i"):
        rewritten = read_manifest(tmp_path / f"{name}.jsonl")
        assert {(u.text, u.channel, u.tells_offset) for u in rewritten.utterances} == {("a", 0, False), ("b", 1, True)}


def test_the_other_channel_of_an_excluded_file_may_be_in_a_set(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", np.stack([voice(1), voice(2)], axis=1), RATE)
    lines(tmp_path / "pool.jsonl", [{"channel": 0, "text": "x"}, {"channel": 1, "text": "y"}])
    lines(tmp_path / "taken.jsonl", [{"channel": 0}])
    out = tmp_path / "out.jsonl"
    command = ["manifest", "expand", "--pool", str(tmp_path / "pool.jsonl"), "--size", "1", "-o", str(out)]
    assert main([*command, "--exclude", str(tmp_path / "taken.jsonl")]) == 0
    assert [u.channel for u in read_manifest(out).utterances] == [1]


def test_normalise_takes_a_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "call.wav", np.stack([voice(1), voice(2)], axis=1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "second.wav", voice(2), RATE, subtype="FLOAT")
    for source, arguments in (("call", ["--channel", "1"]), ("second", [])):
        out = tmp_path / f"{source}-out.wav"
        assert main(["normalise", str(tmp_path / f"{source}.wav"), str(out), *arguments]) == 0
    # The header has the second in which the file was written.
    call, second = (soundfile.read(tmp_path / f"{source}-out.wav", dtype="float32")[0] for source in ("call", "second"))
    assert np.array_equal(call, second)
    assert main(["normalise", str(tmp_path / "call.wav"), str(tmp_path / "x.wav"), "--channel", "2"]) == 4
    assert "no channel 2" in capsys.readouterr().err


def test_speakers_in_another_field_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "call.wav", voice(1), RATE)
    soundfile.write(tmp_path / "b.wav", voice(2), RATE)
    lines(tmp_path / "m.jsonl", [{"speaker_id": 7}, {"audio": "b.wav", "speaker": "x", "speaker_id": 8}])
    main(["manifest", "check", str(tmp_path / "m.jsonl")])
    assert "m: 1 lines have speaker_id: call it speaker" in capsys.readouterr().out


def test_the_trainer_is_told_of_channels(tmp_path: Path) -> None:
    one, two = voice(1), voice(2)
    for name, channels in (("call", (one, two)), ("turned", (one, -one)), ("same", (one, one))):
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, axis=1), RATE)
    rows = [{}, {"audio": "turned.wav"}, {"audio": "same.wav"}, {"channel": 0}]
    manifest = lines(tmp_path / "m.jsonl", rows)
    store = cached_clips(manifest, SampleCache(tmp_path / "cache"), HashCache(tmp_path / "h.json"))
    first, second = clip_notices(manifest, store)
    assert first.startswith(f"{manifest.path}:1: channels 0 and 1 hold different sound")
    assert second.startswith(f"{manifest.path}:2: channels 0 and 1 are of opposite phase")
