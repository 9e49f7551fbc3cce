import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.text import NAMES, normaliser
from core.scoring.wer_table import wer_table

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
    assert NAMES == ("basic", "raw", "whisper_english", "jargon")
    assert [normaliser(name).version for name in NAMES] == [1, 1, 1, 1]


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"'whisper'.*basic, raw, whisper_english, jargon"):
        normaliser("whisper")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail root@host.example, please.", "mail root@host.example please"),
        ("set T_max to -1.5 in /etc/app/conf.d/", "set t_max to 1.5 in etc/app/conf.d"),
        ("the X-ray of v1.2.3-rc1…", "the x-ray of v1.2.3-rc1"),
        ("well\u2011known and/or don’t", "well-known and/or don't"),
        ("a--b 'quoted' .hidden_ e.g.", "a b quoted hidden e.g"),
        ("$5 (50%) #3", "5 50 3"),
        ("", ""),
    ],
)
def test_jargon_keeps_what_holds_a_word_together(text: str, expected: str) -> None:
    assert normaliser("jargon").apply(text) == expected


@given(st.text(alphabet="ab1@/_.-' ,"))
def test_jargon_is_done_after_once(text: str) -> None:
    once = normaliser("jargon").apply(text)
    assert normaliser("jargon").apply(once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's twenty-one colours, [noise] um!", "it is 21 colors"),
        ("won't", "will not"),
        ("two hundred and five dollars", "$205"),
    ],
)
def test_whisper_english_is_whispers_own(text: str, expected: str) -> None:
    assert normaliser("whisper_english").apply(text) == expected


def test_the_table_has_a_line_for_each_normaliser() -> None:
    lines = wer_table([("The A-1 valve", "the a 1 valve"), ("twenty one", "21")])
    figures = {line.split()[0]: line.split()[2:] for line in lines[1:]}
    assert list(figures) == list(NAMES)
    assert figures["basic"][0] == "33.33"
    assert figures["whisper_english"][0] == "0.00"
    assert figures["jargon"][-1] == "5"
