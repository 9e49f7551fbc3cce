"""The data audit: whether manifests can fool a verdict. Reads everything once and says what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.audio.samples import TARGET_RMS
from core.audit.clip_facts import ClipFacts, Measuring, clip_request
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.pictures import Picture
from core.audit.kinds import JUDGED, KINDS, TRAINED, Finding, Severity
from core.audit.leakage import AuditSet, common_findings
from core.audit.line_checks import Figures, Summary, TextCheck, case_of, clip_problems, pace_problems, text_problems
from core.manifests.manifest import Utterance, good_utterances
from core.manifests.parsing import Problems
from core.scoring.text import normaliser
from core.scoring.units import joined, joined_sentence

SPEAKER_FIELDS = ("speaker_id", "speaker_name", "spk", "spk_id", "client_id")
"""What other tools call the speaker."""
LEAST_WORDS = 3000
"""Of an evaluation set: below it, 0.2 points are fewer than six words."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """A manifest to audit, in its role (`core.scoring.data_health.SETS`) or without one."""

    path: Path
    role: str | None
    name: str
    """Unique among the sources."""
    lines: frozenset[int] | None = None
    """The numbers of the lines that are the set, where others of its manifest are of another one."""


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was found."""

    summaries: tuple[Summary, ...]
    findings: tuple[Finding, ...]
    listened: bool
    """Whether audio was decoded."""

    @property
    def blocking(self) -> bool:
        """Whether a verdict on these sets would mean nothing."""
        return any(finding.severity is Severity.BLOCKING for finding in self.findings)


