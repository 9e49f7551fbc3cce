"""The material of `planted_defects.py`: copies of real sets, freshly synthesised ones, and single bad lines."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.audio.samples import SAMPLE_RATE_HZ, read_clip
from core.corpus.synth import Prosody, Synthesiser

SETS = ("train", "domain", "heldout")
FRESH_VOICES = {
    "train": ("de+anika", "nl+Denis", "en+caleb", "af+Hugo", "en-029+Marco"),
    "domain": ("de+Diogo", "nl+Storm", "en+zac", "af+miguel", "en-029+ian"),
    "heldout": ("de+Henrique", "nl+Nguyen", "en+antonio", "af+steph3", "en-029+klatt4"),
}
"""Accents and voices that the embedded speech has nothing of, some of them of other languages: of seed 0."""
ACCENTS = ("cs", "da", "de", "en-gb-scotland", "en-us", "es", "fi", "fr", "it", "nl", "pl", "pt", "sv")
"""Of the other seeds, with variants drawn at random."""
ROOT = Path(__file__).resolve().parent.parent
_SENTENCE = re.compile(r"[A-Za-z][A-Za-z ,']{30,120}[a-z]")


@dataclass
class Planted:
    """Three sets, and what was planted in domain."""

    scratch: Path
    lines: dict[str, list[Any]]
    """Manifest lines: dictionaries, or text as it is."""
    clean: dict[str, int]
    """How many of each are nobody's planting."""
    places: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    """(group, what, expected kind) to lines of domain."""

    def clip(self, samples: Any, text: str, rate_hz: int = SAMPLE_RATE_HZ, **more: Any) -> dict[str, Any]:
        """A new file, and its line."""
        path = self.scratch / f"{len(list(self.scratch.iterdir()))}.wav"
        soundfile.write(path, np.asarray(samples, np.float32), rate_hz, subtype="FLOAT")
        return {"audio_filepath": str(path), "text": text, **more}

    def plant(self, group: str, what: str, kind: str, line: Any) -> None:
        """Add a line to domain."""
        self.lines["domain"].append(line)
        self.places.setdefault((group, what, kind), []).append(len(self.lines["domain"]))


def copied(folder: Path, count: int, seed: int = 0) -> dict[str, list[Any]]:
    """The first `count` lines of the sets in `folder`; of other seeds, as many drawn at random."""
    lines: dict[str, list[Any]] = {}
    for name in SETS:
        rows = (folder / f"{name}_manifest.jsonl").read_text().splitlines()
        some = random.Random(seed).sample(rows, min(count, len(rows))) if seed else rows[:count]
        lines[name] = [json.loads(row) for row in some]
        for line in lines[name]:
            line["audio_filepath"] = str((folder / line["audio_filepath"]).absolute())
    return lines


def fresh_voices(speech: Synthesiser, seed: int) -> dict[str, tuple[str, ...]]:
    """Five a set, none of them in two."""
    if not seed:
        return FRESH_VOICES
    rng = random.Random(seed)
    known = {voice.partition("+")[2] for voices in FRESH_VOICES.values() for voice in voices}
    variants = rng.sample(sorted(speech.variants() - known), 5 * len(SETS))
    voices = [f"{rng.choice(ACCENTS)}+{variant}" for variant in variants]
    return {name: tuple(voices[at :: len(SETS)]) for at, name in enumerate(SETS)}


