"""What utterances of the evaluation sets are of one recording, by findings of the audit and by real digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.audit.health import of_one_recording
from core.audit.kinds import Finding

TEXTS = {
    "train": {1: "one two"},
    "domain": {1: "one two", 2: "One, two.", 3: "nine two zero", 4: "two", 5: "three"},
    "heldout": {1: "one two", 2: "four"},
    "selection": {1: "three"},
}


def found(kind: str, place: str, other: str) -> Finding:
    name, _, line = place.partition(":")
    return Finding(kind, name, int(line), "id", "why", other)


def test_the_same_samples_and_a_recording_with_the_same_words_are_copies() -> None:
    findings = [
        found("same_audio", "domain:2", "domain:1"),
        # Cut from it: its words are among the other's.
        found("near_audio", "domain:4", "domain:1"),
        found("near_audio", "heldout:1", "domain:2"),
    ]
    together, copies = of_one_recording(findings, TEXTS)
    assert together == {"domain": [[1, 2, 4]]}
    assert copies == [
        {"dataset": "domain", "other": "domain", "count": 2},
        {"dataset": "domain", "other": "heldout", "count": 3},
        {"dataset": "heldout", "other": "domain", "count": 1},
    ]


def test_a_recording_in_common_under_other_words_is_weighed_together_and_no_copy() -> None:
    together, copies = of_one_recording([found("near_audio", "domain:3", "domain:1")], TEXTS)
    assert (together, copies) == ({"domain": [[1, 3]]}, [])
    # The same samples are the same, whatever somebody wrote beside them.
    together, copies = of_one_recording([found("same_audio", "domain:5", "domain:1")], TEXTS)
    assert (together, copies) == ({"domain": [[1, 5]]}, [{"dataset": "domain", "other": "domain", "count": 1}])


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("one two three four", True),
        ("well one two three nine", True),
        ("three four", True),
        ("one nine two eight", False),
    ],
)
def test_a_copy_may_be_cut_or_reworded(text: str, copy: bool) -> None:
    texts = {"domain": {1: "one two three four", 2: text}}
    together, copies = of_one_recording([found("near_audio", "domain:2", "domain:1")], texts)
    assert together == {"domain": [[1, 2]]} and bool(copies) is copy


def test_two_clips_of_one_training_clip_are_one() -> None:
    findings = [found("leaked_audio", "domain:1", "train:1"), found("leaked_near_audio", "domain:2", "train:1")]
    together, copies = of_one_recording(findings, TEXTS)
    assert together == {"domain": [[1, 2]]} and copies == [{"dataset": "domain", "other": "domain", "count": 1}]


def test_texts_speakers_and_sets_that_are_none_of_a_runs_say_nothing() -> None:
    findings = [
        found("same_text", "domain:2", "domain:1"),
        found("near_text", "domain:2", "domain:1"),
        found("shared_speaker", "domain:1", "train:1"),
        found("same_audio", "domain:1", "elsewhere:1"),
        found("same_audio", "domain:1", ""),
    ]
    assert of_one_recording(findings, TEXTS) == ({}, [])


def test_a_selection_set_within_domain_is_told_of_both() -> None:
    _, copies = of_one_recording([found("same_audio", "selection:1", "domain:5")], TEXTS)
    assert copies == [
        {"dataset": "domain", "other": "selection", "count": 1},
        {"dataset": "selection", "other": "domain", "count": 1},
    ]


def test_digits_joined_from_the_same_recordings_of_words_are_no_copies(whole_digits: Path) -> None:
    """People's digits: one in four clips has a word's recording in common with another, and none says the same."""
    from core.audit.audit import Source, audit
    from core.scoring.data_health import COPIES_SHARE

    manifest = whole_digits / "domain_manifest.jsonl"
    result = audit([Source(manifest, "domain", "domain")], workers=1)
    texts = {"domain": {n: json.loads(line)["text"] for n, line in enumerate(manifest.read_text().splitlines(), 1)}}
    _, copies = of_one_recording(result.findings, texts)
    assert sum(int(row["count"]) for row in copies) <= COPIES_SHARE * len(texts["domain"])
