"""The pages of one run as lines: intervals, settings with identity and files. Pure but for the files' sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.runs.figures import NONE, duration, percent
from core.runs.paths import RunPaths
from core.sanitise import sanitise
from core.scoring.evidence import SetScore
from lora_tui.cells import Pieces, padded
from lora_tui.dashboard.reading.snapshots import RunView

_LONGEST = 300
_ERRORS = f"{'S':>5} {'D':>5} {'I':>5} {'loss':>7}"


def interval_lines(view: RunView, width: int) -> list[Pieces]:
    """All intervals: WER with S, D and I, loss, change against interval 0. The best one is marked.

    Domain and heldout stand side by side, or one below the other where `width` cells are too few.
    """
    base = next((i for i in view.snapshot.intervals if i.step == 0), None)
    if base is None:
        return [[("No interval yet: the base model is scored first.", "muted")]]
    step: list[Pieces] = [[(f"{'':2}{'step':>7}  ", "muted")]]
    domain: list[Pieces] = [[(f"{'domain WER':>11} {'change':>7} {'':>5} {_ERRORS}", "muted")]]
    heldout: list[Pieces] = [[(f"{'heldout WER':>11} {'change':>7} {'±95%':>5} {_ERRORS}", "muted")]]
    widths = {change.step: change.half_width for change in view.heldout}
    limit = view.thresholds.heldout_regression_pp
    for interval in view.snapshot.intervals:
        best = interval.step == view.verdict.best_step
        half = widths.get(interval.step)
        step.append([("★ " if best else "  ", "best"), (f"{interval.step:>7}  ", "")])
        domain.append(_score(interval.domain, base.domain, "", None))
        heldout.append(_score(interval.heldout, base.heldout, NONE if half is None else f"{half:.2f}", limit))
    beside = [[*s, *d, ("   ", ""), *h] for s, d, h in zip(step, domain, heldout, strict=True)]
    below = [[*s, *one] for scores in (domain, heldout) for s, one in zip(step, scores, strict=True)]
    fits = sum(len(text) for text, _ in beside[0]) <= width
    lines = beside if fits else [*below[: len(step)], [], *below[len(step) :]]
    note = f"changes in points against step 0; heldout may rise by {limit:g}, ! is more"
    return [*lines, [], [(note, "muted")], *_verdict_reasons(view)]


def _verdict_reasons(view: RunView) -> list[Pieces]:
    roles = {"PASS": "pass", "FAIL": "fail", "UNKNOWN": "unknown"}
    lines: list[Pieces] = [[], [("verdict  ", "title"), (view.verdict.word, "strong")]]
    for criterion in view.verdict.criteria:
        state = criterion.state.value
        lines.append(
            [(f"{state:<8}", roles[state]), (f"{criterion.title}: ", ""), (sanitise(criterion.reason), "muted")]
        )
    lines += [[("problem  ", "fail"), (sanitise(problem), "")] for problem in view.judged.problems]
    return lines


def settings_lines(view: RunView) -> list[Pieces]:
    """Identity, attempts, settings, hashes, provenance, files."""
    snapshot = view.snapshot
    config = snapshot.config or {}
    lines: list[Pieces] = [
        [("identity", "title"), (f"  {sanitise(snapshot.identity or NONE, 40)}", "strong")],
        [(f"  folder      {sanitise(str(snapshot.paths.root))}", "")],
        [(f"  duration    {duration(snapshot.duration_s)}", "")],
    ]
    for attempt in snapshot.attempts:
        went_on = "" if attempt.resumed_from is None else f", from step {attempt.resumed_from}"
        ended = "" if attempt.final is None else f", ended: {sanitise(attempt.final.outcome, 40)}"
        where = sanitise(f"{attempt.device} {attempt.precision}", 40)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.started))
        lines.append([(f"  attempt {attempt.number:<3} {started} on {where}{went_on}{ended}", "")])
    lines += [[("warning" if n.level == "warning" else "notice ", "window"), (f"  {sanitise(n.message)}", "")]
              for n in snapshot.notices]  # fmt: skip
    for title, value in (("settings", snapshot.settings), ("hashes", config.get("hashes")),
                         ("gate", config.get("gate")), ("provenance", config.get("provenance"))):  # fmt: skip
        if isinstance(value, Mapping) and value:
            lines += [[], [(title, "title")], *_mapping_lines(value)]
    return [*lines, [], [("files", "title")], *_file_lines(snapshot.paths)]


def _mapping_lines(values: Mapping[str, Any], indent: str = "  ") -> list[Pieces]:
    lines: list[Pieces] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [[(f"{indent}{sanitise(str(key), 60)}", "muted")], *_mapping_lines(value, indent + "  ")]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append([(f"{indent}{padded(sanitise(str(key), 60), 24)} ", "muted"), (sanitise(text, _LONGEST), "")])
    return lines


def _file_lines(paths: RunPaths) -> list[Pieces]:
    lines: list[Pieces] = []
    for path in (paths.config, paths.events, paths.log, paths.result, paths.tuned("domain"), paths.tuned("heldout")):
        lines.append([(f"  {path.relative_to(paths.root)!s:<24} ", ""), (_size(path), "muted")])
    for link in (paths.best, paths.last):
        try:
            target = str(link.readlink())
        except OSError:
            target = "missing"
        lines.append([(f"  {link.name:<24} ", ""), (f"-> {sanitise(target, 100)}", "muted")])
    return lines


def _size(path: Path) -> str:
    try:
        size = path.stat().st_size
    except OSError:
        return "missing"
    return f"{size} bytes" if size < 10_000 else f"{size / 1000:,.0f} kB".replace(",", " ")


def _score(score: SetScore, base: SetScore, half_width: str, limit: float | None) -> list[tuple[str, str]]:
    change = _change(score, base)
    over = limit is not None and change is not None and change > limit
    return [
        (f"{percent(score.counts.wer_percent):>11} ", ""),
        (padded(f"{'!' if over else ''}{_signed(change)}", 7, right=True), "fail" if over else ""),
        (f" {half_width:>5} {_errors(score)}", ""),
    ]


def _errors(score: SetScore) -> str:
    counts = score.counts
    loss = NONE if score.loss is None else f"{score.loss:.4f}"
    return f"{counts.substitutions:>5} {counts.deletions:>5} {counts.insertions:>5} {loss:>7}"


def _change(score: SetScore, base: SetScore) -> float | None:
    now, before = score.counts.wer_percent, base.counts.wer_percent
    return None if now is None or before is None else round(now - before, 2) + 0.0


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"
