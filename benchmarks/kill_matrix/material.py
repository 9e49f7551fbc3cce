"""What every case runs: the embedded base model, newly made clips of the embedded recipe, and one short plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from core.corpus.build import SAMPLE_RATE_HZ, render, write_flac
from core.corpus.recipe import plan_corpus, read_recipe
from core.corpus.synth import Synthesiser

ROOT = Path(__file__).parents[2]
CLIPS = {"train": 12, "replay": 6, "domain": 8, "heldout": 8}
STEPS = 12
EVERY = 4
PLAN = """\
[model]
id = "{model}"
[data]
train = "train.jsonl"
replay = "replay.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
[train]
steps = {steps}
eval_every = {every}
checkpoint_every = 2
keep_checkpoints = 2
batch_seconds = 14
accumulation = 2
replay_share = 0.4
learning_rate = 0.002
allow_high_learning_rate = true
eval_batch_seconds = 20
threads = 1
[adapter]
rank = 8
dropout = 0.1
target_modules = ["q_proj", "v_proj", "fc1"]
[gate]
stability_min_steps = 0
[queue]
until = "all"
retries = {retries}
pause_after = 0
max_hours = 1.0
[[experiment]]
id = "k"
title = "interrupted at will"
{more}"""


def clips(folder: Path, counts: Mapping[str, int] = CLIPS) -> None:
    """Render so many clips of each set into `folder` and write their manifests; the default takes a second or two."""
    plan, synthesiser = plan_corpus(read_recipe(ROOT / "data" / "recipe.toml")), Synthesiser()
    for name, count in counts.items():
        lines = []
        (folder / name).mkdir(parents=True, exist_ok=True)
        for utterance in plan[name][:: max(1, len(plan[name]) // count)][:count]:
            samples = render(utterance, synthesiser)
            path = folder / name / f"{utterance.id}.flac"
            write_flac(path, samples)
            facts = {"text": utterance.text, "duration": len(samples) / SAMPLE_RATE_HZ, "speaker": utterance.speaker}
            lines.append(json.dumps({"audio_filepath": f"{name}/{path.name}"} | facts) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))


def write_plan(folder: Path, name: str = "plan.toml", retries: int = 50, more: str = "") -> Path:
    """The plan of one run `k`, beside the manifests. `more`: further experiments. `[queue]` is not identity."""
    path = folder / name
    model = ROOT / "data" / "base_model"
    path.write_text(PLAN.format(model=model, steps=STEPS, every=EVERY, retries=retries, more=more))
    return path
