import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.text import NAMES, normaliser

BASIC = normaliser("basic").apply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two \t spaces\n", "two spaces"),
        ("Don’t stop", "don't stop"),
        ("don't DON`T don´t donʼt don＇t", "don't don't don't don't don't"),
        ("the dogs' bowl, 'tis rock 'n' roll", "the dogs bowl tis rock n roll"),
        ("a''b", "a b"),
        ("well-known U.S.A.", "well known u s a"),
        ("ﬁve ＡＢＣ ½", "five abc 1 2"),
        ("cafe\u0301", "café"),
        ("co\u00adoperate zero\ufeff\u200bwidth", "cooperate zero width"),
        ("bell\x07 and\x1b[31m red", "bell and 31m red"),
        ("♪ music $5 50%", "music 5 50"),
        ("snake_case", "snake case"),
        ("की बात", "की बात"),
        ("…?!", ""),
        ("", ""),
    ],
)
def test_basic_keeps_the_words_and_nothing_else(text: str, expected: str) -> None:
    assert BASIC(text) == expected


@given(st.text())
def test_basic_is_done_after_once(text: str) -> None:
    assert BASIC(BASIC(text)) == BASIC(text)


@given(st.text())
def test_basic_folds_white_space_and_case(text: str) -> None:
    result = BASIC(text)
    assert result == " ".join(result.split())
    assert result == result.lower()


def test_raw_changes_nothing() -> None:
    text = " Ünchanged, — “as is”\n"
    assert normaliser("raw").apply(text) == text


def test_normalisers_are_named_and_versioned() -> None:
    assert NAMES == ("basic", "raw")
    assert [normaliser(name).version for name in NAMES] == [1, 1]


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"'whisper'.*basic, raw"):
        normaliser("whisper")
