"""Texts that put no space between words are told from those that do."""

from __future__ import annotations

import pytest

from core.scoring.units import is_joined, joined_sentence


@pytest.mark.parametrize(
    "text",
    [
        "今天天气很好我们去公园散步吧0",
        "今天天气很好，我们去公园散步吧。",
        "我们今天下午用 Python 写一个小程序",
        "今日はとても天気がいいので公園へ行きましょう",
        "วันนี้อากาศดีมากเราไปเดินเล่นกัน0",
        "ຂ້ອຍມັກອ່ານປຶ້ມຢູ່ຫ້ອງສະໝຸດທຸກມື້",
        "ខ្ញុំចូលចិត្តអានសៀវភៅនៅក្នុងបណ្ណាល័យ",
    ],
)
def test_joined(text: str) -> None:
    assert is_joined(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the loud stove was under the public cigar",
        "Donaudampfschifffahrtsgesellschaftskapitän",
        "오늘 날씨가 매우 좋아요",
        "今天 天气 很 好 我们 去 公园 散步 吧",
        "今 天 天 气 很 好",
        "今日 は とても 天気 が いい です",
        "コンピューター",
        "วันนี้ อากาศ ดี มาก เรา ไป เดินเล่น กัน",
        "he said 你好 and left",
        "你好",
    ],
)
def test_parted(text: str) -> None:
    assert not is_joined(text)


def test_any_script_without_spaces_is_joined_and_a_long_word_is_none() -> None:
    assert is_joined("ꦱꦧꦼꦤ꧀ꦮꦺꦴꦁꦏꦭꦲꦶꦫꦏꦺꦏꦤ꧀ꦛꦶꦩꦂꦢꦶꦏ" * 4)  # Javanese
    assert is_joined("thequickbrownfoxjumpsoverthelazydogandrunsintothewoods")
    assert not is_joined("Lentokonesuihkuturbiinimoottoriapumekaanikko")


def test_a_tenth_of_a_set_is_too_much() -> None:
    assert joined_sentence("domain", 0, 100) is None
    assert joined_sentence("domain", 9, 100) is None
    told = joined_sentence("domain", 10, 100)
    assert told is not None
    assert told.startswith("domain: 10 of 100 texts are written without spaces between words (as Chinese,")
    assert "set gate.unit to character, or to mixed" in told
