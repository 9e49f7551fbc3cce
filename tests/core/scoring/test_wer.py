import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.scoring.alignment import count_errors
from core.scoring.units import ErrorCounts, total

WORDS = st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", ErrorCounts(0, 0, 0, 3)),
        ("a b c", "a x c", ErrorCounts(1, 0, 0, 3)),
        ("a b c", "a c", ErrorCounts(0, 1, 0, 3)),
        ("a b c", "a b x c", ErrorCounts(0, 0, 1, 3)),
        ("a b", "", ErrorCounts(0, 2, 0, 2)),
        ("", "a b", ErrorCounts(0, 0, 2, 0)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
        (" a  b ", "a b", ErrorCounts(0, 0, 0, 2)),
        ("A", "a", ErrorCounts(1, 0, 0, 1)),
        ("ein wort", "einwort", ErrorCounts(1, 1, 0, 2)),
    ],
)
def test_counts(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert count_errors(reference, hypothesis) == expected


def test_insertions_into_silence_count_in_the_manifest() -> None:
    counts = total([count_errors("a b c d", "a b c d"), count_errors("", "thank you")])
    assert counts.wer == pytest.approx(0.5)


def test_no_reference_words_is_no_rate() -> None:
    assert count_errors("", "a").wer is None
    assert total([]).wer_percent is None


@given(WORDS, WORDS)
def test_counts_are_consistent(reference: str, hypothesis: str) -> None:
    counts = count_errors(reference, hypothesis)
    words, heard = len(reference.split()), len(hypothesis.split())
    assert counts.reference_words == words
    assert heard == words - counts.deletions + counts.insertions
    assert abs(words - heard) <= counts.errors <= max(words, heard)
    assert (counts.errors == 0) == (reference == hypothesis)
    assert count_errors(hypothesis, reference).errors == counts.errors
