"""Lines that are longer than the screen is wide: nothing of them is lost, and columns stay columns."""

from __future__ import annotations

import pytest

from core.runs.row import Figures, Row, Wer
from core.runs.status import Status
from core.scoring.standing import Stand, Standing
from lora_tui.cells import broken, cut
from lora_tui.dashboard.text.columns import fitting, row_pieces


def texts(parts: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in part) for part in parts]


def test_a_line_is_broken_below_its_last_column_with_its_colours() -> None:
    line = [("PASS    ", "pass"), ("Gain: ", ""), ("one two three four five", "muted")]
    parts = broken(line, 28)
    assert texts(parts) == ["PASS    Gain: one two three", " " * 14 + "four five"]
    assert parts[1][1] == ("four five", "muted")
    assert broken(line, 100) == [line]


@pytest.mark.parametrize("width", [20, 21, 33, 79])
@pytest.mark.parametrize("text", ["x" * 500, "  a " + "word " * 60, "word" + " " * 200 + "end", " " * 100])
def test_no_letter_is_lost(text: str, width: int) -> None:
    for line in ([(text, "")], [("label   ", "key"), (text, "")], [("y" * 60, "key"), (text, "")]):
        parts = texts(broken(line, width))
        assert all(len(part) <= width for part in parts)
        assert "".join(parts).replace(" ", "") == "".join(t for t, _ in line).replace(" ", "")


@pytest.mark.parametrize(
    ("stand", "word"),
    [*((stand, stand.value) for stand in Stand if stand is not Stand.SHIP), (Stand.SHIP, "✓ accepted"), (None, "–")],
)
def test_the_verdict_of_a_run_is_whole_at_80_columns(stand: Stand | None, word: str) -> None:
    stands = None if stand is None else Standing(stand, "so it is", 100)
    row = Row("a", "a", Status.DONE, figures=Figures(standing=stands))
    shown = "".join(t for t, _ in row_pieces(row, fitting(80), selected=True, pinned="", ascii_only=False))
    assert word in shown and "…" not in shown and len(shown) <= 80


@pytest.mark.parametrize("width", [80, 100, 120, 160, 220])
@pytest.mark.parametrize(
    ("wer", "change", "words"),
    [
        (110.894, -3.127, "110.89 −3.13"),
        (100.5, -13.254, "100.50 −13.25"),
        (1234.5, 1134.56, "1234.5 +1134.6"),
        (35.0, -5.0, "35.00 −5.00"),
    ],
)
def test_no_number_is_cut(width: int, wer: float, change: float, words: str) -> None:
    now = Wer(now=wer, change=change)
    row = Row("a", "a", Status.DONE, figures=Figures(domain=now, heldout=now, word="rejected"))
    shown = "".join(t for t, _ in row_pieces(row, fitting(width), selected=True, pinned="", ascii_only=False))
    assert "…" not in shown and len(shown) <= width and shown.count(f"{wer:.0f}"[:-1]) == 2
    assert width < 220 or words in shown, shown


@pytest.mark.parametrize("width", range(9))
def test_a_line_of_many_pieces_is_cut_to_the_cell(width: int) -> None:
    line = [("ab", ""), ("c", "muted"), ("def", ""), ("g", "")]
    shown = "".join(text for text, _ in cut(line, width, "…"))
    assert shown == ("abcdefg" if width > 6 else "abcdefg"[: max(0, width - 1)] + "…" * (width > 0))
