"""Loading a speech recogniser: its network and processor, and the family that they belong to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.plan.families import FamilyFacts, family_of, why_not
from core.runs.model_check import model_problem, worded
from core.runs.model_files import is_hub_id
from core.training.determinism import steady_kernels
from core.training.families import family_class
from core.training.families.base import SpeechModel
from core.training.products import take_fast_products


def choose_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_given_gpu(device: torch.device) -> None:
    """Raise ModelError when the queue gave this process a GPU and PyTorch cannot use it.

    It would train on the CPU instead, a hundred times slower, and nobody would be told.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if given.startswith(("GPU-", "MIG-")) and device.type == "cpu" and torch.version.cuda is not None:
        raise ModelError(
            f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) cannot use {given}, which this run was given; "
            "the driver may be too old for it: take a newer driver or a PyTorch that it can run, or leave "
            "CUDA_VISIBLE_DEVICES empty to train on the CPU"
        )


def choose_precision(asked: str, device: torch.device) -> str:
    """`auto` is bf16 autocast where the device computes in it, else fp32."""
    if asked == "auto":
        # older GPUs only emulate bf16, which is slower than fp32
        gains = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if gains else "fp32"
    return asked


def load_model(
    name: str,
    revision: str | None = None,
    *,
    device: torch.device | None = None,
    precision: str = "auto",
    language: str | None = None,
    task: str | None = None,
) -> SpeechModel:
    """Load a hub id or a folder in hub format: safetensors only, never code from the repository.

    Raises ModelError with what is missing or does not fit.
    """
    _check_name(name, language)
    device = device or choose_device()
    steady_kernels()
    config = _config(name, revision)
    facts, wrong = family_of(config.get("model_type")), why_not(config)
    if facts is None or wrong is not None:
        raise ModelError(f"model {name}: {wrong}")
    network = _load_network(name, revision, facts)
    processor, reason = _load_processor(name, revision, facts.processors)
    if processor is None or not hasattr(processor, "tokenizer") or not hasattr(processor, "feature_extractor"):
        raise ModelError(
            f"model {name}: no usable processor ({reason}); the folder needs preprocessor_config.json or "
            "processor_config.json, and tokenizer.json"
        )
    network.eval().requires_grad_(False).to(device)
    if device.type == "cpu":
        take_fast_products(network)
    return family_class(facts).opened(
        network, processor, facts, device, choose_precision(precision, device), language, task
    )


def _load_processor(name: str, revision: str | None, classes: Sequence[str]) -> tuple[Any, str]:
    """(the processor by the first of `classes` that can be had or None, why the first one lacks what it needs)."""
    reasons = []
    for kind in classes:
        try:
            return _pretrained(kind, name, revision), "its processor lacks a tokenizer or a feature extractor"
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever json, tokenizers and the feature extractors raise for a broken file
            reasons.append(one_line(error))
    return None, reasons[0]


def _config(name: str, revision: str | None) -> dict[str, Any]:
    """The model's config.json. Raises ModelError where the file cannot be had."""
    import transformers

    try:
        config: dict[str, Any] = transformers.PretrainedConfig.get_config_dict(name, revision=revision)[0]
        config.get("model_type")  # which a list has not
    except Exception as error:  # whatever json, transformers and the hub raise
        raise ModelError(f"model {name}: cannot be loaded: no config.json to read ({one_line(error)})") from error
    return config


def _load_network(name: str, revision: str | None, facts: FamilyFacts) -> Any:
    """The network with all its weights from safetensors, in fp32. Raises ModelError."""
    try:
        network, found = _pretrained(
            facts.loader,
            name,
            revision,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever json, safetensors, torch and transformers raise for a broken file
        raise ModelError(
            f"model {name}: cannot be loaded as what its config.json calls it ({one_line(error)}); "
            "give a folder or hub id with config.json and model.safetensors of one model"
        ) from error
    missing = sorted(key for key in found["missing_keys"] if key.rpartition(".")[2] not in facts.unused)
    if missing:
        # transformers would fill them with random numbers
        raise ModelError(
            f"model {name}: {len(missing)} of its weights are not in its safetensors files, {missing[0]} for one; "
            "config.json and the weights are not of one model: save or download it again"
        )
    return network


def _pretrained(kind: str, name: str, revision: str | None, **more: Any) -> Any:
    """`transformers.<kind>.from_pretrained`, without bars and reports: what they say is checked or raised here."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return getattr(transformers, kind).from_pretrained(name, revision=revision, trust_remote_code=False, **more)
    finally:
        logging.set_verbosity(verbosity)


def _check_name(name: str, language: str | None) -> None:
    """Raise ModelError for a folder without a whole model for `language`, or a name of neither folder nor hub id."""
    folder = Path(name)
    if not folder.is_dir():
        if not is_hub_id(name):
            raise ModelError(
                f"model {name}: no such folder; give a folder in hub format or a hub id (organisation/name)"
            )
        return
    if problem := model_problem(folder, language):
        raise ModelError(worded(f"model {folder}", problem))


def one_line(error: BaseException) -> str:
    """What a library said, short enough to stand inside a sentence."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else f"{text[:200]}…") or type(error).__name__
