"""What lines of a set are like: a clip's figures against its text, texts by themselves, and the figures of all.

Pure, but for the model folder whose tokenizer may be asked what it can write.
"""

from __future__ import annotations

import html
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from core.audit.clip_facts import ClipFacts
from core.errors import ModelError
from core.manifests.decoding import is_other_duration
from core.manifests.manifest import Utterance
from core.plan.families import family_of
from core.system.files import folder_problem

CLIPPED_SHARE = 1e-3
DC_SHARE = 0.25
"""DC of more than this share of the RMS."""
MOST_LETTERS_PER_S, MOST_WORDS_PER_S = 30.0, 8.0
LEAST_LETTERS_PER_S, SLOW_FROM_S = 1.0, 3.0
PACE_FACTOR = 3.0
"""Faster or slower than the set's median by this factor."""
PACE_LEAST_CLIPS, PACE_LEAST_LETTERS = 20, 8
"""Fewer clips have no pace; a shorter text says little of one."""
REPEATS = 5

_MARKUP = re.compile(r"<[^<>]{1,40}>|\[[^\[\]]{1,40}\]|\{[^{}]{1,40}\}")
_REPEATED = re.compile(rf"\b(\w{{2,}})(?:\s+\1\b){{{REPEATS - 1},}}", re.IGNORECASE)
_MOJIBAKE = re.compile("Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_ENTITY = re.compile(r"&(?:#\d{1,6}|[a-zA-Z]{2,8});")

Said = tuple[str, str]
"""(kind, detail)."""


def clip_problems(utterance: Utterance, facts: ClipFacts) -> Iterator[Said]:
    """What is wrong with one clip by itself."""
    if facts.problem:
        yield facts.problem
        return
    if facts.oddity:
        yield facts.oddity
    if facts.channel_oddity:
        yield facts.channel_oddity
    if facts.silent:
        yield "silent", f"RMS {facts.rms:.1e}"
    elif facts.clipped_share >= CLIPPED_SHARE:
        yield "clipped", f"{facts.clipped_share:.2%} of its samples, peak {facts.peak:.2f}"
    if not facts.silent and abs(facts.dc) > DC_SHARE * facts.rms:
        yield "dc", f"mean {facts.dc:+.3f} at RMS {facts.rms:.3f}"
    given_s = utterance.duration_s
    if given_s is not None and is_other_duration(utterance, facts.file_s):
        yield "duration", f"{given_s:g} s in the manifest, {facts.file_s:.2f} s in the file"


def text_problems(text: str, words: str) -> Iterator[Said]:
    """What is odd about one text by itself; `words` is what the basic normaliser leaves of it."""
    if not words:
        yield "empty_text", f"no words in {text[:40]!r}"
        return
    for pattern, what in (
        (_MARKUP, "markup"),
        (_CONTROL, "control characters"),
        (_MOJIBAKE, "wrongly decoded UTF-8"),
        (_ENTITY, "HTML entities"),
        (_REPEATED, f"a word {REPEATS} times in a row or more"),
    ):
        found = pattern.search(text)
        if found and (pattern is not _ENTITY or html.unescape(found[0]) != found[0]):
            yield "odd_text", f"{what}: {found[0][:60]!r}"
    if "\ufffd" in text:
        yield "odd_text", "replacement characters: the file was not UTF-8 once"


def pace_problems(texts: list[str], seconds: list[float]) -> Iterator[tuple[int, str, str]]:
    """(index, kind, detail) of clips with too much or too little text for their length. 0 s means unknown."""
    letters = [len(text.replace(" ", "")) for text in texts]
    known = [n / s for n, s in zip(letters, seconds, strict=True) if s > 0 and n >= PACE_LEAST_LETTERS]
    usual = median(known) if len(known) >= PACE_LEAST_CLIPS else None
    for index, (text, count, length_s) in enumerate(zip(texts, letters, seconds, strict=True)):
        if not count or length_s <= 0:
            continue
        pace = count / length_s
        said = f"{count} letters in {length_s:.2f} s"
        comparable = usual is not None and count >= PACE_LEAST_LETTERS
        if pace > MOST_LETTERS_PER_S or len(text.split()) / length_s > MOST_WORDS_PER_S:
            yield index, "too_fast", said
        elif usual is not None and comparable and pace > PACE_FACTOR * usual:
            yield index, "too_fast", f"{said}; the set's median is {usual:.1f} letters/s"
        elif length_s >= SLOW_FROM_S and pace < LEAST_LETTERS_PER_S:
            yield index, "too_slow", said
        elif usual is not None and length_s >= SLOW_FROM_S and pace * PACE_FACTOR < usual:
            yield index, "too_slow", f"{said}; the set's median is {usual:.1f} letters/s"


def case_of(text: str) -> str | None:
    """`upper`, `lower` or `mixed`; None without cased letters."""
    if text.upper() == text.lower():
        return None
    return "upper" if text == text.upper() else "lower" if text == text.lower() else "mixed"


# Figures of a whole set


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


# What a model can never write: characters that its tokenizer lacks, banned tokens, texts too long for its decoder

DEFAULT_POSITIONS = 448
PREFIX_AND_END = 2
"""Positions that a start token and the end of the text take."""


class TextCheck:
    """A check of texts against the model in a folder. ModelError when that has no tokenizer.json or config.json."""

    def __init__(self, folder: Path) -> None:
        import tokenizers

        if problem := folder_problem(folder):
            raise ModelError(problem)
        path = folder / "tokenizer.json"
        try:
            config = json.loads((folder / "config.json").read_bytes())
            positions = config.get("max_target_positions") or config.get("max_position_embeddings") or DEFAULT_POSITIONS
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
            self._banned = _banned(folder, config)
            self._family = family_of(config.get("model_type"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"{folder}: config.json, generation_config.json or tokenizer.json cannot be read ({error}): "
                "name a model folder in hub format"
            ) from error
        self._limit = int(positions) - PREFIX_AND_END
        self._lifted: frozenset[int] = frozenset()

    def train(self, texts: Iterable[str]) -> None:
        """Training on these texts lifts the ban of the tokens that they have."""
        self._lifted |= {token for text in texts for token in self._ids(text)} & self._banned

    def __call__(self, text: str, *, trained: bool = False) -> Iterator[tuple[str, str]]:
        """(kind, detail) of what is wrong with one text. `trained`: it is one of those that lift a ban."""
        ids = self._ids(text)
        if len(ids) > self._limit:
            yield "too_many_tokens", f"{len(ids)} tokens, the model writes at most {self._limit}"
        written = self._tokenizer.decode(ids, skip_special_tokens=True)
        lost = sorted({c for c in text if not c.isspace()} - set(written))
        if lost:
            yield "unwritable", f"{' '.join(lost)[:60]!r} in {text[:60]!r}"
        if banned := self._spelled(ids, self._banned - self._lifted):
            yield "suppressed", f"{banned[:60]!r} in {text[:60]!r}"
        if trained and (lifted := self._spelled(ids, self._lifted)):
            yield "lifted", f"{lifted[:60]!r} in {text[:60]!r}"

    def _ids(self, text: str) -> list[int]:
        spelled = text if self._family is None else self._family.spelled(text)
        ids: list[int] = self._tokenizer.encode(spelled, add_special_tokens=False).ids
        return ids

    def _spelled(self, ids: Iterable[int], among: frozenset[int]) -> str:
        pieces = (str(self._tokenizer.decode([token])).strip() for token in ids if token in among)
        return " ".join(dict.fromkeys(pieces))


def _banned(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    """The ids that are never written, as transformers reads them: config.json has them where there is no other file."""
    path = folder / "generation_config.json"
    generation = json.loads(path.read_bytes()) if path.is_file() else config
    return frozenset(token for token in generation.get("suppress_tokens") or () if token >= 0)
