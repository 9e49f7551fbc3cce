"""Charts and clips of a real run folder: what is drawn, and that nothing is lost or invented."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UserError
from core.runs.judged import judged
from core.runs.position import write_positions
from core.runs.row import Row
from core.runs.run_figures import of_run
from core.runs.store import read_run
from core.scoring.evidence import Thresholds
from core.scoring.side_by_side import Cell, columns, compare
from core.scoring.units import Unit
from lora_tui.cells import width_of
from lora_tui.output import export
from lora_tui.reports import html_page, json_document, markdown, svg
from lora_tui.reports import svg as pictures
from lora_tui.reports.clips import MOST_WORDS, aligned_lines, chosen_clips, heading
from lora_tui.reports.curves import Chart, Level, Line, charts, position_charts, thinned
from lora_tui.reports.report import Report, of_lines

MakeRun = Callable[..., Any]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_charts_of_a_run(fake_run: MakeRun) -> None:
    run = fake_run().good()
    loss, domain, heldout = charts(read_run(run.paths), Thresholds(), 1000)
    assert [line.name for line in loss.lines] == ["training", "domain", "heldout"]
    assert domain.lines[0].points[0] == (0, 50.0) and domain.lines[0].points[-1] == (1000, 30.0)
    assert domain.levels == (Level("baseline", 50.0), Level("target", 49.0))
    assert [level.name for level in heldout.levels] == ["baseline", "guardrail"]
    assert [level.value for level in heldout.levels] == pytest.approx([5.0, 5.2])
    texts = [e.text for e in ElementTree.fromstring(svg.render(domain, "2.1")).iter(f"{SVG}text")]  # noqa: S314
    assert {"Domain WER, %", "baseline 50.00", "target 49.00", "best: step 1000"} <= set(texts)


def test_the_health_of_the_data_is_in_every_report(fake_run: MakeRun) -> None:
    run = fake_run().good()
    leak = {"kind": "audio", "dataset": "heldout", "other": "train", "count": 1, "examples": ["heldout:1 ↔ train:1: x"]}
    run.health(leak)
    write_positions(run.paths)
    thresholds = Thresholds(accept_leakage="the product's own prompts")
    [row] = of_lines([of_run(Row("plan:2.1", "2.1"), judged(read_run(run.paths), thresholds))]).rows
    report = Report((replace(row, charts=position_charts(row.positions)),))
    for text in (markdown.render(report), html_page.render(report), json_document.render(report)):
        assert "1 clip of heldout in train" in text
        assert "60 clips, 600 words" in text and "POSITION EFFECT" in text and "own prompts" in text
    page = html_page.render(report)
    assert "Running domain WER, with the band of shuffled orders" in page and ">clips</text>" in page
    document = json.loads(json_document.render(report))["rows"][0]
    assert document["data_health"]["shared"] == [leak]
    assert [p["dataset"] for p in document["positions"]] == ["domain", "domain", "heldout", "heldout"]
    found = pictures.files(report)
    assert {key for _, key in found} == {"running-domain", "running-heldout"}
    svg_text = found["2.1-0123456789", "running-domain"][1]
    lines = list(ElementTree.fromstring(svg_text).iter(f"{SVG}polyline"))  # noqa: S314 - our own text
    assert len(lines) == 3, "the running WER, and the band on both sides"


def test_a_run_without_events_has_no_chart(fake_run: MakeRun) -> None:
    run = fake_run()
    assert charts(read_run(run.paths), Thresholds(), None) == ()
    assert chosen_clips(run.paths) == ()


def test_a_spike_and_a_nan_survive_thinning() -> None:
    values = [1.0] * 100_000
    values[54_321], values[70_000], values[70_001] = 9.0, math.nan, math.inf
    found = thinned(range(100_000), values)
    assert len(found) < 1500 and (54_321, 9.0) in found and (70_000, None) in found
    assert [step for step, _ in found] == sorted({step for step, _ in found})


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.booleans())
def test_everything_is_drawn_inside_the_picture(values: list[float], broken: bool) -> None:
    points: list[tuple[float, float | None]] = list(enumerate(values))
    points += [(len(values), None)] if broken else []
    chart = Chart("x", "X", "%", (Line("x", tuple(points)),), (Level("a", 1.0), Level("b", 1.1)))
    root = ElementTree.fromstring(svg.render(chart, "x"))  # noqa: S314 - our own text
    dots = [(float(e.get("cx", "")), float(e.get("cy", ""))) for e in root.iter(f"{SVG}circle")]
    assert len(dots) == len(values)
    assert all(0 <= x <= svg.WIDTH and 0 <= y <= svg.HEIGHT for x, y in dots)
    labels = [float(e.get("y", "")) for e in root.iter(f"{SVG}text") if (e.text or "")[:2] in ("a ", "b ")]
    assert abs(labels[0] - labels[1]) >= 13.9, "labels do not cover each other"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, size: float) -> None:
    found = svg.ticks(low, low + size)
    assert 1 <= len(found) <= 7 and all(low - size * 1e-6 <= tick <= low + size * (1 + 1e-6) for tick in found)


def test_the_best_and_worst_clips(fake_run: MakeRun) -> None:
    run = fake_run().good()
    found = chosen_clips(run.paths)
    assert {(clip.dataset, clip.kind) for clip in found} == {("domain", "best")}, "nothing got worse"
    first = found[0]
    assert heading(first) == f"domain, best: {first.id} (10 → 0 errors, 10 words fixed, 0 broken)"
    [block] = aligned_lines(first.columns)
    reference, base, tuned = ("".join(text for text, _ in line).split() for line in block)
    assert reference[1:] == tuned[1:] == ["right"] * 10 and base[1:] == ["[wrong]"] * 10


def test_a_very_long_clip_is_only_counted(fake_run: MakeRun) -> None:
    run = fake_run().good()
    for path in (run.paths.evaluation(0, "domain"), run.paths.tuned("domain")):
        document = json.loads(path.read_text())
        for utterance in document["utterances"]:
            utterance["reference"] = "right " * (MOST_WORDS + 1)
        path.write_text(json.dumps(document))
    clips = chosen_clips(run.paths)
    assert clips and all(clip.columns == () and clip.errors == (10, 0) for clip in clips)
    assert "words fixed" not in heading(clips[0])


def test_blocks_are_no_wider_than_asked(fake_run: MakeRun) -> None:
    column = (("word", ""), ("[other]", "broken"), ("word", ""))
    blocks = aligned_lines((column,) * 50, width=60)
    widths = [len("".join(text for text, _ in line)) for block in blocks for line in block]
    assert max(widths) <= 60 and len(blocks) > 5


def test_picture_names_are_safe_and_never_the_same() -> None:
    assert pictures.safe_name("2.1-0123456789") == "2.1-0123456789"
    odd = [pictures.safe_name(name) for name in ("a/b", "a b", "../../x", "\ud800")]
    assert len(set(odd)) == 4 and not any("/" in name or " " in name for name in odd)


def test_charts_are_not_written_behind_a_link_beside_the_report(fake_run: MakeRun, tmp_path: Path) -> None:
    snapshot = read_run(fake_run().good().paths)
    [row] = of_lines([of_run(Row("plan:2.1", "2.1"), judged(snapshot, Thresholds()))]).rows
    report = Report((replace(row, charts=charts(snapshot, Thresholds(), 1000)),))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run_matrix_files").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match=r"cannot be written: .*run_matrix_files: a link"):
        export(tmp_path / "out" / "run_matrix.md", report)
    assert not list((tmp_path / "theirs").iterdir())


def test_wide_characters_stand_one_above_the_other() -> None:
    clip = compare("a", "你好吗朋友", "你号吗友", "你好吗朋友", Unit.CHARACTER)
    (block,) = aligned_lines(columns(clip))
    texts = ["".join(text for text, _ in line) for line in block]
    assert texts[1].split()[1:] == ["你", "[号]", "吗", "--", "友"]
    widths = {tuple(width_of(text) + width_of(gap) for (text, _), (gap, _) in batched(line[1:])) for line in block}
    assert len(widths) == 1


def batched(cells: list[Cell]) -> list[tuple[Cell, Cell]]:
    """A cell's text with the room behind it."""
    return list(zip(cells[::2], cells[1::2], strict=True))
