"""Checks of single lines: a clip's figures against its text, and the text by itself. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from statistics import median

from core.audit.clip_facts import ClipFacts
from core.manifests.decoding import is_other_duration
from core.manifests.manifest import Utterance

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
