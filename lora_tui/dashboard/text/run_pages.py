"""The pages of one run as lines: intervals, settings and files, transcripts side by side, and the health of its data.

Transcripts show the reference, the base model and the tuned one, with the words that were fixed and broken. Pure but
for the files' sizes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.runs.data_health import health_facts
from core.runs.paths import RunPaths
from core.runs.position import Position
from core.runs.row import NONE, duration, percent
from core.runs.run_figures import change
from core.runs.scores import read_score
from core.sanitise import sanitise
from core.scoring.evidence import SetScore
from core.scoring.side_by_side import Clip, columns, compare
from core.scoring.signs import limit as shown_limit
from core.scoring.signs import signed
from core.scoring.text import normaliser
from core.scoring.units import Unit
from core.system.files import exists
from lora_tui.cells import Pieces, broken, cropped, padded, table, width_of
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import Curve, Level, Plot
from lora_tui.dashboard.plots.series import Floats
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.text.verdict_lines import health_pieces

_LONGEST = 300
_ERRORS = f"{'S':>5} {'D':>5} {'I':>5} {'loss':>7}"


def interval_lines(view: RunView, width: int) -> list[Pieces]:
    """All intervals: error rates with S, D and I, loss, change against interval 0. The best one is marked.

    Domain and heldout stand side by side, or one below the other where `width` cells are too few.
    """
    base = next((i for i in view.snapshot.intervals if i.step == 0), None)
    if base is None:
        return [[("No interval yet: the base model is scored first.", "muted")]]
    step: list[Pieces] = [[(f"{'':2}{'step':>7}  ", "muted")]]
    rate = view.snapshot.unit.rate
    domain: list[Pieces] = [[(f"{f'domain {rate}':>11} {'change':>7} {'':>5} {_ERRORS}", "muted")]]
    heldout: list[Pieces] = [[(f"{f'heldout {rate}':>11} {'change':>7} {'±95%':>5} {_ERRORS}", "muted")]]
    widths = {one.step: one.half_width for one in view.heldout}
    limit = view.thresholds.heldout_regression_pp
    star, role = _star(view)
    for interval in view.snapshot.intervals:
        best = interval.step == view.verdict.best_step and view.verdict.chosen is None
        half = widths.get(interval.step)
        step.append([(star if best else "  ", role), (f"{interval.step:>7}  ", "")])
        domain.append(_score(interval.domain, base.domain, "", None))
        heldout.append(_score(interval.heldout, base.heldout, NONE if half is None else f"{half:.2f}", limit))
    beside = [[*s, *d, ("   ", ""), *h] for s, d, h in zip(step, domain, heldout, strict=True)]
    below = [[*s, *one] for scores in (domain, heldout) for s, one in zip(step, scores, strict=True)]
    fits = sum(len(text) for text, _ in beside[0]) <= width
    lines = beside if fits else [*below[: len(step)], [], *below[len(step) :]]
    note = f"changes in points against step 0; heldout may rise by {limit:g}, ! is more"
    return [*lines, [], [(note, "muted")], *_candidate_lines(view), *slice_lines(view), *_verdict_reasons(view)]


def _star(view: RunView) -> tuple[str, str]:
    """The sign of the best adapter, and its role: another one where it does not ship."""
    return ("★ ", "best") if view.ships else ("☆ ", "muted")


def _candidate_lines(view: RunView) -> list[Pieces]:
    """How each candidate did on the selection sets, intervals and what was made of them; nothing without such sets."""
    choice = view.judged.evidence.choice
    if choice is None or not choice.standings:
        return []
    width, (star, role) = max(len(one.name) for one in choice.standings), _star(view)
    lines: list[Pieces] = [
        [],
        [(f"{'':2}{'on selection sets':<{width}} {'domain':>7} {'heldout':>7} {'sure':>6}", "muted")],
    ]
    for one in choice.standings:
        mark = star if one.name == choice.name else "  "
        figures = f" {signed(-one.gain_pp):>7} {signed(one.rise_pp):>7} {100 * one.keeps:>5.0f}%"
        lines.append([(mark, role), (f"{one.name:<{width}}{figures}", "")])
    return lines


def slice_lines(view: RunView) -> list[Pieces]:
    """The slices that the gate asks for: error rates of base model and tuned adapter, and whether each keeps its limit.

    Nothing where the gate asks for none, or they are not counted yet.
    """
    significance = view.judged.evidence.significance
    if significance is None or not significance.slices:
        return []
    rules, rate = view.thresholds.slices, view.snapshot.unit.rate
    rows: list[tuple[str, ...]] = [("set", "slice", "clips", f"base {rate}", "tuned", "change", "95 %", "limit")]
    bad = []
    for score in significance.slices:
        before, after = (100 * errors / score.words if score.words else None for errors in (score.before, score.after))
        rise = None if before is None or after is None else after - before
        limit = rules[score.rule].threshold(score.dataset) if score.rule < len(rules) else None
        gain = score.dataset == "domain"
        most = None if limit is None else -limit if gain else limit
        bad.append(rise is not None and most is not None and rise > most + 1e-9)
        sure = score.certainty
        ends = () if sure is None else (-sure.high_pp, -sure.low_pp) if gain else (sure.low_pp, sure.high_pp)
        rows.append(
            (
                score.dataset, sanitise(score.label, 40), str(score.utterances), percent(before), percent(after),
                f"{'!' if bad[-1] else ''}{_signed(None if rise is None else round(rise, 2) + 0.0)}",
                " to ".join(map(signed, ends)) or NONE, NONE if most is None else f"≤ {shown_limit(most, '+')}",
            )
        )  # fmt: skip
    heading, *lines = table(rows, right={2, 3, 4, 5})
    told: list[Pieces] = [[(line, "fail" if wrong else "")] for line, wrong in zip(lines, bad, strict=True)]
    return [[], [("slices", "title")], [(heading, "muted")], *told]


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
    rise = _change(score, base)
    over = limit is not None and rise is not None and rise > limit
    return [
        (f"{percent(score.counts.wer_percent):>11} ", ""),
        (padded(f"{'!' if over else ''}{_signed(rise)}", 7, right=True), "fail" if over else ""),
        (f" {half_width:>5} {_errors(score)}", ""),
    ]


def _errors(score: SetScore) -> str:
    counts = score.counts
    loss = NONE if score.loss is None else f"{score.loss:.4f}"
    return f"{counts.substitutions:>5} {counts.deletions:>5} {counts.insertions:>5} {loss:>7}"


def _change(score: SetScore, base: SetScore) -> float | None:
    rise = change(base.counts, score.counts)
    return None if rise is None else round(rise, 2) + 0.0


def _signed(value: float | None) -> str:
    return NONE if value is None else signed(value)


@dataclass(frozen=True, slots=True)
class Transcripts:
    """All clips of one manifest. `problem`: why there are none."""

    clips: tuple[Clip, ...] = ()
    tuned_name: str = ""
    problem: str = ""

    @property
    def fixed(self) -> int:
        """Words fixed, in total."""
        return sum(clip.fixed for clip in self.clips)

    @property
    def broken(self) -> int:
        """Words broken, in total."""
        return sum(clip.broken for clip in self.clips)

    def sorted(self, *, broken_first: bool) -> list[Clip]:
        """Most fixed first (words fixed less words broken, then errors saved), or most broken first."""
        sign = -1 if broken_first else 1
        worse = {clip.id: (clip.broken - clip.fixed, clip.errors[1] - clip.errors[0]) for clip in self.clips}
        return sorted(self.clips, key=lambda c: (sign * worse[c.id][0], sign * worse[c.id][1], c.id))


def read_transcripts(paths: RunPaths, dataset: str, best_step: int | None, unit: Unit = Unit.WORD) -> Transcripts:
    """Of the base model and the tuned score, by `unit`; while there is none, of the best interval. Never raises."""
    tuned_path, name = paths.tuned(dataset), "tuned"
    if not exists(tuned_path) and best_step is not None:
        tuned_path, name = paths.evaluation(best_step, dataset), f"step {best_step}"
    first, second = read_score(paths.evaluation(0, dataset))[0], read_score(tuned_path)[0]
    if first is None or second is None:
        return Transcripts(problem=f"No {dataset} transcripts to compare yet: they come with the first interval.")
    later = {utterance.id: utterance.hypothesis for utterance in second.utterances}
    apply = _normaliser(first.normaliser.name)
    clips = [
        compare(clip.id, apply(clip.reference), apply(clip.hypothesis), apply(later[clip.id]), unit)
        for clip in first.utterances
        if clip.id in later
    ]
    return Transcripts(tuple(clips), name)


def clip_lines(clip: Clip, width: int) -> list[Pieces]:
    """The clip as aligned lines, broken where the screen ends. Errors are marked: [substituted], +inserted, ---."""
    head: list[tuple[str, str]] = [(cropped(sanitise(clip.id), max(10, width - 30)), "muted"), ("  ", "")]
    head.append((f"{clip.fixed} fixed", "fixed" if clip.fixed else "muted"))
    head.append((f", {clip.broken} broken", "broken" if clip.broken else "muted"))
    lines: list[Pieces] = [head]
    block: list[list[tuple[str, str]]] = _block()
    used = _LABEL
    for cells in columns(clip):
        size = max(width_of(text) for text, _ in cells)
        if used + size + 1 > width and used > _LABEL:
            lines += block
            block, used = _block(), _LABEL
        for line, (text, role) in zip(block, cells, strict=True):
            line.append((padded(text, size) + " ", role))
        used += size + 1
    return [*lines, *block, []]


_LABEL = 8


def _block() -> list[list[tuple[str, str]]]:
    return [[(f"  {name:<6}", "muted")] for name in ("ref", "base", "tuned")]


def _normaliser(name: str) -> Callable[[str], str]:
    try:
        return normaliser(name).apply
    except ValueError:
        return normaliser("basic").apply  # of a later version: the words are worth seeing all the same


PLOT_HEIGHT = 14
_NAME = 24


def health_lines(view: RunView, width: int, *, ascii_only: bool) -> list[Pieces]:
    """The whole page at `width` cells: the headline, the plots of the running error rate, then every fact, folded."""
    (mark, role), (title, _), (told, _) = health_pieces(view)
    lines: list[Pieces] = [[(mark, role)], *_folded(title, told, width, ""), []]
    shown = [p for p in view.positions if p.score == "tuned"] or list(view.positions)
    for position in shown:
        lines += [list(line) for line in draw(running_plot(position), width, PLOT_HEIGHT, ascii_only=ascii_only)]
        lines.append([])
    health = view.judged.evidence.data_health
    leaky = health is not None and bool(health.leaks)
    facts = health_facts(view.judged.evidence, view.verdict, view.thresholds, view.positions)
    for name, value in facts:
        role = "fail" if name == "Leakage" and leaky else ""
        role = "unknown" if "POSITION EFFECT" in value else role
        lines += _folded(sanitise(name, 60), sanitise(value), width, role)
    if not shown:
        missing = "No running error rate yet: it is drawn from evals/position.json, once the base model is scored."
        lines += [[], [(missing, "muted")]]
    return lines


def running_plot(position: Position) -> Plot:
    """The error rate of the first n clips, between the bounds that 95 of 100 shuffled orders keep to."""
    first = position.drawn_from
    xs = np.array(position.at[first:], np.float64)

    def curve(label: str, role: str, values: tuple[float, ...], *, dots: bool = False) -> Curve:
        ys: Floats = np.array(values[first:], np.float64)
        return Curve(label, role, xs, ys, dots=dots, legend=not dots, unit_digits=2)

    curves = (
        curve("low", "raw", position.low, dots=True),
        curve("high", "raw", position.high, dots=True),
        curve("", position.dataset, position.running),
    )
    effect = ", POSITION EFFECT" if position.effect else ""
    rate = position.unit.rate
    title = f"running {position.dataset} {rate} %, {position.score}{effect} (dots: 95 % of shuffled orders)"
    return Plot(title, curves, (Level(position.wer, "all", "line-base"),), x_name="clips")


def _folded(name: str, value: str, width: int, role: str) -> list[Pieces]:
    """A fact over as many lines as it takes."""
    return broken([(padded(cropped(name, _NAME - 1), _NAME), "muted"), (value, role)], width)
