"""Resumable state: adapter weights and optimiser moments, in safetensors, whole only with its marker."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from core.runs.files import fsync_folder, write_bytes, write_json, write_text
from core.runs.paths import RunPaths, step_of

STATE = "state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(
    paths: RunPaths,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    plan_hash: str,
) -> None:
    """Write the state after optimiser step `step`; the marker comes last, when all else is on disk."""
    folder = paths.checkpoint(step)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    tensors = {f"weight/{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key in _MOMENTS:
            if key in optimiser.state.get(parameter, {}):
                tensors[f"{key}/{name}"] = optimiser.state[parameter][key].detach().cpu().clone()
    # not save_file: its error for a full disk is no OSError
    write_bytes(folder / STATE, save(tensors))
    write_json(folder / "meta.json", {"schema": 1, "step": step, "batch_plan": plan_hash})
    write_text(paths.checkpoint_marker(step), "whole\n")
    fsync_folder(paths.checkpoints)


def whole_checkpoints(paths: RunPaths) -> list[int]:
    """Steps of the checkpoints that can be resumed from, ascending."""
    if not paths.checkpoints.is_dir():
        return []
    steps = [step_of(entry.name) for entry in paths.checkpoints.iterdir()]
    return sorted(s for s in steps if s is not None and paths.checkpoint_marker(s).is_file())


def load_checkpoint(
    paths: RunPaths, step: int, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    """Put weights and optimiser moments back as they were after `step`."""
    tensors = load_file(paths.checkpoint(step) / STATE)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight/{name}"])
            state = {key: tensors[f"{key}/{name}"] for key in _MOMENTS if f"{key}/{name}" in tensors}
            if state:
                # AdamW keeps its step count on the CPU, the moments beside the weights
                optimiser.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
                }


def prune_checkpoints(paths: RunPaths, keep: int) -> None:
    """Delete all but the newest `keep` whole checkpoints, and what is left of torn ones."""
    whole = set(whole_checkpoints(paths)[-keep:] if keep else [])
    if not paths.checkpoints.is_dir():
        return
    for entry in list(paths.checkpoints.iterdir()):
        if step_of(entry.name) not in whole:
            _remove(entry)


def _remove(folder: Path) -> None:
    # the marker goes first: a half-deleted checkpoint must not look whole
    (folder / "complete").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
