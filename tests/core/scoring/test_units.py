"""Words, characters and mixed units of texts in many scripts, beside jiwer's own counts of the same texts."""

from __future__ import annotations

import sys
import unicodedata

import jiwer
import pytest

from core.scoring.alignment import align, count_errors, wer_table, word_changes
from core.scoring.side_by_side import compare
from core.scoring.text import normaliser
from core.scoring.units import Unit, unit_of

basic = normaliser("basic").apply

SPACED = {
    "english": ("The café's déjà vu, isn't it?", "the cafes deja vu is not it"),
    "german": ("Das Mädchen heißt Änne Müller.", "das madchen heißt anne müller"),
    "vietnamese": ("Tôi muốn đặt một bàn cho hai người.", "tôi muôn đặt một bàn cho hai ngươi"),
    "turkish": ("İstanbul'da ışık sıcak, ısınıyoruz.", "istanbulda işik sıcak ısınıyoruz"),
    "greek": ("Ο Σίσυφος σπρώχνει τον βράχο στο όρος.", "ο σίσυφοσ σπρωχνει τον βράχο στο όρος"),
    "russian": ("Ёжик вышел из тумана; йод стоял на полке.", "ежик вышел из тумана йод стоит на полке"),
    "hebrew": ("שָׁלוֹם לְכֻלָּם, מַה שְּׁלוֹמְכֶם?", "שלום לכולם מה שלומכם"),
    "arabic": ("ذَهَبَ الوَلَدُ إِلَى المَدْرَسَةِ.", "ذهب الولد الى المدرسة"),
    "persian": ("می‌خواهم کتاب‌ها را بخوانم.", "می خواهم کتابها را بخوانم"),
    "hindi": ("क्षमा कीजिए, मैं हिन्दी नहीं बोलता हूँ।", "शमा कीजिये मैं हिंदी नहीं बोलता हू"),
    "bengali": ("আমি বাংলায় গান গাই।", "আমি বাংলায গান গায়"),
    "tamil": ("நான் தமிழ் பேசுகிறேன்.", "நான் தமிழ பேசுகிரேன்"),
    "malayalam": ("എനിക്ക് മലയാളം അറിയാം.", "എനിക് മലയാളം അറിയാ"),
    "korean": ("저는 한국어를 배우고 있습니다.", "저는 한국 어를 배우고 있읍니다"),
    "amharic": ("ሰላም፡ እንዴት ነህ?", "ሰላም እንዴት ናችሁ"),
}
"""Scripts that part words: (what was said, what was heard)."""

UNSPACED = {
    "chinese": ("今天天气很好，去公园吧。", "今天天汽很好去公园", "今天天气很好去公园吧", "今天天汽很好去公园"),
    "cantonese": ("佢哋喺𠮷屋食飯。", "佢地喺吉屋食飯", "佢哋喺𠮷屋食飯", "佢地喺吉屋食飯"),
    "japanese": (
        "今日はガソリンスタンドへ、行きました。", "今日わガソリン スタンドえ行きました",
        "今日はガソリンスタンドへ行きました", "今日わガソリンスタンドえ行きました",
    ),
    "thai": ("ที่นี่มีน้ำดื่ม ไหมครับ", "ทีนี่มีน้ำดืมไหมคับ", "ที่นี่มีน้ำดื่มไหมครับ", "ทีนี่มีน้ำดืมไหมคับ"),
    "lao": ("ສະບາຍດີ, ຂ້ອຍຢາກດື່ມນ້ຳ", "ສະບາຍດີຂອຍຢາກດືມນ້ຳ", "ສະບາຍດີຂ້ອຍຢາກດື່ມນ້ຳ", "ສະບາຍດີຂອຍຢາກດືມນ້ຳ"),
    "khmer": ("ខ្ញុំចង់ទៅផ្សារ។", "ខញុំចង់ទៅផសារ", "ខ្ញុំចង់ទៅផ្សារ", "ខញុំចង់ទៅផសារ"),
    "burmese": ("မင်္ဂလာပါ၊ နေကောင်းလား။", "မဂလာပါနေကောင်လား", "မင်္ဂလာပါနေကောင်းလား", "မဂလာပါနေကောင်လား"),
}  # fmt: skip
"""Scripts that do not: said, heard, and both as they are without what stands between their words."""


def of_jiwer(output: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int, int, int]:
    errors = output.substitutions, output.deletions, output.insertions
    return (*errors, output.hits + output.substitutions + output.deletions)


def counted(reference: str, hypothesis: str, unit: Unit) -> tuple[int, int, int, int]:
    found = count_errors(reference, hypothesis, unit)
    return found.substitutions, found.deletions, found.insertions, found.reference_words


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", SPACED)
def test_counts_of_texts_with_spaces_are_jiwers(language: str, form: str) -> None:
    said, heard = (basic(unicodedata.normalize(form, text)) for text in SPACED[language])
    assert said != heard
    assert counted(said, heard, Unit.WORD) == of_jiwer(jiwer.process_words(said, heard))
    assert counted(said, heard, Unit.CHARACTER) == of_jiwer(jiwer.process_characters(said, heard))
    # No character here is a unit of its own.
    assert counted(said, heard, Unit.MIXED) == counted(said, heard, Unit.WORD)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", UNSPACED)
