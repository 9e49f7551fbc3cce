"""Adapters made of those that a run saved: the average of intervals, part of the way from the base model, or both.

Both are of *effective* weights, those of a layer with its adapter merged in. With the base weights W0 (outputs,
inputs), the change D_i = W_i - W0 of each of n saved adapters, and alpha of the way, the layer's weights are

    W = W0 + alpha / n * sum_i D_i

and the adapter that says so is exact but for rounding, at n times the rank, in the format and method of those it is
made of:

- LoRA and what is saved as LoRA: D_i = s B_i A_i. B and A are stacked, and alpha goes into `lora_alpha`.
- DoRA: W_i = g_i o (W0 + s B_i A_i), with the row factor g_i = m_i / |W0 + s B_i A_i| (o: each row by its factor), so
  that W = c o (W0 + s sum_i (alpha g_i / (n c)) o B_i A_i) with c = 1 + alpha / n * sum_i (g_i - 1). That is a DoRA
  again: the rows of B_i times alpha g_i / (n c), stacked, and magnitudes c |W0 + s B A|. A smaller `lora_alpha` alone
  would not be it: the magnitudes would stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from core.errors import ModelError
from core.runs.adapter_files import CONFIG, WEIGHTS, AdapterFacts
from core.system.files import read_json
from core.training.adapter import write_adapter

_PREFIX = "base_model.model."
"""peft's, before a layer's name in the names of its weights."""
_A, _B, _MAGNITUDE = (f".lora_{name}" for name in ("A.weight", "B.weight", "magnitude_vector"))
_LEAST_FACTOR = 1e-3
"""Of a row of W0 in W: below it, what is left of the row is none that a DoRA could scale."""


@dataclass(frozen=True, slots=True)
class Saved:
    """An adapter as it lies on the disk: peft's configuration and its weights by name."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def layers(self) -> list[str]:
        """Whole names of the layers that have an adapter, without peft's prefix."""
        return sorted(name.removeprefix(_PREFIX).removesuffix(_A) for name in self.tensors if name.endswith(_A))

    def of(self, layer: str, part: str) -> Tensor:
        """One of the layer's weights, in fp64."""
        return self.tensors[f"{_PREFIX}{layer}{part}"].double()


def read_saved(folder: Path) -> Saved:
    """The adapter in `folder`. ModelError where it is damaged, or none that a trainer saved."""
    try:
        config, problem = read_json(folder / CONFIG)
        if config is None:
            raise ValueError(problem or f"{folder / CONFIG}: missing")
        saved = Saved(config, load_file(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"adapter {folder}: cannot be read ({error})") from error
    parts = [_A, _B, *([_MAGNITUDE] if config.get("use_dora") else [])]
    if set(saved.tensors) != {f"{_PREFIX}{layer}{part}" for layer in saved.layers for part in parts}:
        raise ModelError(f"adapter {folder}: has weights that no trainer saves")
    return saved


def mixture(saved: Sequence[Saved], alpha: float, base: Callable[[str], Tensor]) -> Saved:
    """The average of the adapters, `alpha` of the way from the base model to it.

    `base`: a layer's name → its weights W0, (outputs, inputs). The adapters are of one run: one configuration.
    ModelError where a DoRA cannot say it, because a row of W0 falls out.
    """
    config, count = saved[0].config, len(saved)
    stretch = math.sqrt(count) if config.get("use_rslora") else count
    # peft divides lora_alpha by the rank (rslora: by its root), which is `count` times what it was
    scale = stretch if config.get("use_dora") else stretch * alpha / count
    tensors: dict[str, Tensor] = {}
    for layer in saved[0].layers:
        if config.get("use_dora"):
            parts = _dora(saved, alpha, layer, base(layer))
        else:
            parts = {_A: torch.cat([one.of(layer, _A) for one in saved])}
            parts[_B] = torch.cat([one.of(layer, _B) for one in saved], dim=1)
        tensors |= {f"{_PREFIX}{layer}{part}": tensor.float().contiguous() for part, tensor in parts.items()}
    more = {
        "r": count * config["r"],
        "lora_alpha": scale * config["lora_alpha"],
        "rank_pattern": {name: count * rank for name, rank in (config.get("rank_pattern") or {}).items()},
        "alpha_pattern": {name: scale * value for name, value in (config.get("alpha_pattern") or {}).items()},
    }
    return Saved(config | more, tensors)


def _dora(saved: Sequence[Saved], alpha: float, layer: str, base: Tensor) -> dict[str, Tensor]:
    whole = base.detach().cpu().double()
    scaling = _scaling(saved[0], layer)
    share = alpha / len(saved)
    factors = []
    for one in saved:
        norms = (whole + scaling * (one.of(layer, _B) @ one.of(layer, _A))).norm(dim=1)
        factors.append(one.of(layer, _MAGNITUDE) / norms)
    row = 1 + share * sum(factor - 1 for factor in factors)
    if not bool((row.abs() > _LEAST_FACTOR).all()):
        raise ModelError(f"layer {layer}: {alpha:g} of the way from the base model, a row of its weights falls out")
    a = torch.cat([one.of(layer, _A) for one in saved])
    b = [(share * factor / row)[:, None] * one.of(layer, _B) for one, factor in zip(saved, factors, strict=True)]
    b_whole = torch.cat(b, dim=1)
    # of what will be read: the norms are those of the rounded weights
    norms = (whole + scaling * (b_whole.float().double() @ a)).norm(dim=1)
    return {_A: a, _B: b_whole, _MAGNITUDE: row * norms}


def _scaling(saved: Saved, layer: str) -> float:
    """What peft multiplies the layer's B A by."""
    from peft.utils.other import get_pattern_key

    config, rank = saved.config, saved.tensors[f"{_PREFIX}{layer}{_A}"].shape[0]
    pattern = config.get("alpha_pattern") or {}
    alpha = float(pattern.get(get_pattern_key(pattern.keys(), layer), config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def make_candidate(
    sources: Sequence[Path], folder: Path, alpha: float, facts: AdapterFacts, base: Callable[[str], Tensor]
) -> None:
    """Write to `folder` the average of the adapters in `sources`, `alpha` of the way from the base model to it."""
    made = mixture([read_saved(source) for source in sources], alpha, base)
    write_adapter(folder, made.tensors, made.config, facts)
