"""Criteria on slices: each part of a set by its own threshold, from texts to states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.scoring.assess import Documents, assess
from core.scoring.certainty import Significance, short
from core.scoring.data_health import DataHealth
from core.scoring.evidence import Criterion, Evidence, SliceRule, State, Thresholds
from core.scoring.slices import rules_of, slice_criteria, sliced
from core.scoring.text import normaliser

RIGHT, WRONG = "a b c d e", "a x c d e"
CONVERGED = Criterion("convergence", "Convergence", State.PASS, -1.0, 0.0, "", "")
NOTHING = Evidence(0, 0, (), None, None, None, None, None, None, data_health=DataHealth((), ()))


def utterance(number: int, hypothesis: str, **changes: Any) -> dict[str, Any]:
    counts = {"substitutions": int(hypothesis != RIGHT), "deletions": 0, "insertions": 0, "reference_words": 5}
    fields = {"id": f"u{number}", "reference": RIGHT, "hypothesis": hypothesis, "seconds": 1.0, "speaker": None}
    return fields | counts | changes


def documents(**speakers: tuple[int, int, int]) -> Documents:
    """For each speaker (utterances, wrong before, wrong after); clips of speaker n last n seconds."""
    sets: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for number, (name, (count, *wrong)) in enumerate(speakers.items(), 1):
        for found, faults in zip(sets, wrong, strict=True):
            for place in range(count):
                text = WRONG if place < faults else RIGHT
                found.append(utterance(1000 * number + place, text, speaker=name, seconds=float(number)))
    return Documents(sets[0], sets[1], [sets[1]])


def significance(domain: Documents, heldout: Documents, thresholds: Thresholds) -> Significance:
    return assess(domain, heldout, {}, thresholds, normaliser("basic"), "key", resamples=500)


def criteria(domain: Documents, thresholds: Thresholds, convergence: Criterion = CONVERGED) -> tuple[Criterion, ...]:
    found = significance(domain, domain, thresholds)
    return slice_criteria(replace(NOTHING, significance=found), thresholds, convergence)


def by_speaker(**rule: Any) -> Thresholds:
    return Thresholds(slices=(SliceRule("speaker", **rule),))


def test_one_speaker_that_got_worse_fails_though_the_average_gains() -> None:
    sets = documents(ann=(60, 40, 5), bob=(60, 10, 16))
    [found] = criteria(sets, by_speaker(domain_gain_pp=0.0))
    assert (found.name, found.title, found.kind) == ("domain_gain by speaker", "Domain by speaker", "domain_gain")
    assert found.state is State.FAIL and found.value == pytest.approx(-2.0)
    assert "2 slices by speaker: 1 fail, 1 pass. Speaker bob: WER 3.33 → 5.33 %" in found.reason
    assert found.certainty is not None and found.certainty.utterances == 60
    assert short(found.certainty, found.name).startswith("[+")


def test_all_slices_must_pass_and_both_sets_may_be_asked() -> None:
    sets = documents(ann=(60, 40, 5), bob=(60, 10, 10))
    found = criteria(sets, by_speaker(domain_gain_pp=0.0, heldout_regression_pp=0.0))
    assert [(c.name, c.state) for c in found] == [
        ("domain_gain by speaker", State.PASS),
        ("heldout by speaker", State.PASS),
    ]
    # The worst is what is shown: the smallest gain, exactly on its threshold.
    assert [c.value for c in found] == [0.0, 0.0]


def test_a_slice_of_too_few_utterances_is_unknown_and_says_how_many_it_takes() -> None:
    [found] = criteria(documents(ann=(60, 40, 5), bob=(12, 5, 0)), by_speaker(domain_gain_pp=0.0))
    assert found.state is State.UNKNOWN and "Speaker bob: 12 utterances, 38 more are needed." in found.reason
    [found] = criteria(documents(ann=(60, 40, 5)), by_speaker(values=("ann", "eve"), domain_gain_pp=0.0))
    assert found.state is State.UNKNOWN and "Speaker eve: 0 utterances, 50 more are needed." in found.reason


def test_a_field_that_nobody_has_is_unknown() -> None:
    thresholds = Thresholds(slices=(SliceRule("room", domain_gain_pp=0.0),))
    [found] = criteria(documents(ann=(60, 40, 5)), thresholds)
    assert found.state is State.UNKNOWN and "No utterance of domain has room" in found.reason


def test_by_duration() -> None:
    rule = SliceRule("duration", edges=(2.0, 3.0), domain_gain_pp=0.0)
    sets = documents(ann=(60, 40, 5), bob=(55, 10, 5), cid=(50, 10, 5))
    assert {label: len(places) for label, places in sliced(rule, sets.baseline).items()} == {
        "under 2 s": 60, "2 to 3 s": 55, "3 s and more": 50,
    }  # fmt: skip
    [found] = criteria(sets, Thresholds(slices=(rule,)))
    assert found.state is State.PASS and found.name == "domain_gain by duration"


@pytest.mark.parametrize(("after", "state"), [(5, State.PASS), (24, State.UNKNOWN), (58, State.FAIL)], ids=str)
def test_with_confidence_a_slice_must_be_sure(after: int, state: State) -> None:
    thresholds = replace(by_speaker(domain_gain_pp=0.0), confidence=0.95)
    [found] = criteria(documents(ann=(60, 25, after), bob=(60, 50, 0)), thresholds)
    assert found.state is state and "sure" in found.reason


def test_nothing_is_known_without_texts_or_convergence() -> None:
    thresholds = by_speaker(domain_gain_pp=0.0)
    [found] = slice_criteria(NOTHING, thresholds, CONVERGED)
    assert found.state is State.UNKNOWN and "not known" in found.reason
    unaudited = replace(NOTHING, significance=significance(*[documents(ann=(60, 40, 5))] * 2, thresholds))
    assert slice_criteria(unaudited, thresholds, CONVERGED)[0].state is State.PASS
    assert slice_criteria(replace(unaudited, data_health=None), thresholds, CONVERGED)[0].state is State.UNKNOWN
    failed = replace(CONVERGED, state=State.FAIL)
    [found] = criteria(documents(ann=(60, 40, 5)), thresholds, failed)
    assert found.state is State.UNKNOWN and "convergence failed" in found.reason


def test_rules_as_in_run_json() -> None:
    entry = {"by": "duration", "values": [], "edges": [2.0], "domain_gain": None, "heldout_regression": 0.5}
    rules = rules_of([entry | {"min_utterances": 20}])
    assert rules == (SliceRule("duration", edges=(2.0,), heldout_regression_pp=0.5, min_utterances=20),)
    assert (rules[0].threshold("domain"), rules[0].threshold("heldout")) == (None, 0.5)


def test_a_speakers_own_slice_is_of_that_speaker_and_another_one_needs_several() -> None:
    sure = replace(by_speaker(domain_gain_pp=0.0), confidence=0.95)
    [found] = criteria(documents(ann=(60, 40, 5), bob=(60, 40, 5)), sure)
    assert found.state is State.PASS and found.certainty is not None
    assert not found.certainty.conditional and found.certainty.units == 60
    # By duration each speaker is alone in a slice: nothing is known of how others with clips of that length would fare.
    rule = SliceRule("duration", edges=(1.5,), domain_gain_pp=0.0)
    alone = Thresholds(slices=(rule,), confidence=0.95)
    [found] = criteria(documents(ann=(60, 40, 5), bob=(60, 40, 5)), alone)
    assert found.state is State.UNKNOWN and "all utterances have one speaker" in found.reason
    [found] = criteria(documents(ann=(60, 40, 5), bob=(60, 40, 5)), replace(alone, unknown_speakers="two prompts"))
    assert found.state is State.PASS and "accepted by the plan: two prompts" in found.reason
    # By the point estimates it passes.
    assert criteria(documents(ann=(60, 40, 5), bob=(60, 40, 5)), Thresholds(slices=(rule,)))[0].state is State.PASS


def test_by_channel() -> None:
    utterances = [{"channel": 0}, {"channel": 1, "fields": {}}, {"channel": None}, {"fields": {"room": 1}}]
    assert sliced(SliceRule("channel"), utterances) == {"channel 0": [0], "channel 1": [1]}


@pytest.mark.parametrize("key", ["by", "min_utterances"])
def test_a_rule_without_what_makes_it_one_is_refused(key: str) -> None:
    """run.json may have been edited."""
    entry = {"by": "speaker", "min_utterances": 2}
    del entry[key]
    with pytest.raises(ValueError, match=f"slice 1 has no {key}"):
        rules_of([entry])


@pytest.mark.parametrize(("key", "count"), [("values", 501), ("edges", 21), (None, 51)])
def test_too_many_slices_are_refused(key: str | None, count: int) -> None:
    """A run.json from elsewhere may name a million, and each is weighed for itself."""
    one = {"by": "speaker", "min_utterances": 2}
    entries = [one] * count if key is None else [one | {key: ["x"] * count}]
    with pytest.raises(ValueError, match=str(count)):
        rules_of(entries)
    assert rules_of(entries[:-1] if key is None else [one | {key: ["x"] * (count - 1)}])