def synthesised(folder: Path, count: int, seed: int = 0) -> dict[str, list[Any]]:
    """`count` clips a set: sentences of this project's documents, in voices that it uses nowhere else."""
    rng = random.Random(20 + seed)
    prose = " ".join(path.read_text() for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"))
    texts = sorted({" ".join(match[0].lower().split()) for match in _SENTENCE.finditer(" ".join(prose.split()))})
    rng.shuffle(texts)
    speech = Synthesiser()
    voices = fresh_voices(speech, seed)
    lines: dict[str, list[Any]] = {name: [] for name in SETS}
    for number, text in enumerate(texts[: count * len(SETS)]):
        name = SETS[number % len(SETS)]
        voice = rng.choice(voices[name])
        samples = speech.speak(text, voice, Prosody(rng.randint(120, 200), rng.randint(20, 80), rng.randint(20, 80)))
        level = 10 ** rng.uniform(-1, 0) / 32768
        noisy = samples * level + np.random.default_rng(number).standard_normal(len(samples)) * 0.002
        path = folder / f"{name}{number}.wav"
        soundfile.write(path, np.clip(noisy, -1, 1), speech.sample_rate_hz)
        duration = round(len(noisy) / speech.sample_rate_hz, 3)
        lines[name].append({"audio_filepath": str(path), "text": text, "speaker": voice, "duration": duration})
    return lines


def plant_lines(sets: Planted, count: int, rng: random.Random) -> None:
    """`count` of every defect that one line can have by itself, made of clips of domain."""
    sources = [line for line in sets.lines["domain"][: sets.clean["domain"]] if len(line["text"].split()) > 2]
    for number in range(count):
        samples = read_clip(Path(rng.choice(sources)["audio_filepath"]))
        text = f"planted bad line {number} of many"

        def damaged(suffix: str, damage: Callable[[bytes], bytes], long: int = 1, of: Any = samples) -> dict[str, Any]:
            path = sets.scratch / f"damaged-{len(list(sets.scratch.iterdir()))}.{suffix}"
            soundfile.write(path, np.tile(of, long), SAMPLE_RATE_HZ)
            path.write_bytes(damage(path.read_bytes()))
            return {"audio_filepath": str(path), "text": text}  # noqa: B023

        not_a_number = np.array(samples)
        not_a_number[1000 + number] = np.nan
        low = 0.3 * samples / np.abs(samples).max()
        level = float(np.sqrt(np.mean(low**2)))
        seconds = len(samples) / SAMPLE_RATE_HZ
        slow = np.concatenate([samples, *[samples] * int(40 / seconds)])
        bad: list[tuple[str, str, Any]] = [
            ("file not there", "missing", {"audio_filepath": f"nowhere-{number}.wav", "text": text}),
            ("text instead of audio", "unreadable", damaged("wav", lambda _: b"this is no sound file at all\n" * 50)),
            ("file of 0 bytes", "empty", damaged("wav", lambda _: b"")),
            ("FLAC cut at 60 %", "unreadable", damaged("flac", lambda d: d[: len(d) * 6 // 10])),
            ("WAV cut at 60 %", "cut_off", damaged("wav", lambda d: d[: len(d) * 6 // 10])),
            ("Ogg cut at 60 %", "cut_off", damaged("ogg", lambda d: d[: len(d) * 6 // 10], 3)),
            ("NaN", "nan", sets.clip(not_a_number, text)),
            ("slice outside", "slice", sets.clip(samples, text, offset=seconds - 0.5, duration=5.0)),
            ("silence", "silent", sets.clip(samples * 1e-6, text)),
            ("digital silence", "silent", sets.clip(samples * 0, text)),
            ("clipped by 12 dB", "clipped", sets.clip(np.clip(samples / np.abs(samples).max() * 4, -1, 1), text)),
            ("clipped, then quieter", "clipped", sets.clip(np.clip(low * 13, -1, 1) * 0.4, text)),
            ("DC offset as loud as the speech", "dc", sets.clip(low + level, text)),
            ("duration told twice as long", "duration", sets.clip(samples, text, duration=seconds * 2)),
            ("text three times as long", "too_fast", sets.clip(samples, " ".join([_LONG] * max(1, round(seconds))))),
            ("a word for 40 s", "too_slow", sets.clip(slow, "hello there")),
            ("no words", "empty_text", sets.clip(samples, rng.choice(("", " ", "?!", "…")))),
            ("markup", "odd_text", sets.clip(samples, text + rng.choice((" <unk>", " [noise]", " &amp; so on")))),
            ("wrong UTF-8", "odd_text", sets.clip(samples, f"{text} cafÃ©")),
            ("unwritable letters", "unwritable", sets.clip(samples, f"{text} {rng.choice(('東京', 'ß', '☃'))}")),
            ("text beyond the decoder", "too_many_tokens", sets.clip(samples, " ".join([text] * 100))),
            ("no JSON", "line", '{"audio_filepath": "a.wav", "text": '),
            ("no text", "line", {"audio_filepath": rng.choice(sources)["audio_filepath"]}),
            ("the same clip twice", "same_audio", sets.clip(samples, f"{text} again")),
            ("other rate", "several_rates", sets.clip(samples, text, 44_100)),
        ]  # fmt: skip
        for what, kind, line in bad:
            sets.plant("single lines", what, kind, line)


_LONG = "one hundred and twenty three thousand four hundred and fifty six words of text"
