"""A plan that trains in half a minute, for tests that run the real command over a trained model and a few clips."""

from __future__ import annotations

import json
from pathlib import Path

_PLAN = """\
[model]
id = {model}
[data]
train = {train}
domain = {domain}
heldout = {heldout}
[train]
steps = 12
eval_every = 3
batch_seconds = 20
learning_rate = 2e-3
allow_high_learning_rate = true
replay_share = 0
threads = 1
[gate]
domain_gain = {gain}
heldout_regression = 100
stability_range = 100
stability_min_steps = 0
{more}[[experiment]]
id = "a"
"""


def twelve_steps(model: str | Path, *, speech: str = "", gain: float = -100, more: str = "") -> str:
    """The text of the plan. Any trained adapter meets its thresholds but `gain`, in points.

    `speech`: the manifests' folder, such as `speech/`; `more`: further lines of [gate], then further tables.
    """
    names = {name: json.dumps(f"{speech}{name}.jsonl") for name in ("train", "domain", "heldout")}
    return _PLAN.format(model=json.dumps(str(model)), gain=gain, more=more, **names)
