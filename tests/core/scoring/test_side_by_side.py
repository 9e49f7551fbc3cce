"""What begins and ends alike is aligned with itself, at no more cost than a table over the whole text has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.scoring.side_by_side import Slot, align

COST = {"ok": 0, "sub": 1001, "del": 1000, "ins": 1000}


def least_cost(reference: str, hypothesis: str) -> int:
    row = [1000 * j for j in range(len(hypothesis) + 1)]
    for i, word in enumerate(reference, 1):
        before, row = row, [1000 * i]
        for j, other in enumerate(hypothesis, 1):
            row.append(min(before[j - 1] + (0 if word == other else 1001), before[j] + 1000, row[j - 1] + 1000))
    return row[-1]


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_an_alignment_is_whole_and_a_cheapest_one(reference: str, hypothesis: str) -> None:
    aligned = align(reference, hypothesis)
    assert len(aligned) == len(reference) + 1
    assert "".join(slot.word for slots in aligned for slot in slots if slot.kind != "del") == hypothesis
    for word, slots in zip(reference, aligned[:-1], strict=True):
        assert slots[-1].kind != "ins" and all(slot.kind == "ins" for slot in slots[:-1])
        assert slots[-1].kind != "ok" or slots[-1].word == word
    assert all(slot.kind == "ins" for slot in aligned[-1])
    assert sum(COST[slot.kind] for slots in aligned for slot in slots) == least_cost(reference, hypothesis)


def test_an_insertion_between_what_is_alike_stands_before_the_word_after_it() -> None:
    ok, new = Slot("ok", "a"), Slot("ins", "x")
    assert align("ab", "axb") == ((ok,), (new, Slot("ok", "b")), ())
    assert align("a", "ax") == ((ok,), (new,))
    assert align("a", "xa") == ((new, ok), ())
