"""A run's identity: 10 hex digits over all that can change its result (docs/design.md, "The run's identity"). Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from core.plan.schema import AdapterSettings, AugmentSettings, DataSettings, ModelSettings, RunSettings, TrainSettings

EXCLUDED: Mapping[str, str] = {
    "model.id": "the model's hash stands for it, so that a moved folder is the same model",
    "model.revision": "part of the model's hash",
    "data.train": "the manifest's hash stands for the path",
    "data.replay": "the manifest's hash stands for the path",
    "data.domain": "the manifest's hash stands for the path",
    "data.heldout": "the manifest's hash stands for the path",
    "data.selection": "the manifest's hash stands for the path",
    "data.selection_heldout": "the manifest's hash stands for the path",
    "data.reserve_domain": "the manifest's hash stands for the path",
    "data.reserve_heldout": "the manifest's hash stands for the path",
    "data.reserve_parts": "changes neither weights nor any other score",
    "train.augment": "what of it acts is in",
    "train.augment.noise": "the recordings' hash stands for the folder",
    "train.allow_high_learning_rate": "a permission; the learning rate itself is in",
    "train.keep_checkpoints": "resume is exact: which checkpoints are kept changes no weight",
    "train.checkpoint_every": "resume is exact: when checkpoints are written changes no weight",
}
"""Settings that are not part of the identity, each with the reason. All others are."""
LATER: Mapping[str, Any] = {
    "model.language": None,
    "model.task": None,
    "model.audio_context": None,
    "data.selection_share": 0.0,
    "train.deterministic": False,
    "train.base_precision": "fp32",
    "train.gradient_checkpointing": False,
    "train.beams": 1,
    "train.replay_share_by": "seconds",
    "train.kl": 0.0,
    "train.decay_to_base": 0.0,
    "train.ema": 0.0,
    "train.devices": 1,
    "train.interpolate": (),
    "train.interpolate_last": 1,
    "train.average": 0,
    "adapter.sites": None,
    "adapter.layers": None,
    "adapter.rank_pattern": (),
    "adapter.lora_plus": 1.0,
}
"""Settings that older runs do not have: left out at the value that means what those did, so that they stay the same."""

_LISTS = ("target_modules", "rank_pattern", "interpolate")
"""Keys whose order means nothing."""


def run_identity(settings: RunSettings, hashes: Mapping[str, str]) -> str:
    """The identity of a run of `settings` on content with these `hashes`.

    Hashes: model, train, domain, heldout, and replay and selection sets where given. The order of `target_modules`
    and `rank_pattern` means nothing and is dropped; replay speech of which nothing is taken counts as none.
    """
    text = json.dumps(identity_facts(settings, hashes), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def identity_facts(settings: RunSettings, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What the identity is taken over."""
    facts = {
        section: {key: _canonical(key, value) for key, value in values.items() if counts(f"{section}.{key}", value)}
        for section, values in asdict(settings).items()
    }
    used = dict(hashes)
    if settings.train.replay_share == 0:
        used.pop("replay", None)
    if augment := settings.train.augment.acting():
        facts["train"]["augment"] = {k: v for k, v in augment.items() if counts(f"train.augment.{k}", v)}
    return {"settings": facts, "hashes": used}


def counts(name: str, value: Any) -> bool:
    """Whether this setting (`section.key`) with this value is part of the identity."""
    return name not in EXCLUDED and not (name in LATER and value == LATER[name])


def _canonical(key: str, value: Any) -> Any:
    if key in _LISTS:
        return sorted(set(value))
    if isinstance(value, float):
        return value + 0.0  # -0.0 and 0.0 are one value
    return value


def augment_settings(document: Mapping[str, Any]) -> AugmentSettings:
    """The `train.augment` of a run.json; TypeError for keys that it does not have."""
    return AugmentSettings(**document)


def settings_from(document: Mapping[str, Any]) -> RunSettings:
    """The settings of a run.json. KeyError or TypeError when they are not whole."""
    adapter = dict(document["adapter"])
    train = dict(document["train"])
    for section in (adapter, train):
        section |= {key: tuple(section[key]) for key in _LISTS if key in section}
    train["augment"] = augment_settings(train.get("augment", {}))
    return RunSettings(
        ModelSettings(**document["model"]),
        DataSettings(**document["data"]),
        TrainSettings(**train),
        AdapterSettings(**adapter),
    )
