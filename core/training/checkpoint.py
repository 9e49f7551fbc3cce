"""Resumable state: adapter weights and optimiser moments, in safetensors, whole only with its marker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from core.errors import RunFolderError
from core.runs.files import fsync_folder, write_bytes, write_json, write_text
from core.runs.paths import RunPaths, step_of

STATE = "state.safetensors"
META = "meta.json"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(
    paths: RunPaths,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    plan_hash: str,
) -> None:
    """Write the state after optimiser step `step`; the marker comes last, when all else is on disk.

    A whole checkpoint of that step is left as it is: the run went on from there and was stopped before the next step.
    """
    if paths.checkpoint_marker(step).is_file():
        return
    folder = paths.checkpoint(step)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = {f"weight/{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key in _MOMENTS:
            if key in optimiser.state.get(parameter, {}):
                tensors[f"{key}/{name}"] = optimiser.state[parameter][key].detach().cpu().clone()
    # not save_file: its error for a full disk is no OSError
    write_bytes(folder / STATE, save(tensors))
    write_json(folder / META, {"schema": 1, "step": step, "batch_plan": plan_hash})
    write_text(paths.checkpoint_marker(step), "whole\n")
    fsync_folder(paths.checkpoints)


def whole_checkpoints(paths: RunPaths) -> list[int]:
    """Steps of the checkpoints that can be resumed from, ascending."""
    if not paths.checkpoints.is_dir():
        return []
    steps = [step_of(entry.name) for entry in paths.checkpoints.iterdir()]
    return sorted(s for s in steps if s is not None and paths.checkpoint_marker(s).is_file())


def load_checkpoint(
    paths: RunPaths,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    plan_hash: str,
) -> None:
    """Put weights and optimiser moments back as they were after `step`.

    Raises RunFolderError when the files are damaged or were written under another batch plan.
    """
    folder = paths.checkpoint(step)
    try:
        planned = json.loads((folder / META).read_bytes())["batch_plan"]
        tensors = load_file(folder / STATE)
        missing = [name for name in parameters if f"weight/{name}" not in tensors]
        if missing:
            raise KeyError(missing[0])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunFolderError(
            f"{folder}: damaged ({type(error).__name__}: {error}); delete it: the run then goes on from the checkpoint "
            "before it, or from the beginning"
        ) from error
    if planned != plan_hash:
        raise RunFolderError(
            f"{folder}: was written under batch plan {planned}, and these libraries plan {plan_hash}; use the versions "
            f"that the run began with (they are in {paths.events}), or delete {paths.checkpoints} to begin again"
        )
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


def sweep_up(paths: RunPaths) -> None:
    """Delete what an attempt that was killed, or met a full disk, left half done: temporary files, torn checkpoints."""
    for torn in paths.root.rglob("*.tmp"):
        torn.unlink(missing_ok=True)
    prune_checkpoints(paths, max(1, len(whole_checkpoints(paths))))


def _remove(folder: Path) -> None:
    # the marker goes first: a half-deleted checkpoint must not look whole
    (folder / "complete").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
