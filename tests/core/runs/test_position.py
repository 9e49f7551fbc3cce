"""The lucky-average test of a run: kept with its scores, believed only while they are what it was computed from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from core.runs.data_health import headline, health_facts
from core.runs.evidence import gather
from core.runs.position import POINTS, positions_differ, read_positions, write_positions
from core.runs.store import read_run
from core.scoring.data_health import DataHealth
from core.scoring.evidence import Capped, State, Thresholds
from core.scoring.verdict import judge
from core.system.files import write_json

LEAK = {"kind": "audio", "dataset": "heldout", "other": "train", "count": 2, "examples": ["heldout:1 ↔ train:1: same"]}


def test_it_is_of_the_base_model_and_of_the_tuned_score(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    assert read_positions(run.paths) == ((), None)
    write_positions(run.paths)
    found, problem = read_positions(run.paths)
    assert problem is None
    assert [(p.dataset, p.score) for p in found] == [
        ("domain", "base"), ("domain", "tuned"), ("heldout", "base"), ("heldout", "tuned")
    ]  # fmt: skip
    tuned = found[1]
    assert (tuned.clips, tuned.wer) == (60, 30.0)
    assert tuned.at[0] == 1 and tuned.at[-1] == 60 and tuned.running[-1] == 30.0
    assert tuned.low[-1] == tuned.high[-1] == 30.0
    assert tuned.effect, "all the errors are in the first clips"
    assert tuned.settled_after >= tuned.shuffled_settles_after
    assert [name for name, _, _ in tuned.blocks] == [f"{1 + 6 * i}–{6 + 6 * i}" for i in range(10)]
    assert tuned.blocks[0][2] == 100.0 and tuned.blocks[-1][2] == 0.0
    assert not positions_differ(run.paths)


def test_a_newer_score_makes_it_void_and_an_edit_is_found(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    write_positions(run.paths)
    kept = json.loads(run.paths.position.read_text())
    write_json(run.paths.position, kept | {"positions": []})
    assert "edited" in str(read_positions(run.paths)[1])
    assert positions_differ(run.paths)
    write_json(run.paths.position, kept)
    run.tuned(1000, 170, 30)
    assert read_positions(run.paths) == ((), None)


def test_long_curves_are_thinned_and_broken_scores_left_out(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    path = run.paths.tuned("domain")
    document = json.loads(path.read_text())
    long = [u | {"id": f"{u['id']}/{part}"} for part in range(20) for u in document["utterances"]]
    counts = {name: 20 * count for name, count in document["counts"].items()}
    write_json(path, document | {"utterances": long, "counts": counts})
    run.paths.tuned("heldout").write_text("{}")
    write_positions(run.paths)
    found, _ = read_positions(run.paths)
    assert [(p.dataset, p.score) for p in found] == [("domain", "base"), ("domain", "tuned"), ("heldout", "base")]
    assert found[1].clips == 1200 and len(found[1].at) == POINTS and found[1].at[-1] == 1200


def test_all_of_it_in_words(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    run.health(LEAK)
    write_positions(run.paths)
    positions, _ = read_positions(run.paths)
    for reason, state in ((None, State.UNKNOWN), ("known prompts", State.PASS)):
        thresholds = Thresholds(accept_leakage=reason)
        evidence = gather(read_run(run.paths), run.paths, thresholds=thresholds).evidence
        found = headline(evidence.data_health, positions, reason)
        assert found[0] is state and "2 recordings leak" in found[1] and "POSITION EFFECT: domain (base)" in found[1]
        facts = health_facts(evidence, judge(evidence, thresholds), thresholds, positions)
        text = "\n".join(f"{name}: {value}" for name, value in facts)
        assert "Set train: 60 clips, 600 words, 0.03 h, 4 speakers, 0 silent, 1 clipped, RMS -26 dB" in text
        assert "Leakage: the same audio: 2 clips of heldout in train; heldout:1 ↔ train:1: same" in text
        assert "Domain order, tuned: POSITION EFFECT" in text and "Domain WER by position: 1–6 100.0 %" in text
        assert "Parity: PASS" in text and "trainer and evaluation alike: 0123456789ab-basic1" in text
        assert ("Leakage accepted: known prompts" in text) == (reason is not None)
    assert headline(None, (), None) == (State.UNKNOWN, "not audited yet")
    caps = (Capped("heldout", "base", 500, 80, 72), Capped("domain", "tuned", 500, 9, 2))
    assert headline(DataHealth((), ()), (), None, caps) == (
        State.UNKNOWN,
        "TOKEN CAPS cut 72 of 500 heldout transcripts (base); no leaked recording in 0 clips",
    )


def test_audio_that_is_heard_otherwise_than_it_seems_is_named(fake_run: Callable[..., Any]) -> None:
    run = fake_run().good()
    found = {"cancelled": {"domain": 2, "train": 1}, "odd_header": {"train": 3}, "silent": {"train": 1}}
    run.health(findings=found)
    evidence = gather(read_run(run.paths), run.paths, thresholds=Thresholds()).evidence
    facts = health_facts(evidence, judge(evidence, Thresholds()), Thresholds(), ())
    told = [value for name, value in facts if name == "Odd audio"]
    assert told == [
        "2 clips of domain, 1 clip of train: channels of opposite phase, which cancel out: "
        "the model hears what is left",
        "3 clips of train: files whose header does not say how long they are; all that is there is heard",
    ]
