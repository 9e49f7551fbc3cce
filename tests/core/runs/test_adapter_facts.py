"""What an adapter is decoded under is what run.json and the trainer's own scores of it have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_run import FINGERPRINT, FakeRun
from score_kit import adapter_facts

from core.runs.consistency import wrong_facts
from core.runs.paths import ADAPTER_FACTS, step_name
from core.runs.store import read_run
from core.system.files import write_json

BEST = step_name(1000)


def said(run: FakeRun, settings: dict[str, dict[str, Any]], **facts: Any) -> list[str]:
    """What is found in a run with these settings whose adapter has these facts."""
    config = json.loads(run.paths.config.read_text())
    for section, keys in settings.items():
        config["settings"].setdefault(section, {}).update(keys)
    write_json(run.paths.config, config)
    folder = run.paths.adapter(1000)
    write_json(folder / ADAPTER_FACTS, adapter_facts(1000, config, fingerprint=FINGERPRINT) | facts)
    return list(wrong_facts(read_run(run.paths), BEST))


@pytest.mark.parametrize(("threads", "devices", "each"), [(2, 2, 1), (8, 2, 4), (1, 4, 1), (3, 1, 3), (3, None, 3)])
def test_the_devices_of_a_run_share_its_threads(tmp_path: Path, threads: int, devices: int | None, each: int) -> None:
    """`reproduce.json` has those of the process that wrote it."""
    train = {"threads": threads} | ({} if devices is None else {"devices": devices})
    run = FakeRun(tmp_path / "run").good()
    assert said(run, {"train": train}, threads=each) == []
    [wrong] = said(run, {"train": train}, threads=each + 1)
    assert f"its threads is {each + 1}, the run's is {each}" in wrong


def test_scores_are_decoded_with_the_audio_context_of_the_run(tmp_path: Path) -> None:
    """Adapter and documents may agree with each other, and say nothing of the run that asked for another one."""
    run = FakeRun(tmp_path / "run").good()
    assert said(run, {"model": {"id": "model"}}) == []
    [wrong] = said(run, {"model": {"audio_context": 10.0}})
    assert "decoded with audio_context = None, but model.audio_context of the run was 10.0" in wrong
    document = run.paths.evaluation(BEST, "domain")
    score = json.loads(document.read_text())
    write_json(document, score | {"decode": score["decode"] | {"audio_context": 10.0}})
    assert said(run, {}, audio_context=10.0) == []
