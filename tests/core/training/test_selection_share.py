"""A run that takes its selection sets out of training speech: what it trains on, and a resume that changes nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from forked_trainer import signal_at
from training_kit import QUICK, TrainingRun, made_up_set

from core.manifests.hashing import HashCache
from core.runs.data_health import read_health
from core.runs.events import IntervalScored, Notice
from core.runs.judged import judged
from core.runs.signing import Keys
from core.runs.verify import verify
from core.scoring.data_health import TAKEN_FROM, TRAINED
from core.scoring.evidence import State, Thresholds

SETTINGS = (*QUICK, "data.selection_share=0.3")


@pytest.mark.heavy
def test_what_is_taken_is_not_trained_on_and_a_resume_is_exact(tmp_path: Path, tiny_moonshine: Path) -> None:
    sizes = (("train", 12, 1), ("replay", 10, 3), ("domain", 6, 2), ("heldout", 6, 4))
    sets = {name: made_up_set(tmp_path, name, count, seed) for name, count, seed in sizes}
    undisturbed, killed = (TrainingRun(tmp_path / name, tiny_moonshine, sets, *SETTINGS) for name in ("one", "other"))
    assert undisturbed.fork() == 0, undisturbed.log
    assert killed.fork(signal_at(signal.SIGKILL, lambda event: isinstance(event, IntervalScored) and event.step == 4))
    assert killed.fork() == 0, killed.log
    assert killed.result() == undisturbed.result()
    assert killed.history() == undisturbed.history()

    scored = {name: json.loads(undisturbed.paths.evaluation(2, name).read_text()) for name in ("selection", "domain")}
    texts = [utterance["reference"] for utterance in scored["selection"]["utterances"]]
    assert 2 <= len(texts) <= 5
    said = [record.event.message for record in undisturbed.records if isinstance(record.event, Notice)]
    assert any(f"epochs of {12 - len(texts)} clips" in message for message in said)
    assert any(message.startswith(f"data.selection: {len(texts)} clips, by texts") for message in said)

    health, _ = read_health(undisturbed.paths, undisturbed.config)
    assert health is not None
    assert {one.name: one.clips for one in health.sets}["train"] == 12 - len(texts)
    assert not [
        one for one in health.shared if one.kind == "text" and one.other in TRAINED and one.dataset in TAKEN_FROM
    ]
    found = judged(undisturbed.snapshot, Thresholds())
    assert found.evidence.choice is not None
    assert found.verdict.criterion("integrity").state is State.PASS
    assert verify(undisturbed.paths, HashCache(tmp_path / "hashes"), Keys()).problems == ()
