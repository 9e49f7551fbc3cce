"""Resumable state: adapter weights and optimiser moments, in safetensors, whole only with its marker."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.errors import RunFolderError
from core.runs.folder import delete, files, make, names, subfolders, write_bytes, write_json, write_text
from core.runs.paths import MARKER, RunPaths, step_of
from core.system.files import read_json

STATE = "state.safetensors"
META = "meta.json"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(
    paths: RunPaths,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    plan_hash: str,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the state after optimiser step `step`; the marker comes last, when all else is on disk.

    `average`: of the parameters over the steps so far, by their names, where the run keeps one.
    A whole checkpoint of that step is left as it is: the run went on from there and was stopped before the next step.
    """
    if step in whole_checkpoints(paths):
        return
    folder = paths.checkpoint(step)
    delete(paths.root, folder)
    make(paths.root, folder)
    tensors = {f"weight/{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key in _MOMENTS:
            if key in optimiser.state.get(parameter, {}):
                tensors[f"{key}/{name}"] = optimiser.state[parameter][key].detach().cpu().clone()
    tensors |= {f"average/{name}": tensor.cpu().clone() for name, tensor in (average or {}).items()}
    # not save_file: its error for a full disk is no OSError
    write_bytes(paths.root, folder / STATE, save(tensors))
    write_json(paths.root, folder / META, {"schema": 1, "step": step, "batch_plan": plan_hash})
    write_text(paths.root, paths.checkpoint_marker(step), "whole\n")


def whole_checkpoints(paths: RunPaths) -> list[int]:
    """Steps of the checkpoints that can be resumed from, ascending."""
    steps = [step_of(name) for name in subfolders(paths.root, paths.checkpoints)]
    return sorted(s for s in steps if s is not None and MARKER in names(paths.root, paths.checkpoint(s)))


def batch_plan_of(paths: RunPaths, step: int) -> str | None:
    """The hash of the batch plan that a checkpoint was written under; None where it does not say."""
    meta, _ = read_json(paths.checkpoint(step) / META)
    planned = (meta or {}).get("batch_plan")
    return planned if isinstance(planned, str) else None


def load_checkpoint(
    paths: RunPaths,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    plan_hash: str,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Put weights, optimiser moments and, into the tensors of `average`, the average back as they were after `step`.

    Raises RunFolderError when the files are damaged or were written under another batch plan.
    """
    folder = paths.checkpoint(step)
    try:
        meta, problem = read_json(folder / META)
        if meta is None:
            raise ValueError(problem or f"no {META}")
        planned = meta["batch_plan"]
        tensors = load_file(folder / STATE)
        wanted = [f"weight/{name}" for name in parameters] + [f"average/{name}" for name in average or ()]
        missing = [name for name in wanted if name not in tensors]
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
        for name, tensor in (average or {}).items():
            tensor.copy_(tensors[f"average/{name}"])
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
    for name in names(paths.root, paths.checkpoints):
        if step_of(name) not in whole:
            with contextlib.suppress(OSError):
                delete(paths.root, paths.checkpoints / name)


def sweep_up(paths: RunPaths) -> None:
    """Delete what an attempt that was killed, or met a full disk, left half done: temporary files, torn checkpoints."""
    for file, _ in files(paths.root):
        if file.suffix == ".tmp":
            with contextlib.suppress(OSError):
                delete(paths.root, file)
    prune_checkpoints(paths, max(1, len(whole_checkpoints(paths))))
