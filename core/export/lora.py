"""A plain LoRA in peft format, as servers load it: no DoRA, no rank-stabilised scaling, a scaling of 1 for all layers.

What a DoRA adds to a layer, ΔW = g∘(W + sBA) - W with a magnitude g for each output, has full rank in general: it is
cut to its largest singular values, and what that leaves out is measured.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from core.errors import ModelError
from core.export.serve import Request, as_judged, loaded
from core.export.source import Source, base_hash, base_model
from core.runs.adapter_files import CONFIG, WEIGHTS, plain_facts
from core.runs.paths import ADAPTER_FACTS
from core.system.files import read_json, write_bytes, write_json
from core.training.adapter import load_adapter, updates
from core.training.families.base import SpeechModel

LARGEST_ERROR = 0.05
"""Of what is left out of a layer's update, as a share of it (Frobenius norms)."""
_PREFIX = "base_model.model."


def write(source: Source, folder: Path, precision: str, largest_error: float = LARGEST_ERROR) -> dict[str, Any]:
    """Write the adapter as a plain LoRA. Gives what the conversion left out. ModelError; OSError for the disk."""
    config, problem = read_json(source.adapter / CONFIG)
    if config is None:
        raise ModelError(problem or f"{source.adapter / CONFIG}: missing")
    load_adapter(base_model(source), source.adapter, base_hash(source))  # refuses what was trained on another base
    if config.get("use_dora"):
        parts, report = _truncated(source, largest_error)
    else:
        parts, report = _rescaled(source, config), {"method": "exact", "largest_error": 0.0}
    ranks = {name: a.shape[0] for name, (a, _) in parts.items()}
    largest = max(ranks.values())
    tensors = {
        f"{_PREFIX}{name}.lora_{side}.weight": tensor.contiguous()
        for name, pair in sorted(parts.items())
        for side, tensor in zip("AB", pair, strict=True)
    }
    others = {name: rank for name, rank in sorted(ranks.items()) if rank != largest}
    config |= {
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "use_dora": False,
        "use_rslora": False,
        "base_model_name_or_path": source.facts.model,
    }
    write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, config)
    write_json(folder / ADAPTER_FACTS, plain_facts(source.facts))
    return report | {"ranks": [min(ranks.values()), largest]}


def _rescaled(source: Source, config: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, scaling × B) of each layer: the same update to the last bits."""
    stored = load_file(source.adapter / WEIGHTS)
    names = sorted(name.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for name in stored if ".lora_A." in name)
    patterns = {key: config.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
    parts = {}
    for name in names:
        a, b = (stored[f"{_PREFIX}{name}.lora_{side}.weight"] for side in "AB")
        alpha = float(patterns["alpha_pattern"].get(name, config["lora_alpha"]))
        rank = float(patterns["rank_pattern"].get(name, config["r"]))
        parts[name] = a, b * (alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    return parts


def _truncated(source: Source, largest_error: float) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Any]]:
    """(A, B) of the lowest rank that leaves out at most that share of each layer's update, and the report."""
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    errors: list[float] = []
    for name, before, after in updates(base_model(source), source.adapter):
        change = after.double() - before.double()
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        rank, error = lowest_rank(values, largest_error)
        root = values[:rank].sqrt()
        parts[name] = (root[:, None] * right[:rank]).float().cpu(), (left[:, :rank] * root).float().cpu()
        errors.append(error)
    return parts, {"method": "truncated SVD", "largest_error": max(errors)}


def lowest_rank(values: Tensor, largest_error: float) -> tuple[int, float]:
    """(the lowest rank ≥ 1 whose truncation leaves out at most that share, the share), by singular values, falling.

    By Eckart and Young (1936) the truncated decomposition is the nearest matrix of its rank, and what it leaves out has
    the Frobenius norm sqrt(Σ σ²) of the values that it drops.
    """
    squares = values.double() ** 2
    dropped = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])  # by rank 0 … all
    total = float(dropped[0])
    if total == 0:
        return 1, 0.0
    share = (dropped / total).sqrt()
    rank = max(1, int((share > largest_error).sum()))
    return rank, float(share[rank])


def opened(request: Request) -> SpeechModel:
    """The adapter on its base model, as plain transformers and peft load both."""
    speech = loaded(request.model, request.revision, request.facts)
    speech, _ = load_adapter(speech, Path(request.folder), request.base_hash)
    return as_judged(speech, request.facts)
