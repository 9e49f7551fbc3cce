"""An accepted run is scored on its part of the reserve, base model and adapter, by processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_kit import QUICK, TrainingRun, made_up_set

from core.manifests.hashing import HashCache
from core.runs.judged import judged
from core.runs.reserve import read_drawn
from core.runs.signing import Keys
from core.runs.verify import verify
from core.scoring.evidence import Thresholds

SIZES = (("train", 8, 1), ("domain", 4, 2), ("heldout", 4, 4), ("reserve_domain", 8, 5), ("reserve_heldout", 9, 6))


def accepted_whatever_it_is() -> None:
    from core.training import reserve

    reserve.is_accepted = lambda *_: True


@pytest.mark.heavy
def test_an_accepted_run_is_scored_on_its_part(tmp_path: Path, tiny_moonshine: Path) -> None:
    sets = {name: made_up_set(tmp_path, name, count, seed) for name, count, seed in SIZES}
    settings = [one for one in QUICK if "replay_share" not in one]
    runs = [
        TrainingRun(tmp_path, tiny_moonshine, sets, *settings, "data.reserve_parts=2", f"train.seed={seed}")
        for seed in (1, 2, 3)
    ]
    for run in runs[:2]:
        assert run.fork(accepted_whatever_it_is) == 0, run.log
    drawn = [read_drawn(run.paths)[0] for run in runs[:2]]
    assert [(one.part, one.of) for one in drawn if one is not None] == [(1, 2), (2, 2)]
    texts = []
    for run in runs[:2]:
        found = judged(run.snapshot, Thresholds())
        assert found.evidence.reserve is not None and found.evidence.reserve.problem is None
        assert verify(run.paths, HashCache(tmp_path / "hashes"), Keys()).problems == ()
        base, tuned = (json.loads(run.paths.reserve("domain", who).read_text()) for who in ("base", "tuned"))
        assert (base["adapter_hash"], base["step"]) == (None, 0) and tuned["adapter_hash"] is not None
        assert base["counts"] != tuned["counts"] or base["loss"] != tuned["loss"]
        texts.append({utterance["reference"] for utterance in base["utterances"]})
    assert not texts[0] & texts[1] and len(texts[0] | texts[1]) == 8
    assert runs[2].fork() == 0, runs[2].log
    assert not runs[2].paths.reserve_drawn.exists(), "a run that is not accepted does not see the reserve"
