"""What is said in words: verdict, columns, layout, log, machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from core.queue.gpu.choice import GIB, Devices, Gpu
from core.runs.matrix import CRITERIA, differing_settings
from core.runs.position import write_positions
from core.runs.row import Figures, Row, Wer
from core.runs.status import Status
from core.scoring.evidence import State, Thresholds
from lora_tui.dashboard.layout import Sizes, share
from lora_tui.dashboard.reading.log_text import last_lines, read_tail, resolved
from lora_tui.dashboard.reading.machine import ResourceReader
from lora_tui.dashboard.reading.snapshots import Board, RunView
from lora_tui.dashboard.reading.watch import Watch
from lora_tui.dashboard.screens.panels import Header, VerdictPanel
from lora_tui.dashboard.text.columns import COLUMNS, ORDERS, fitting, heading, needs, row_pieces, sorted_rows
from lora_tui.dashboard.text.run_pages import health_lines
from lora_tui.dashboard.text.verdict_lines import verdict_lines

Make = Callable[..., Any]


def view_of(run: Any) -> RunView:
    watch = Watch(run.paths)
    watch.refresh(Thresholds())
    view = watch.view(watch.row(Row("x", "2.1")))
    assert view is not None
    return view


def panel(view: RunView) -> str:
    return "\n".join("".join(text for text, _ in line.pieces) for line in verdict_lines(view))


def painted(run: Any, width: int, height: int, **of_view: Any) -> list[str]:
    """The lines of the board's panel."""
    watch = Watch(run.paths)
    watch.refresh(Thresholds())
    row = watch.row(Row("x", "2.1"))
    view = watch.view(row)
    assert view is not None
    board = VerdictPanel(ascii_only=False)
    board.run, board.row = replace(view, **of_view), row
    return ["".join(text for text, _ in pieces) for pieces in board.paint(width, height)]


def test_an_accepted_run_has_six_passes_with_numbers_thresholds_and_distance(make_run: Make) -> None:
    said = panel(view_of(make_run().train(1000).finish()))
    assert said.count("✓ PASS") == 6
    [integrity] = [line for line in said.splitlines() if "Artifact integrity" in line]
    assert integrity.split()[-1] == "matches", "a dash would read as missing"
    gain = next(line for line in said.splitlines() if "Domain change" in line)
    assert "−5.00" in gain and "≤ −1 points" in gain and "4.00 to spare" in gain


def test_while_it_trains_the_panel_says_what_is_missing_and_what_it_would_be(make_run: Make) -> None:
    said = panel(view_of(make_run().train(800)))
    stability = next(line for line in said.splitlines() if "Stability" in line)
    assert "? UNKNOWN" in stability and "800 steps completed" in said
    gain = next(line for line in said.splitlines() if "Domain change" in line)
    assert "? UNKNOWN" in gain and "−5.00" in gain and "so far PASS" in gain


def test_what_is_missing_stands_once_beside_the_criterion_or_below_it(make_run: Make) -> None:
    run = make_run().train(180)
    wide = painted(run, 120, 30)
    [line] = [one for one in wide if "Convergence" in one]
    assert line.rstrip().endswith("< 0 nats/1000  1 of at least 4 intervals so far.")
    [integrity] = [one for one in wide if "Artifact integrity" in one]
    assert integrity.rstrip().endswith("has not scored lora_adapter_best."), "it has no threshold"
    assert not any("what is missing" in one for one in wide) and len(wide) < len(painted(run, 70, 30))


def test_what_a_run_cannot_pass_by_has_the_mark_and_the_colour_of_a_fail(make_run: Make) -> None:
    run = make_run(steps=120).train(100)
    for height in (7, 30):
        lines = verdict_lines(view_of(run), width=120, height=height)
        [line] = [one for one in lines if any("Stability" in text for text, _ in one.pieces)]
        said = "".join(text for text, _ in line.pieces)
        assert said.startswith("✗ UNKNOWN") and line.pieces[0][1] == line.pieces[-1][1] == "fail"
        assert said.endswith("cannot pass: 120 of the 1000 steps that stability asks for are planned")


LEAK = {"kind": "near_audio", "dataset": "heldout", "other": "train", "count": 2, "examples": ["heldout:1 ↔ train:7"]}


