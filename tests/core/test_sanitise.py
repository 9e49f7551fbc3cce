import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.sanitise import escape_markdown, escape_markdown_cell, sanitise

ANY = st.text(st.characters(exclude_categories=[]))
"""Every code point there is, lone surrogates included."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode 日本 👍", "plain text, ünïcode 日本 👍"),
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("del\x7f csi\x9b31m", "del␡ csi\\u009b31m"),
        ("abc\u202egpj.exe\u2066\u2069\u200e\u200f\u061c", r"abc\u202egpj.exe\u2066\u2069\u200e\u200f\u061c"),
        ("zero\u200bwidth\u200d\ufeff\u2060", r"zero\u200bwidth\u200d\ufeff\u2060"),
        ("line\u2028para\u2029", r"line\u2028para\u2029"),
        ("lone \udcff", r"lone \udcff"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("two\nlines\tand\r", "two␊lines␉and␍"),
        ("", ""),
    ],
)
def test_what_steers_a_terminal_becomes_visible(text: str, shown: str) -> None:
    assert sanitise(text) == shown


def test_multiline_keeps_new_lines_and_tabs_only() -> None:
    assert sanitise("a\n\tb\r\x1b", multiline=True) == "a\n\tb␍␛"


@pytest.mark.parametrize(
    ("length", "shown"),
    [(7, "abcdefg"), (6, "abcde…"), (1, "…"), (0, "")],
)
def test_max_length_cuts_with_an_ellipsis(length: int, shown: str) -> None:
    assert sanitise("abcdefg", length) == shown


def test_max_length_never_cuts_inside_an_escape() -> None:
    assert sanitise("ab\u202ecd", 6) == "ab…"
    assert sanitise("ab\u202ecd", 10) == r"ab\u202ecd"


@given(ANY)
def test_nothing_hidden_is_left(text: str) -> None:
    shown = sanitise(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert sanitise(shown) == shown
    shown.encode()


@given(ANY, st.integers(0, 30))
def test_max_length_is_kept(text: str, length: int) -> None:
    assert len(sanitise(text, length)) <= length


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("`code`", r"\`code\`"),
        ("[link](https://example.org)", r"\[link\](https&#58;//example.org)"),
        ("www.example.org", "www&#46;example.org"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("*bold* _it_ ~gone~ $x$", r"\*bold\* \_it\_ \~gone\~ \$x\$"),
        ("train.learning_rate=1e-4", "train.learning_rate=1e-4"),
        ("back\\slash", r"back\\slash"),
        ("two\nlines\x1b", "two␊lines␛"),
        ("@someone", "&#64;someone"),
    ],
)
def test_markdown_is_shown_as_plain_content(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_a_cell_is_one_line_without_bare_pipes() -> None:
    assert escape_markdown_cell("  | a\n|\\| ") == r"\| a␊\|\\\|"


@given(ANY)
def test_a_cell_never_ends_its_row(text: str) -> None:
    cell = escape_markdown_cell(text)
    assert "\n" not in cell
    assert "<" not in cell
    # Outside of pairs of backslashes, every pipe and backtick has one before it.
    for mark in "|`":
        assert mark not in cell.replace("\\\\", "").replace(f"\\{mark}", "")