def test_counts_of_texts_without_spaces_are_jiwers_and_punctuation_is_none(language: str, form: str) -> None:
    texts = [basic(unicodedata.normalize(form, text)) for text in UNSPACED[language]]
    said, heard, said_whole, heard_whole = texts
    expected = of_jiwer(jiwer.process_characters(said_whole, heard_whole))
    assert sum(expected[:3]) > 0
    assert counted(said, heard, Unit.CHARACTER) == expected
    assert counted(said, heard, Unit.MIXED) == expected
    # Where a comma or a pause is written is no error.
    assert count_errors(said, said_whole, Unit.CHARACTER).errors == 0
    assert count_errors(said, said_whole, Unit.MIXED).errors == 0


@pytest.mark.parametrize("language", [*SPACED, *UNSPACED])
def test_composed_and_decomposed_letters_are_the_same(language: str) -> None:
    text = (SPACED.get(language) or UNSPACED[language])[0]
    composed, decomposed = (basic(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    for unit in Unit:
        assert count_errors(composed, decomposed, unit).errors == 0


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("我想买 iPhone 十五 pro max", ["我", "想", "买", "iphone", "十", "五", "pro", "max"]),
        ("我想买iPhone十五pro max", ["我", "想", "买", "iphone", "十", "五", "pro", "max"]),
        ("新しい GPU サーバー", [*"新しい", "gpu", *"サーバー"]),
        ("ไป Central ก่อน", ["ไ", "ป", "central", "ก", "่", "อ", "น"]),
        ("저는 中文 배워요", ["저는", "中", "文", "배워요"]),
        ("", []),
    ],
)
def test_mixed_counts_characters_of_scripts_without_spaces_and_words_elsewhere(text: str, units: list[str]) -> None:
    assert Unit.MIXED.cut(basic(text)) == units


def test_a_space_is_a_character_only_between_words_that_have_spaces() -> None:
    assert Unit.CHARACTER.cut(" ab c ") == ["a", "b", " ", "c"]
    assert Unit.CHARACTER.cut("你 好 ok no") == ["你", "好", "o", "k", " ", "n", "o"]


def test_no_mark_that_is_part_of_a_letter_is_lost() -> None:
    """But for what Unicode calls ignorable (joiners, variation selectors), every mark of every script stays."""
    ignorable = {0x034F, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
    for code in range(sys.maxunicode + 1):
        mark = chr(code)
        if unicodedata.category(mark)[0] == "M" and code not in ignorable:
            written = f"क{mark}क"
            assert basic(written) == unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", written).lower()), mark


@pytest.mark.parametrize(
    "word", ["हिन्दी", "क्षत्रिय", "নিঃশব্দ", "தமிழ்", "മലയാളം", "เก่าแก่", "ກ້ອນ", "ខ្មែរ", "မြန်မာ", "བོད", "مُحَمَّدٌ", "שָׁלוֹם"]
)
def test_vowel_signs_viramas_and_tone_marks_stay(word: str) -> None:
    assert basic(f"({word}), {word}!") == f"{basic(word)} {basic(word)}"
    assert unicodedata.normalize("NFD", basic(word)) == unicodedata.normalize(
        "NFD", unicodedata.normalize("NFKC", word)
    )


def test_what_reads_an_alignment_reads_units() -> None:
    (alignment,) = align(["你好吗"], ["你吗"], Unit.CHARACTER)
    assert alignment.wrong == (False, True, False)
    (change,) = word_changes([("你好吗", "你好吗", "你号吗")], Unit.CHARACTER)
    assert (change.word, change.broken, dict(change.heard)) == ("好", 1, {"号": 1})
    clip = compare("a", "你好吗", "你吗", "你好吗", Unit.MIXED)
    assert (clip.reference, clip.fixed, clip.broken, clip.errors) == (("你", "好", "吗"), 1, 0, (1, 0))


def test_labels_say_what_is_counted() -> None:
    assert [unit.rate for unit in Unit] == ["WER", "CER", "MER"]
    assert [unit.long_rate for unit in Unit] == ["word error rate", "character error rate", "mixed error rate"]
    head, *_ = wer_table([("你好", "你好")], Unit.CHARACTER)
    assert head.split() == ["normaliser", "CER", "%", "S", "D", "I", "characters"]


@pytest.mark.parametrize("gate", [None, {}, {"unit": "sentence"}, {"unit": ["word"]}, "word", {"unit": None}])
def test_a_gate_that_names_no_unit_counts_words(gate: object) -> None:
    assert unit_of(gate) is Unit.WORD
    assert unit_of({"unit": "mixed"}) is Unit.MIXED