def test_the_panel_says_in_a_line_how_the_data_are(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    assert "✓ data ok Data health        no leaked recording in 150 clips" in panel(view_of(run))
    run.health(LEAK)
    said = panel(view_of(run))
    assert "? UNKNOWN Data health        2 recordings leak into evaluation" in said
    run.paths.data_health.unlink()
    assert "not audited yet" in panel(view_of(run))


@pytest.mark.parametrize("width", [60, 79, 159])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_data_page_shows_sets_leaks_running_wer_and_parity(make_run: Make, width: int, ascii_only: bool) -> None:
    run = make_run().train(1000).finish()
    run.health(LEAK)
    write_positions(run.paths)
    lines = ["".join(text for text, _ in line) for line in health_lines(view_of(run), width, ascii_only=ascii_only)]
    said = "\n".join(lines)
    assert "running domain WER %, tuned" in said and "running heldout WER %, tuned" in said
    assert said.count("clips 0") == 2
    for name in ("Set train", "Set domain", "Leakage", "Domain order, tuned", "Heldout WER by length", "Parity"):
        assert any(line.startswith(name) for line in lines), name
    assert "2 clips of heldout in train" in " ".join(said.split())
    assert max(map(len, lines[2:])) <= width
    assert any(role == "fail" for line in health_lines(view_of(run), width, ascii_only=False) for _, role in line)


def test_the_data_page_of_a_run_that_has_just_begun(make_run: Make) -> None:
    run = make_run()
    run.flush()
    run.paths.data_health.unlink()
    said = "\n".join("".join(t for t, _ in line) for line in health_lines(view_of(run), 79, ascii_only=False))
    assert "not audited yet" in said and "once the base model is scored" in said


def test_without_a_run_it_says_so() -> None:
    said = VerdictPanel(ascii_only=False).paint(80, 7)
    assert "select a row" in "".join(text for text, _ in said[0])


def test_every_width_is_filled_and_the_verdict_is_seen_at_80(make_run: Make) -> None:
    watch = Watch(make_run().train(1000).finish().paths)
    watch.refresh(Thresholds())
    row = watch.row(Row("x", "2.1"))
    for width in range(30, 260):
        columns = fitting(width)
        for pieces in (heading(columns), row_pieces(row, columns, selected=True, pinned="", ascii_only=False)):
            assert sum(len(text) for text, _ in pieces) <= width
    titles = [column.title for column, _ in fitting(80)]
    assert {"id", "state", "done", "ETA", "s/step", "domain WER", "heldout WER", "verdict"} <= set(titles)
    line = "".join(t for t, _ in row_pieces(row, fitting(80), selected=True, pinned="", ascii_only=False))
    assert "35.00 −5.00" in line and "10.10 +0.10" in line and "✓ accepted" in line and "100%" in line


def test_the_row_of_a_run_that_goes_on(make_run: Make) -> None:
    watch = Watch(make_run().train(800).paths)
    watch.refresh(Thresholds())
    row = watch.row(Row("x", "2.1"))
    assert row.active and row.status == "training" and row.figures.eta_s is not None and row.figures.eta_s > 0
    assert row.figures.pace_s == pytest.approx(0.25)
    # 200 steps, and one more evaluation as long as those before: half of the time was not spent on steps.
    assert 200 * 0.25 < row.figures.eta_s < 200 * 0.25 + 200


def test_the_verdict_panel_has_a_line_for_every_criterion() -> None:
    assert share(80, 24, 7).verdict == 2 + len(CRITERIA), "the sentence on two lines"
    assert share(120, 24, 7).verdict == 1 + len(CRITERIA)
    assert share(120, 24, 7, more=1).verdict == 2 + len(CRITERIA), "of a gate that names a runtime"
    for height in range(7, 70):
        for width in (40, 80, 120, 200):
            with_it, without = share(width, height, 7, upcoming=True), share(width, height, 7)
            assert bool(with_it.plots) == bool(without.plots), "the line on what is next takes the plots from nobody"
            whole = with_it.table + with_it.plots + with_it.verdict + with_it.log + with_it.upcoming
            assert whole == height - 3, "header, status line and footer are the others"


def test_remarks_push_no_criterion_off_a_small_screen(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    remark = "Judged by a gate looser than the default: gain ≥ 0.1 instead of 1.0."
    loose = replace(view_of(run).verdict, remarks=(remark,))
    small = painted(run, 200, 8, verdict=loose)[:8]
    assert remark in small[1] and [line.partition("PASS")[1] for line in small[2:]] == ["PASS"] * len(CRITERIA)
    assert remark in painted(run, 200, 30, verdict=loose)[1], "where there is room it has a line of its own"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_sentence_of_where_it_stands_is_whole_and_first(make_run: Make, width: int) -> None:
    for height in (2, 9, 30):
        said = " ".join(line.strip() for line in painted(make_run().train(800), width, height)[:2])
        assert said.startswith("on course: step 500 would ship, domain −5.00, heldout +0.10 (0.10 to spare), "), said
        assert " % chance that both limits hold" in said


def test_a_fail_never_stands_without_its_reason_at_80_by_24(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    view = view_of(run)
    for number, criterion in enumerate(view.verdict.criteria):
        for value in (criterion.value, None):
            failed = replace(criterion, state=State.FAIL, value=value, reason="It is as it is.")
            others = tuple(failed if i == number else one for i, one in enumerate(view.verdict.criteria))
            lines = painted(run, 80, 8, verdict=replace(view.verdict, criteria=others))
            [line] = [one for one in lines if "✗ FAIL" in one]
            assert any(word in line for word in ("It is as it is", "too much", "short", "spare", "falling")), line


def test_of_a_missed_threshold_it_is_told_how_sure_it_is_that_it_is_missed(make_run: Make) -> None:
    too_much = {0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}
    [fail] = [line for line in painted(make_run(heldout=too_much).train(1000).finish(), 80, 9) if "✗ FAIL" in line]
    assert "1.00 too much, 99." in fail, fail


def test_what_fails_is_seen_however_few_lines_there_are(make_run: Make) -> None:
    too_much = {0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}
    goes_on, ended = make_run(heldout=too_much).train(760), make_run("2.2", "1" * 10, heldout=too_much)
    for height in range(4, 24):
        said = "\n".join(painted(goes_on, 100, height))
        assert "so far FAIL: 1.00 too much" in said, (height, said)
    ended.train(1000).finish()
    for height in range(3, 24):
        said = "\n".join(painted(ended, 100, height))
        assert "✗ FAIL" in said and said.count("\n") < max(height, 9), (height, said)


def test_the_lines_that_are_left_hold_reasons_of_what_is_unknown_first(make_run: Make) -> None:
    run = make_run().train(760)
    lines = painted(run, 100, 10)
    assert any(line.strip().startswith("There is no valid tuned score of domain") for line in lines)
    assert not any("Over 4 intervals" in line for line in lines) and len(lines) <= 10


def test_what_fails_so_far_has_the_colour_of_a_fail(make_run: Make) -> None:
    too_much = {0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}
    lines = verdict_lines(view_of(make_run(heldout=too_much).train(760)))
    roles = {text: role for line in lines for text, role in line.pieces if text.startswith("so far")}
    assert roles == {"so far PASS: 4.00 to spare": "muted", "so far FAIL: 1.00 too much": "fail"}


def test_how_sure_a_number_is_stands_beside_it(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    for width in (100, 160):
        gain = next(line for line in painted(run, width, 9) if "Domain change" in line)
        assert "> 99.9 %" in gain, gain


def test_a_permission_is_no_setting_by_which_rows_are_told_apart() -> None:
    high = {"train": {"learning_rate": 3e-4, "allow_high_learning_rate": True}}
    low = {"train": {"learning_rate": 1e-4, "allow_high_learning_rate": False}}
    assert differing_settings([high, low]) == ("learning_rate=0.0003", "learning_rate=0.0001")


def test_rows_of_a_sweep_are_told_apart_where_their_title_is_cut_off() -> None:
    row = Row("x", "3.1#1", title="three learning rates", settings="learning_rate=0.0001")
    shown = row_pieces(row, fitting(120), selected=True, pinned="", ascii_only=False)
    assert "learning_rate=0.0001" in "".join(text for text, _ in shown)


def test_a_reason_names_files_without_the_runs_folder_which_is_known(make_run: Make) -> None:
    run = make_run().train(1000).finish()
    view = view_of(run)
    reason = f"{run.paths.config}: it was made of other data"
    told = replace(view.verdict.criteria[0], state=State.UNKNOWN, reason=reason)
    verdict = replace(view.verdict, criteria=(told, *view.verdict.criteria[1:]))
    said = panel(replace(view, verdict=verdict))
    assert "  run.json: it was made of other data" in said and str(run.paths.root) not in said


def test_the_layout_never_takes_more_than_there_is() -> None:
    for width, height, rows in product((20, 50, 80, 200), range(1, 80), (0, 1, 7, 1000)):
        found = share(width, height, rows)
        assert not found.usable or found.table + found.plots + found.verdict + 3 <= height
        assert min(found.table, found.plots, found.verdict) >= 0


def test_what_is_resized_by_hand_takes_its_lines_from_the_plots() -> None:
    for sizes in (Sizes(table=3), Sizes(verdict=-2), Sizes(log=4), Sizes(table=60), Sizes(verdict=60), Sizes(log=-60)):
        for width, height in product((80, 120, 200), range(6, 70)):
            found = share(width, height, 3, sizes=sizes)
            assert found.table + found.plots + found.verdict + found.log + 3 <= height
            assert min(found.table, found.plots, found.verdict, found.log) >= 0
    assert share(120, 40, 3, sizes=Sizes(log=4)).log == 4
    assert share(120, 40, 3, sizes=Sizes(table=2)).table == share(120, 40, 3).table + 2


def test_the_log_has_lines_of_its_own_where_there_is_room_and_it_has_some() -> None:
    assert share(160, 60, 3).log == 10 and share(160, 60, 3, log=1).log == 0 and share(80, 24, 3).log == 0


@pytest.mark.parametrize(
    ("size", "rates", "arrangement"),
    [
        ((80, 24), False, "first"), ((80, 24), True, "rates"), ((120, 40), False, "block"),
        ((160, 24), True, "row"), ((160, 50), True, "block"), ((100, 60), True, "rates-block"),
    ],
)  # fmt: skip
def test_all_plots_are_there_where_they_have_room(size: tuple[int, int], rates: bool, arrangement: str) -> None:
    assert share(*size, 2, rates=rates).arrangement == arrangement


def test_80_by_24_holds_everything() -> None:
    found = share(80, 24, 7)
    assert found.table >= 5 and found.plots >= 8 and found.verdict == 8


def test_what_is_given_up_as_the_screen_shrinks() -> None:
    assert share(80, 16, 7).plots == 0 and share(80, 16, 7).verdict == 8
    assert share(80, 10, 7).verdict == 2 and share(80, 10, 7).table == 5, "the sentence stays"
    assert share(50, 24, 7).verdict == 2
    assert not share(20, 24, 7).usable


def test_a_log_is_shown_as_a_terminal_would_have_left_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"start\n 10%|#\r100%|##########\n\x1b[31mred\x1b[0m \x1b]52;c;ZXZpbA==\x07end\nbad \xff\n\n")
    assert read_tail(log) == ["start", "100%|##########", "red end", "bad �", "", ""]
    assert last_lines(log) == ("start", "100%|##########", "red end", "bad �")
    assert last_lines(log, 1) == ("bad �",) and last_lines(tmp_path / "none") == ()


def test_hostile_log_lines_are_harmless() -> None:
    assert "\x1b" not in resolved("\x1b\x1b[\x1b]0;title") and "\x9b" not in resolved("\x9b31m")
    assert resolved("abc\b\bX") == "aXc"
    assert "\u202e" not in resolved("a\u202eb")
    assert len(resolved("x" * 100_000)) <= 2000


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"line {i}\n" for i in range(10_000)))
    tail = read_tail(log, 1000)
    assert tail[-2] == "line 9999" and len(tail) < 150 and tail[0].startswith("line ")


def test_what_the_machine_does_not_tell_is_not_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ResourceReader()
    assert here.read().cpu_percent is None
    shown = here.read()
    assert shown.cpu_percent is not None and 0 <= shown.cpu_percent <= 100 and "GiB" in shown.text()
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    assert here.read().text().endswith("CPU n/a · memory n/a")


class FakeNvml:
    """Stands in for the reader of NVML."""

    def read(self) -> Devices:
        healthy = Gpu("GPU-a", "GPU 0", 0, "H100", 80 * GIB, 60 * GIB, busy_percent=87)
        silent = Gpu("MIG-x", "GPU 1 MIG 0", 1)
        return Devices((healthy, silent), troubled=(Gpu("", "GPU 2", 2, trouble="GPU is lost"),))


def test_the_gpus_are_those_that_trainers_may_run_on() -> None:
    shown = ResourceReader(FakeNvml()).read()  # type: ignore[arg-type]
    assert shown.text().startswith("GPU 87 % 20.0/80.0 GiB · GPU n/a n/a · GPU n/a n/a · CPU")
    assert shown.short().startswith("GPU 87 % · CPU")


def test_the_uncertainty_of_a_change_is_that_of_the_verdict(make_run: Make) -> None:
    run = make_run().train(760)
    before = {one.step: one.half_width for one in view_of(run).heldout}
    after = view_of(run.train(1000).finish())
    sure = after.judged.evidence.significance
    assert sure is not None and before[0] == 0.0
    for told, verdict in ((after.domain, sure.domain), (after.heldout, sure.heldout)):
        half = {one.step: one.half_width for one in told}[500]
        assert half == pytest.approx((verdict.high_pp - verdict.low_pp) / 2)
    assert before[500] == pytest.approx((sure.heldout.high_pp - sure.heldout.low_pp) / 2, rel=0.05), "by other means"


def test_a_score_that_its_texts_do_not_bear_out_is_not_believed(make_run: Make) -> None:
    run = make_run()
    honest = run.document

    def forged(*arguments: Any) -> Any:
        document = honest(*arguments)
        document["utterances"][0]["hypothesis"] = "something else"
        return document

    run.document = forged
    run.train(1000).finish()
    watch = Watch(run.paths)
    watch.refresh(Thresholds())
    assert watch.row(Row("x", "2.1")).word == "undecided", "as the gate has it"


SWEEP = [f"lr-sweep-of-the-large-model#{number}" for number in (1, 2, 12)]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_two_rows_of_a_sweep_read_alike(width: int) -> None:
    rows = [Row(key, key, title="a title that all have", settings="learning_rate=0.0001") for key in SWEEP]
    columns = fitting(width, needs(rows))
    assert sum(cells + 1 for _, cells in columns) <= width
    shown = [
        "".join(text for text, _ in row_pieces(row, columns, selected=False, pinned="", ascii_only=False))
        for row in rows
    ]
    assert len(set(shown)) == len(rows)
    assert width < 100 or all(key in line for key, line in zip(SWEEP, shown, strict=True)), "whole where there is room"


def test_columns_fit_what_is_in_them() -> None:
    short = [Row("1", "1", title="x")]
    widths = {column.title: cells for column, cells in fitting(200, needs(short))}
    assert widths["id"] <= 5 and widths["title"] == 14
    assert widths["where it stands"] > 60, "what is left goes to what needs it"


@pytest.mark.parametrize("width", [80, 200])
def test_every_column_can_be_scrolled_to(width: int) -> None:
    rows = [Row("1", "1", title="x")]
    seen: set[str] = set()
    for first in range(len(COLUMNS)):
        columns = fitting(width, needs(rows), first)
        assert columns[0][0].title == "id" and sum(cells + 1 for _, cells in columns) <= width
        seen |= {column.title for column, _ in columns}
    assert seen == {column.title for column in COLUMNS}


def test_the_board_can_be_sorted_by_its_columns(make_run: Make) -> None:
    figures = [Figures(domain=Wer(change=change), word="accepted") for change in (-1.0, None, -3.0)]
    rows = [Row(str(n), str(n), Status.DONE, figures=one) for n, one in enumerate(figures)]
    keys = [row.key for row in sorted_rows(rows, "domain WER", descending=False)]
    assert keys == ["2", "0", "1"], "the largest gain first, what is not known last"
    assert [row.key for row in sorted_rows(rows, "domain WER", descending=True)] == ["0", "2", "1"]
    assert list(sorted_rows(rows, "", descending=True)) == rows == list(sorted_rows(rows, "no such", descending=False))
    for name in ORDERS:
        assert {row.key for row in sorted_rows(rows, name, descending=False)} == {"0", "1", "2"}
    assert "domain WER▼" in "".join(text for text, _ in heading(fitting(120), sort="domain WER"))


def test_nothing_is_said_to_run_or_not_before_the_folder_is_read() -> None:
    header = Header(ascii_only=False, readonly=False)
    for board in (Board(""), Board("runs", "plan.toml", loading="reading the plan's data"), Board("runs", unread=3)):
        header.board = board
        assert "reading the runs" in (said := "".join(text for text, _ in header.paint(120, 1)[0])), said
        assert "nothing is running" not in said
    header.board = Board("runs", "plan.toml")
    said = "".join(text for text, _ in header.paint(120, 1)[0])
    assert "nothing is running" in said and "nothing waits" in said, "idle would be said of a supervisor"
