"""`lora-cli errors RUN_DIR`: what the adapter broke or never learnt, to listen to, correct or record more of."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from core.console import document, err, out
from core.errors import ExitCode, ManifestError, UserError
from core.manifests.manifest import (
    Manifest,
    Utterance,
    manifest_line,
    read_manifest,
    refuse_to_overwrite,
    write_manifest,
)
from core.runs.paths import RunPaths
from core.runs.scores import ClipChange, Comparison, compare
from core.scoring.alignment import WordChange, word_changes
from core.scoring.position import PositionReport, ScoredClip, Slice, position_report
from core.scoring.text import normaliser
from core.scoring.units import Unit, total

KINDS = ("broken", "never learnt")
HEARD = 3
"""Mishearings of a word that are shown."""


def errors(args: argparse.Namespace) -> ExitCode:
    """Print broken and never learnt words, and what the manifest's order does to WER; write the clips as a manifest."""
    if args.limit < 0:
        raise UserError(f"--limit {args.limit}: must be 0 or more")
    if args.output:
        refuse_to_overwrite(args.output, args.force)
    comparison = compare(RunPaths(args.run), args.dataset)
    manifest = _manifest(comparison, required=args.output is not None)
    basic = normaliser(comparison.normaliser).apply
    texts = ((basic(c.reference), basic(c.before), basic(c.after)) for c in comparison.clips)
    words = word_changes(texts, comparison.unit)
    speakers = {u.id: u.speaker for u in manifest.utterances} if manifest else {}
    scored = [ScoredClip(c.counts_after, c.seconds, speakers.get(c.id)) for c in comparison.clips]
    position = position_report(scored)
    if args.json:
        document(_as_json(comparison, words, position))
    else:
        for line in _lines(comparison, words, position, args.limit):
            out(line)
    if args.output and manifest:
        count = write_manifest(args.output, _rows(comparison, manifest, args), args.force)
        # stdout is the report; with --json it must stay one object
        told = f"{args.output}: {count} clips, the worst first"
        (err if args.json else out)(told)
    return ExitCode.ACCEPTED


def _manifest(comparison: Comparison, required: bool) -> Manifest | None:
    """The manifest that was scored: for speakers, and for the paths of the clips."""
    try:
        return read_manifest(comparison.manifest, check_audio=False)
    except ManifestError:
        if required:
            raise
        return None


def _worst_first(comparison: Comparison) -> list[ClipChange]:
    chosen = [clip for clip in comparison.clips if clip.kind in KINDS]
    return sorted(
        chosen,
        key=lambda c: (KINDS.index(c.kind), c.counts_before.errors - c.counts_after.errors, -c.counts_after.errors),
    )


def _rows(comparison: Comparison, manifest: Manifest, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    by_id: dict[str, Utterance] = {u.id: u for u in manifest.utterances}
    for clip in _worst_first(comparison):
        utterance = by_id.get(clip.id)
        if utterance is None or utterance.text != clip.reference:
            raise ManifestError(f"{manifest.path}: changed after the run: {clip.id} is not in it as it was scored")
        facts = {"errors_before": clip.counts_before.errors, "errors_after": clip.counts_after.errors}
        more = {"finding": clip.kind, "heard_before": clip.before, "heard_after": clip.after}
        yield manifest_line(utterance, args.output.parent, **more, **facts)


def _lines(comparison: Comparison, words: list[WordChange], position: PositionReport, limit: int) -> Iterator[str]:
    before = total(c.counts_before for c in comparison.clips)
    after = total(c.counts_after for c in comparison.clips)
    kinds = Counter(clip.kind for clip in comparison.clips)
    yield (
        f"{comparison.unit.rate} {before.wer_percent or 0:.2f} → {after.wer_percent or 0:.2f} % ({comparison.source}), "
        f"{len(comparison.clips)} clips: {kinds['broken']} broken, {kinds['never learnt']} never learnt, "
        f"{kinds['better']} better, {kinds['right']} right before and after"
    )
    broken = [w for w in words if w.broken]
    yield from _word_lines("broken (right before, wrong now)", broken, limit, comparison.unit)
    never = sorted((w for w in words if w.never), key=lambda w: (-w.never, w.word))
    yield from _word_lines("never learnt (wrong before and now)", never, limit, comparison.unit)
    yield from position_lines(position, comparison.unit)


def _word_lines(title: str, words: list[WordChange], limit: int, unit: Unit) -> Iterator[str]:
    if not words:
        return
    yield f"{unit.plural} {title}: {len(words)}"
    for word in words[:limit]:
        heard = ", ".join(f"{_shown(other)} {n}" for other, n in word.heard.most_common(HEARD))
        counts = f"{word.broken} broken, {word.never} never, {word.fixed} fixed of {word.occurrences}"
        yield f"  {_shown(word.word)}: {counts}; heard: {heard}"


def _shown(unit: str) -> str:
    return "(space)" if unit.isspace() else unit or "(nothing)"


def position_lines(report: PositionReport, unit: Unit) -> Iterator[str]:
    """The position report in words: is the average a lucky one?"""
    verdict = "POSITION EFFECT" if report.position_effect else "no position effect"
    yield f"order of the manifest: {verdict} (p = {report.p_value:.4f} that a shuffled order drifts as far)"
    settled, expected = report.settled_after, report.shuffled_settles_after
    after = f"after {settled} of {len(report.running)} clips; shuffled: {expected}"
    yield f"running {unit.rate} stays within 0.2 points of its end {after}"
    for title, slices in (("position", report.blocks), ("length", report.durations), ("speaker", report.speakers)):
        if slices:
            yield f"{unit.rate} by {title}: " + "; ".join(map(_slice, slices))


def _slice(part: Slice) -> str:
    wer = part.counts.wer_percent
    return f"{part.name} " + ("nothing to count" if wer is None else f"{wer:.1f} %")


def _word(word: WordChange) -> dict[str, Any]:
    # Field by field: asdict would break the Counter.
    told = {name: getattr(word, name) for name in ("word", "occurrences", "broken", "fixed", "never")}
    return told | {"heard": dict(word.heard)}


def _as_json(comparison: Comparison, words: list[WordChange], position: PositionReport) -> dict[str, Any]:
    return {
        "schema": 1,
        "source": comparison.source,
        "unit": comparison.unit,
        "words": [_word(word) for word in words],
        "clips": [asdict(clip) | {"finding": clip.kind} for clip in _worst_first(comparison)],
        "position": asdict(position) | {"position_effect": position.position_effect},
    }