class _Noted(Problems):
    """Problems of lines as findings, all of them."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.path)
        self.source = source
        self.findings: list[Finding] = []

    def add(self, line: int, what: str, kind: str = "line") -> None:
        self.count += 1
        self.findings.append(Finding(kind, self.source.name, line, "", what))


def audit(
    sources: Sequence[Source],
    *,
    listen: bool = True,
    workers: int | None = None,
    target_rms: float = TARGET_RMS,
    text_check: TextCheck | None = None,
    progress: Progress | None = None,
    reading: Progress | None = None,
) -> Audit:
    """Check every line of `sources`, and them against each other. `listen` decodes the audio.
    `target_rms`: what clips are brought to; figures of the level after it follow from it.

    `progress(done, total)` is called for each clip that was listened to; it may raise, to stop.
    `reading(done, 0)` is called for each line that was read before; nobody knows how many there will be.
    Raises ManifestError when a manifest cannot be read at all.
    """
    findings: list[Finding] = []
    sets: list[AuditSet] = []
    for source in sources:
        noted = _Noted(source)
        before = sum(len(one.utterances) for one in sets)
        utterances = []
        for utterance in good_utterances(source.path, noted):
            if source.lines is not None and utterance.line not in source.lines:
                continue
            utterances.append(utterance)
            if reading:
                reading(before + len(utterances), 0)
        findings += noted.findings
        sets.append(AuditSet(source.name, source.role, utterances))
    summaries = [
        Summary(source.name, source.role, str(source.path), lines=len(one.utterances))
        for source, one in zip(sources, sets, strict=True)
    ]
    total = sum(len(one.utterances) for one in sets)
    done, heard = 0, Fingerprints()
    if text_check:
        text_check.train(u.text for one in sets if one.role in TRAINED for u in one.utterances)
    with Measuring(total if listen else 0, workers) as measuring:
        for one, summary in zip(sets, summaries, strict=True):
            findings += _check_texts(one, summary, text_check)
            seconds = [utterance.duration_s or 0.0 for utterance in one.utterances]
            if listen:
                figures = Figures()
                requests = map(clip_request, one.utterances)
                for index, facts in enumerate(measuring.facts(requests, target_rms)):
                    findings += _check_clip(one, one.utterances[index], facts)
                    heard.append(b"" if facts.problem or facts.silent else facts.digest, facts.peaks, facts.shape)
                    figures.add(facts)
                    seconds[index] = facts.seconds
                    done += 1
                    if progress:
                        progress(done, total)
                figures.fill(summary)
            summary.seconds = sum(seconds)
            for index, kind, detail in pace_problems(one.texts, seconds):
                findings.append(_finding(one, one.utterances[index], kind, detail))
            findings += _check_set(one, summary)
    findings += _compare_rates(summaries)

    def listen_again(utterances: Sequence[Utterance]) -> list[Picture]:
        # Other processes than those before: while all clips are compared, none takes memory.
        with Measuring(len(utterances), workers) as measuring:
            pictures = []
            for one in measuring.pictures(map(clip_request, utterances)):
                pictures.append(one)
                if progress:
                    progress(done + len(pictures), total + len(utterances))
            return pictures

    findings += common_findings(sets, heard if listen else None, listen_again)
    return Audit(tuple(summaries), tuple(findings), listen)


def _check_clip(one: AuditSet, utterance: Utterance, facts: ClipFacts) -> list[Finding]:
    return [_finding(one, utterance, kind, detail) for kind, detail in clip_problems(utterance, facts)]


def _check_texts(one: AuditSet, summary: Summary, text_check: TextCheck | None) -> list[Finding]:
    basic = normaliser("basic").apply
    findings: list[Finding] = []
    cases = [case_of(utterance.text) for utterance in one.utterances]
    usual = Counter(case for case in cases if case).most_common(1)
    for utterance, case in zip(one.utterances, cases, strict=True):
        text = basic(utterance.text)
        one.texts.append(text)
        summary.words += len(text.split())
        findings += [_finding(one, utterance, kind, detail) for kind, detail in text_problems(utterance.text, text)]
        if case and case != usual[0][0]:
            detail = f"{case} case, most are {usual[0][0]}: {utterance.text[:60]!r}"
            findings.append(_finding(one, utterance, "other_case", detail))
        if text_check and text:
            said = text_check(utterance.text, trained=one.role in TRAINED)
            findings += [_finding(one, utterance, kind, detail) for kind, detail in said]
    summary.speakers = len({u.speaker for u in one.utterances if u.speaker is not None})
    return findings


def _check_set(one: AuditSet, summary: Summary) -> Iterator[Finding]:
    if not one.utterances:
        yield Finding("line", one.name, 0, "", "no usable line in this manifest")
    unparted = [one.utterances[i] for i in joined(u.text for u in one.utterances)]
    sentence = joined_sentence(one.name, len(unparted), len(one.utterances)) if one.role in JUDGED else None
    if sentence:
        yield Finding("joined_words", one.name, 0, "", sentence.partition(": ")[2])
    for utterance in unparted:
        yield _finding(one, utterance, "joined_text", f"{utterance.text[:60]!r}")
    told = Counter(key for u in one.utterances if u.speaker is None for key in SPEAKER_FIELDS if u.extra.get(key))
    for key, count in told.items():
        yield Finding("speaker_field", one.name, 0, "", f"{count} lines have {key}: call it speaker")
    if one.utterances and one.role in JUDGED and summary.words < LEAST_WORDS:
        words = 0.002 * summary.words
        yield Finding("small", one.name, 0, "", f"{summary.words} words: 0.2 points are {words:.1f} words")
    if len(summary.rates_hz) > 1 or len(summary.channels) > 1:
        rates = ", ".join(f"{count} at {rate} Hz" for rate, count in summary.rates_hz.items())
        channels = ", ".join(f"{count} with {n} channels" for n, count in summary.channels.items())
        yield Finding("several_rates", one.name, 0, "", f"{rates}; {channels}")


def _compare_rates(summaries: Sequence[Summary]) -> Iterator[Finding]:
    usual = {s.name: max(s.rates_hz, key=lambda rate: s.rates_hz[rate]) for s in summaries if s.rates_hz}
    if len(set(usual.values())) > 1:
        told = ", ".join(f"{name} {rate} Hz" for name, rate in usual.items())
        yield Finding("mixed_rates", next(iter(usual)), 0, "", told)


def _finding(one: AuditSet, utterance: Utterance, kind: str, detail: str) -> Finding:
    return Finding(kind, one.name, utterance.line, utterance.id, detail)


# The audit in words: one screen, a file with all of it, JSON

EXAMPLES = 2
SCHEMA = 1


def screen(audit: Audit) -> list[str]:
    """What to read: a line a set, then each kind of finding with its count and two examples. Not sanitised."""
    lines = [_summary_line(summary, audit.listened) for summary in audit.summaries]
    if not audit.listened:
        lines.append("audio was not listened to: nothing is said of levels, damage or audio leakage")
    lines.append("")
    for kind, (severity, meaning) in KINDS.items():
        found = [finding for finding in audit.findings if finding.kind == kind]
        if not found:
            continue
        counts = Counter(finding.where for finding in found)
        told = ", ".join(f"{count} in {name}" for name, count in counts.items())
        lines.append(f"{severity.value.upper():<8}  {kind}: {meaning}: {told}")
        lines += [f"            {_place(finding)}: {finding.detail}" for finding in found[:EXAMPLES]]
    lines.append(_conclusion(audit))
    return lines


def full_list(audit: Audit) -> list[str]:
    """Every finding, one a line: severity, kind, place, clash, detail, tab-separated."""
    order = list(KINDS)
    rows = sorted(audit.findings, key=lambda f: (order.index(f.kind), f.where, f.line))
    return ["\t".join((f.severity.value, f.kind, f"{f.where}:{f.line}", f.id, f.other, f.detail)) for f in rows]


def as_json(audit: Audit) -> dict[str, Any]:
    """Schema 1: sets, findings, counts by kind and set, and whether any blocks."""
    counts: dict[str, dict[str, int]] = {}
    for finding in audit.findings:
        by_set = counts.setdefault(finding.kind, {})
        by_set[finding.where] = by_set.get(finding.where, 0) + 1
    return {
        "schema": SCHEMA,
        "listened": audit.listened,
        "blocking": audit.blocking,
        "sets": [asdict(summary) for summary in audit.summaries],
        "counts": counts,
        "findings": [asdict(finding) | {"severity": finding.severity.value} for finding in audit.findings],
    }


def _place(finding: Finding) -> str:
    place = f"{finding.where}:{finding.line}" if finding.line else finding.where
    return f"{place} ↔ {finding.other}" if finding.other else place


def _summary_line(summary: Summary, listened: bool) -> str:
    speakers = f"{summary.speakers} speakers" if summary.speakers else "speakers not told"
    parts = [
        f"{summary.name}: {summary.lines} clips",
        f"{summary.words} words",
        f"{summary.seconds / 3600:.2f} h",
        speakers,
    ]
    if listened and summary.rms_db:
        low, middle, high = summary.rms_db
        after_low, _, after_high = summary.rms_after_db
        parts.append("/".join(f"{rate} Hz" for rate in summary.rates_hz))
        parts.append(f"RMS {middle:.0f} dB ({low:.0f} … {high:.0f}), normalised {after_low:.1f} … {after_high:.1f}")
        parts.append(f"{summary.clipped_clips} clipped")
        parts.append(f"{summary.clamped_share:.3%} clamped")
    return ", ".join(parts)


def _conclusion(audit: Audit) -> str:
    counts = Counter(finding.severity for finding in audit.findings)
    told = ", ".join(f"{counts[severity]} {severity.value}" for severity in Severity)
    if audit.blocking:
        return f"findings: {told}. A verdict on these sets would not hold: mend what blocks."
    return f"findings: {told}. Nothing here blocks a verdict."
