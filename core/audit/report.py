"""The audit in words: one screen, a file with all of it, JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from core.audit.audit import Audit
from core.audit.figures import Summary
from core.audit.kinds import KINDS, Finding, Severity

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
