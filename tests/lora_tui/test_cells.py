"""Widths on a terminal: Chinese, combining marks and emoji stay in their columns, and nothing of a text is lost."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import lora_tui
from core.runs.row import Row
from core.runs.status import Status
from core.sanitise import sanitise
from core.scoring.side_by_side import compare
from lora_tui.cells import broken, cropped, cut, in_cells, padded, table, width_of
from lora_tui.dashboard.plots.drawing import draw
from lora_tui.dashboard.plots.plot import Plot
from lora_tui.dashboard.reading.log_text import resolved
from lora_tui.dashboard.text.columns import fitting, row_pieces
from lora_tui.dashboard.text.run_pages import clip_lines

CHINESE = "这个实验的学习率比上一个小一半，所以它收敛得更慢，但是保持了普通语音的准确率"
COMBINING = "re\u0301sume\u0301 nai\u0308ve co\u0302te\u0301 " * 4
EMOJI = "done 🎉 then 👍🏽 and ☎️ again 🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀🚀"
TEXTS = (CHINESE, f"error: {CHINESE} ({CHINESE})", COMBINING, EMOJI, f"a{CHINESE}", "한국어 음성 인식 실험 " * 6)
WIDTHS = (40, 80)


def text_of(line: object) -> str:
    return "".join(text for text, _ in line)  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_long_line_is_broken_to_the_width_and_nothing_is_lost(text: str, width: int) -> None:
    for line in ([(text, "")], [("note    ", "key"), (text, "muted")], [(CHINESE[:9], "key"), (text, "")]):
        parts = [text_of(part) for part in broken(line, width)]
        assert max(map(cell_len, parts)) <= width
        assert "".join(parts).replace(" ", "") == text_of(line).replace(" ", "")
        assert len(parts) <= 2 * cell_len(text_of(line)) / width + 2, "the lines are filled"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_of_a_table_is_as_wide_as_its_column(text: str, width: int) -> None:
    shown = padded(cropped(text, width), width)
    assert cell_len(shown) == width and (shown.endswith("…") or shown.rstrip() == text.rstrip())
    assert cell_len(text_of(cut([("note ", "key"), (text, "")], width, "…"))) <= width
    lines = table([("ROW", "WHY"), (text, "first"), ("b", "second")])
    assert (
        len({cell_len(line.partition(word)[0]) for line, word in zip(lines, ("WHY", "first", "second"), strict=True)})
        == 1
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_columns_of_the_board_stay_columns(text: str, width: int) -> None:
    row = Row("a", text, Status.WAITING, text, title=text)
    shown = text_of(row_pieces(row, fitting(width), selected=True, pinned="", ascii_only=False))
    plain = text_of(row_pieces(Row("a", "a"), fitting(width), selected=True, pinned="", ascii_only=False))
    assert cell_len(shown) == cell_len(plain) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plot_keeps_its_edges_under_a_chinese_title(width: int) -> None:
    for height in (4, 12):
        for line in draw(Plot(CHINESE, (), empty="nothing yet"), width, height):
            assert cell_len(text_of(line)) == len(line) == width


def test_words_stand_below_their_reference() -> None:
    head, *lines = clip_lines(compare("clip", "今天 天气 很 好", "今天 田七 很 好", "今天 天气 好"), 40)[:4]
    assert text_of(head).startswith("clip")
    assert len({cell_len(text_of(line)) for line in lines}) == 1


def test_a_progress_bar_that_writes_over_chinese_leaves_what_a_terminal_shows() -> None:
    assert resolved("进度 10%\r进度 20%") == "进度 20%"
    assert resolved("进度\ra") == "a 度", "half of a wide character is none"
    assert resolved("abc\r中") == "中c"


@given(st.text(max_size=60), st.integers(0, 90))
def test_any_text_is_measured_as_it_is_shown(text: str, width: int) -> None:
    text = sanitise(text)
    assert len(in_cells(text)) == width_of(text)
    assert width_of(cropped(text, width)) <= width
    assert all(width_of(text_of(part)) <= max(10, width) for part in broken([("to ", ""), (text, "")], max(10, width)))


def test_widths_are_measured_in_one_place() -> None:
    """What pads or breaks text by its number of characters is wrong for half of the world."""
    root = Path(lora_tui.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        modules = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        found += [(path.name, name) for name in ({"ljust", "rjust", "center"} & names) | ({"textwrap"} & modules)]
    assert not found, "use lora_tui.cells"
