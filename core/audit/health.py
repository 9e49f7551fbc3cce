"""The audit of a run's sets, reduced to what its verdict and its reports need. Equal contents, equal document.

It also says which utterances of the evaluation sets are of one recording. Two things follow, which are not the same.
Utterances with audio in common, if only a part of it, are *not independent*: they are weighed as one (`together`). An
utterance that says again what another says, from the same recording, is a *copy*, which adds nothing to a set
(`copies`). Sentences that were joined from the same recordings of single words have audio in common and are no copies
of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from core.audit.audit import Audit, Progress, Source, audit
from core.audit.kinds import JUDGED, Finding
from core.audit.line_checks import Summary
from core.errors import ManifestError
from core.manifests.hashing import HashCache, manifest_sha256
from core.manifests.manifest import Manifest
from core.scoring.data_health import SCHEMA_VERSION
from core.scoring.text import normaliser
from core.system.seals import hash_lines, with_checksum

_EXACT = frozenset({"same_audio", "leaked_audio"})
_NEAR = frozenset({"near_audio", "leaked_near_audio"})

SAID_AGAIN = 0.75
"""Share of the shorter text's words that the other has too, in their order, where one is a copy: a copy may be cut, or
its text reworded. Of 219 pairs of spoken digits that have recordings of single words in common, 8 have so many."""

SetLine = tuple[str, int]
"""(set, line)."""


class _Groups:
    """Places that belong together, directly or by others (union–find)."""

    def __init__(self) -> None:
        self._above: dict[SetLine, SetLine] = {}

    def join(self, one: SetLine, other: SetLine) -> None:
        self._above[self._root(one)] = self._root(other)

    def all(self) -> Iterator[dict[str, list[int]]]:
        """Each group: lines by set."""
        groups: dict[SetLine, dict[str, list[int]]] = {}
        for place in sorted(self._above):
            name, line = place
            groups.setdefault(self._root(place), {}).setdefault(name, []).append(line)
        yield from groups.values()

    def _root(self, place: SetLine) -> SetLine:
        while (above := self._above.setdefault(place, place)) != place:
            self._above[place] = self._above[above]
            place = above
        return place


def of_one_recording(
    findings: Iterable[Finding], texts: Mapping[str, Mapping[int, str]]
) -> tuple[dict[str, list[list[int]]], list[dict[str, str | int]]]:
    """(groups of lines with audio in common, by evaluation set; rows of how many lines of a set are copies).

    `texts`: role → line → text. A row has `dataset`, `other` and `count`: where they are two sets, how many lines of
    `dataset` are of a recording in `other`; where they are one, how many lines are beside the first of each recording.
    """
    words = normaliser("basic").apply
    common, copied = _Groups(), _Groups()
    for finding in findings:
        other, _, line = finding.other.rpartition(":")
        if finding.kind not in _EXACT | _NEAR or finding.where not in texts or other not in texts:
            continue
        one, another = (finding.where, finding.line), (other, int(line))
        common.join(one, another)
        said = [words(texts[name].get(number, "")).split() for name, number in (one, another)]
        if finding.kind in _EXACT or _says_again(*said):
            copied.join(one, another)
    together: dict[str, list[list[int]]] = {}
    for group in common.all():
        for name, lines in group.items():
            if name in JUDGED and len(lines) > 1:
                together.setdefault(name, []).append(lines)
    return {name: sorted(groups) for name, groups in sorted(together.items())}, _rows(list(copied.all()))


def _says_again(one: Sequence[str], another: Sequence[str]) -> bool:
    """Whether most words of the shorter text are in the other, in their order."""
    blocks = SequenceMatcher(None, one, another, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= SAID_AGAIN * min(len(one), len(another))


def _rows(groups: Sequence[Mapping[str, Sequence[int]]]) -> list[dict[str, str | int]]:
    rows: list[dict[str, str | int]] = []
    for name in JUDGED:
        for other in JUDGED:
            both = [group for group in groups if name in group and other in group]
            count = sum(len(group[name]) - (name == other) for group in both)
            if count:
                rows.append({"dataset": name, "other": other, "count": count})
    return rows


METHOD_VERSION = 10
"""Raise it whenever the same sets would give another document: also when what the audit recognises changes."""
EXAMPLES = 5
_KINDS = {
    "leaked_audio": "audio",
    "same_audio": "audio",
    "leaked_near_audio": "near_audio",
    "near_audio": "near_audio",
    "leaked_text": "text",
    "same_text": "text",
    "leaked_near_text": "near_text",
    "near_text": "near_text",
    "shared_speaker": "speaker",
}
_ORDER = ("audio", "near_audio", "text", "near_text", "speaker")


def health_key(
    manifests: Mapping[str, Manifest],
    hashes: Mapping[str, str],
    target_rms: float,
    cache: HashCache,
    progress: Progress,
) -> str:
    """16 hex digits over all that the document follows from: method, level, contents and speakers of the sets.

    `hashes` are what the sets' contents must have. Raises ManifestError when they have not, AudioError.
    """
    facts: list[Any] = [METHOD_VERSION, SCHEMA_VERSION, target_rms]
    for name, manifest in manifests.items():
        digest = manifest_sha256(manifest, cache, progress)
        if digest != hashes.get(name):
            raise ManifestError(
                f"data.{name}: {manifest.path} or its audio changed after this run was planned: bring back what the "
                "run was made with, or submit the plan again"
            )
        facts.append([name, digest, [utterance.speaker for utterance in manifest.utterances]])
    return hash_lines("data health", facts)[:16]


def health_document(
    manifests: Mapping[str, Manifest],
    hashes: Mapping[str, str],
    target_rms: float,
    key: str,
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """The document (docs/events.md). `manifests`: by role; `target_rms`: what the run brings
    its clips to. `progress(done, total)` may raise, to stop."""
    sources = [
        Source(one.path, name, name, frozenset(utterance.line for utterance in one.utterances))
        for name, one in manifests.items()
    ]
    found = audit(sources, workers=workers, target_rms=target_rms, progress=progress)
    together, copies = _copies(manifests, found.findings)
    content = {
        "schema": SCHEMA_VERSION,
        "method": METHOD_VERSION,
        "key": key,
        "target_rms": target_rms,
        "hashes": {name: hashes[name] for name in manifests},
        "sets": [_set(summary, found.findings) for summary in found.summaries],
        "shared": _shared(found),
        "together": together,
        "copies": copies,
        "findings": _counts(found.findings),
    }
    return with_checksum(content)


def _copies(
    manifests: Mapping[str, Manifest], findings: Sequence[Finding]
) -> tuple[list[dict[str, Any]], list[dict[str, str | int]]]:
    """`of_one_recording`, by positions from 0 in place of lines: what score documents are in the order of."""
    lines = {name: one.utterances for name, one in manifests.items()}
    texts = {name: {u.line: u.text for u in utterances} for name, utterances in lines.items()}
    together, copies = of_one_recording(findings, texts)
    places = {name: {u.line: u.index for u in utterances} for name, utterances in lines.items()}
    rows = [
        {"dataset": name, "groups": [[places[name][line] for line in group] for group in groups]}
        for name, groups in together.items()
    ]
    return rows, copies


def _set(summary: Summary, findings: Sequence[Finding]) -> dict[str, Any]:
    kinds = Counter(finding.kind for finding in findings if finding.where == summary.name)
    low, middle, high = summary.rms_db or (None, None, None)
    after_low, _, after_high = summary.rms_after_db or (None, None, None)
    return {
        "name": summary.name,
        "clips": summary.lines,
        "words": summary.words,
        "seconds": round(summary.seconds, 3),
        "speakers": summary.speakers,
        "silent": kinds["silent"],
        "clipped": summary.clipped_clips,
        "rms_db": middle,
        "rms_spread_db": _spread(low, high),
        "rms_after_spread_db": _spread(after_low, after_high),
        "clamped_share": round(summary.clamped_share, 6),
    }


def _spread(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else round(high - low, 1)


def _shared(found: Audit) -> list[dict[str, Any]]:
    """What an evaluation set has in common with a training set, or with another evaluation set."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in found.findings:
        other = finding.other.rpartition(":")[0]
        if finding.kind not in _KINDS or finding.where not in JUDGED or other in ("", finding.where):
            continue
        groups.setdefault((_KINDS[finding.kind], finding.where, other), []).append(finding)
    rows = []
    for (kind, dataset, other), findings in groups.items():
        # the audit walks over sets of names, whose order changes from process to process
        ordered = sorted(findings, key=lambda f: (f.line, f.other, f.detail))
        examples = [f"{f.where}:{f.line} ↔ {f.other}: {f.detail}" for f in ordered[:EXAMPLES]]
        count = len(findings) if kind == "speaker" else len({f.line for f in findings})
        rows.append({"kind": kind, "dataset": dataset, "other": other, "count": count, "examples": examples})
    return sorted(rows, key=lambda row: (_ORDER.index(str(row["kind"])), str(row["dataset"]), str(row["other"])))


def _counts(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    """All that was found, by kind and set."""
    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(finding.kind, Counter())[finding.where] += 1
    return {kind: dict(by_set) for kind, by_set in counts.items()}
