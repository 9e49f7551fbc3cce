import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.alignment import wer_table
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


ALIKE = {
    "a right quote as apostrophe": ("don\u2019t", "don't"),
    "a left quote": ("don\u2018t", "don't"),
    "a modifier letter": ("don\u02bct", "don't"),
    "a turned comma": ("don\u02bbt", "don't"),
    "a full-width apostrophe": ("don\uff07t", "don't"),
    "a prime": ("don\u2032t", "don't"),
    "a grave accent": ("don`t", "don't"),
    "a full-width grave accent": ("don\uff40t", "don't"),
    "an acute accent": ("don\u00b4t", "don't"),
    "an Armenian apostrophe": ("don\u055at", "don't"),
    "two of them in one word": ("shouldn\u2019t\u2019ve", "shouldn't've"),
    "after a letter with a mark": ("l\u00e0\u2019b", "la\u0300'b"),
    "decomposed": ("cafe\u0301 nai\u0308ve", "caf\u00e9 na\u00efve"),
    "marks in another order": ("a\u0323\u0302", "a\u0302\u0323"),
    "decomposed Hangul": ("\u1112\u1161\u11ab", "\ud55c"),
    "full-width letters and digits": ("\uff21\uff42\uff13", "Ab3"),
    "ligatures": ("\ufb01ve", "five"),
    "a soft hyphen": ("co\u00adoperate", "cooperate"),
    "a zero-width joiner": ("hel\u200dlo", "hello"),
    "a byte-order mark": ("\ufeffhello", "hello"),
    "a word joiner": ("hel\u2060lo", "hello"),
    "a variation selector": ("hello\ufe0f", "hello"),
    "a grapheme joiner": ("hel\u034flo", "hello"),
    "a Hangul filler": ("hel\u3164lo", "hello"),
    "a direction mark": ("\u200ehello", "hello"),
    "a non-breaking space": ("new\u00a0york", "new york"),
    "a narrow non-breaking space": ("new\u202fyork", "new york"),
    "an ideographic space": ("new\u3000york", "new york"),
    "a non-breaking hyphen": ("well\u2011known", "well-known"),
    "a Unicode hyphen": ("well\u2010known", "well-known"),
    "a minus sign": ("minus \u22125", "minus -5"),
}
"""What editors, keyboards and models write differently and nobody hears."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pair", ALIKE.values(), ids=list(ALIKE))
def test_what_only_an_editor_tells_apart_is_one_in_every_normaliser(name: str, pair: tuple[str, str]) -> None:
    apply = normaliser(name).apply
    assert apply(pair[0]).split() == apply(pair[1]).split()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "raw"])
@pytest.mark.parametrize(
    ("text", "same"),
    [("\u0130stanbul", "istanbul"), ("I\u0307stanbul", "istanbul"), ("D\u0130YARBAKIR", "diyarbakir"), ("\u1e9e", "ß")],
)
def test_a_dotted_capital_i_is_one_small_letter(name: str, text: str, same: str) -> None:
    apply = normaliser(name).apply
    assert apply(text).split() == apply(same).split()


@pytest.mark.parametrize("name", ["basic", "jargon", "whisper_english"])
@pytest.mark.parametrize("text", ["a \u00a8 b", "a \u02dc b", "a \u2764\ufe0f b", "a \u200d b", "a \u0301 b"])
def test_a_lone_accent_or_selector_is_no_word(name: str, text: str) -> None:
    assert normaliser(name).apply(text).split() == ["a", "b"]


def test_quotes_stay_quotes_in_raw() -> None:
    assert (
        normaliser("raw").apply("\u2018as is\u2019, the dogs\u2019 don\u2019t")
        == "\u2018as is\u2019, the dogs\u2019 don't"
    )


def test_normalisers_are_named_and_versioned() -> None:
    assert NAMES == ("basic", "raw", "whisper_english", "jargon", "digits")
    assert [normaliser(name).version for name in NAMES] == [2, 2, 2, 2, 1]


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"'whisper'.*basic, raw, whisper_english, jargon, digits"):
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


@pytest.mark.parametrize(
    "same",
    [
        ("eight eight one", "8, 8, 1", "881", "8 8 1", "Eight, eight-one!"),
        ("twenty one", "twenty-one", "21"),
        ("a hundred and five", "one hundred five", "105"),
        ("two thousand and twenty six", "2026", "2,026", "twenty twenty six"),
        ("one hundred twenty three thousand four hundred fifty six", "123,456", "123456"),
        ("three point five million", "3.5 million"),
        ("five million people", "5,000,000 people", "5 million people"),
        ("the twenty first of May", "the 21st of may"),
        ("first and second", "1st and 2nd"),
        ("fifty percent", "50 percent", "50%"),
        ("one oh five", "one zero five", "1 0 5", "105"),
        ("double oh seven zero zero", "double 0 700"),
        ("nineteen eighty four", "1984"),
        ("ten thirty", "10:30"),
    ],
)
def test_number_words_and_digits_are_the_same_one_by_one(same: tuple[str, ...]) -> None:
    assert len({normaliser("digits").apply(text) for text in same}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eight eight one", "8 8 1"),
        ("007", "0 0 7"),
        ("two hundred three hundred", "2 0 0 3 0 0"),
        ("two thousand five thousand", "2 0 0 0 5 0 0 0"),
        ("one two and three", "1 2 and 3"),
        ("oh dear, MP3 and B2B don’t", "oh dear mp3 and b2b don't"),
        ("twenty first one", "2 1 th 1"),
        ("hundred", "1 0 0"),
        ("", ""),
    ],
)
def test_digits_leaves_one_word_a_digit_and_all_else_alone(text: str, expected: str) -> None:
    assert normaliser("digits").apply(text) == expected


@given(st.lists(st.sampled_from(["one", "eight", "twenty", "hundred", "and", "first", "7", "21st", "oh", "a", "100"])))
def test_digits_is_done_after_once(words: list[str]) -> None:
    once = normaliser("digits").apply(" ".join(words))
    assert normaliser("digits").apply(once) == once


@given(st.integers(0, 10**12 - 1))
def test_every_number_spelled_out_is_its_digits(number: int) -> None:
    assert normaliser("digits").apply(spelled(number)) == " ".join(str(number))


SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))


def spelled(number: int) -> str:
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    scale, name = next(pair for pair in SCALES if number >= pair[0])
    rest = number % scale
    joint = " and " if rest < 100 else " "
    return f"{spelled(number // scale)} {name}" + (f"{joint}{spelled(rest)}" if rest else "")


def test_the_table_has_a_line_for_each_normaliser() -> None:
    lines = wer_table([("The A-1 valve", "the a 1 valve"), ("twenty one", "21")])
    figures = {line.split()[0]: line.split()[2:] for line in lines[1:]}
    assert list(figures) == list(NAMES)
    assert figures["basic"][0] == "33.33"
    assert figures["whisper_english"][0] == "0.00"
    assert figures["jargon"][-1] == "5"
