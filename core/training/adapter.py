"""LoRA and DoRA adapters through peft: attach, save, load, merge.

An adapter folder is plain peft format, so `peft.PeftModel.from_pretrained` over plain transformers loads it; beside it
lies `reproduce.json` with the facts that its WER depends on.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from core.errors import ModelError
from core.plan.fits import missing_targets
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import CONFIG, WEIGHTS, AdapterFacts, read_facts
from core.runs.folder import write_bytes, write_json
from core.runs.paths import ADAPTER_FACTS
from core.system.files import folder_problem
from core.training.evaluation import normalisation_difference, normalisation_fingerprint
from core.training.families.base import SpeechModel
from core.training.model import one_line


def check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    """Raise ModelError when a target names no linear layer."""
    present = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    wrong = missing_targets(targets, present)
    if wrong is not None:
        raise ModelError(wrong)


def attach(speech: SpeechModel, settings: AdapterSettings, seed: int) -> SpeechModel:
    """The model with a fresh trainable adapter, which changes nothing until it is trained (B = 0)."""
    from peft import LoraConfig, get_peft_model

    check_targets(speech.network, settings.target_modules)
    torch.manual_seed(seed)
    config = LoraConfig(
        # no task type: peft's seq2seq wrapper passes input_ids and breaks speech models (peft #1988)
        task_type=None,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(set(settings.target_modules)),
        use_dora=settings.method == "dora",
        bias="none",
    )
    with _known_warnings_off():
        return replace(speech, network=get_peft_model(speech.network, config))


@contextmanager
def _known_warnings_off() -> Iterator[None]:
    """Without what peft says that no user can act on. Keys that do not fit are an error here (`_load`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def trainable(speech: SpeechModel) -> dict[str, nn.Parameter]:
    """The adapter's parameters by name, in the order that the optimiser sees them."""
    return {name: p for name, p in speech.network.named_parameters() if p.requires_grad}


def set_training_mode(speech: SpeechModel) -> None:
    """Put the adapter into training mode and all of the frozen base into evaluation mode.

    Only the adapter's own dropout then draws anything. The base is what the adapter is compared with, so it computes in
    training what it computes in evaluation: its dropout, LayerDrop and SpecAugment do not act.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    speech.network.eval()
    for module in speech.network.modules():
        if isinstance(module, BaseTunerLayer):
            module.training = True  # not train(): the layer that it wraps is the base's
            for name in (*module.adapter_layer_names, *module.other_param_names):
                part = getattr(module, name, None)
                if isinstance(part, nn.Module):
                    part.train()


def merged_copy(speech: SpeechModel) -> SpeechModel:
    """A separate model, the adapter merged in fp32; the training model stays as it is (docs/design.md, "Adapters")."""
    merged = copy.deepcopy(speech.network).merge_and_unload()
    return replace(speech, network=merged.eval().requires_grad_(False))


def save_adapter(speech: SpeechModel, folder: Path, facts: AdapterFacts) -> None:
    """Write weights, configuration and facts to `folder`; equal adapters give equal bytes."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(speech.network)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    # not save_file: its error for a full disk is no OSError
    write_bytes(folder, folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    config: dict[str, Any] = speech.network.peft_config["default"].to_dict()
    config["inference_mode"] = True
    config["base_model_name_or_path"] = facts.model
    config["revision"] = facts.revision
    write_json(folder, folder / CONFIG, {key: _plain(value) for key, value in config.items()})
    write_json(folder, folder / ADAPTER_FACTS, asdict(facts))


def _plain(value: Any) -> Any:
    """peft keeps names in sets, which it writes in varying order."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(getattr(value, "value", value))


def load_adapter(
    speech: SpeechModel, folder: Path, model_hash: str | None = None
) -> tuple[SpeechModel, AdapterFacts | None]:
    """The model with the adapter in `folder` merged in fp32, set to decode as the adapter was evaluated.

    Raises ModelError when the adapter was trained under another audio or text normalisation, or on another base model.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ModelError(f"adapter {folder}: needs {CONFIG} and {WEIGHTS} (peft format, safetensors)")
    if problem := folder_problem(folder):
        raise ModelError(f"adapter {problem}")
    facts = read_facts(folder)
    if facts is not None:
        here = normalisation_fingerprint(facts.target_rms, facts.normaliser)
        differing = normalisation_difference(facts.fingerprint, here)
        if differing is not None:
            raise ModelError(
                f"adapter {folder}: was trained under normalisation {facts.fingerprint}, this version computes {here}: "
                f"they differ in {differing}; its WER would not be the one that was reported: use the lora-tui and the "
                "versions of soundfile and soxr that trained it, or train again"
            )
        # a folder's hash and a hub id say nothing about each other
        comparable = model_hash is not None and _is_hub(model_hash) == _is_hub(facts.model_hash)
        if comparable and model_hash != facts.model_hash:
            raise ModelError(
                f"adapter {folder}: was trained on base model {facts.model} ({_short(facts.model_hash)}), "
                f"not on this one ({_short(str(model_hash))}); give that model with --model"
            )
        # earlier versions took the cap from the training data, and their hash says nothing of it
        if facts.hash_version > 1 and facts.tokens_per_second < speech.limits.tokens_per_second:
            raise ModelError(
                f"adapter {folder}: {ADAPTER_FACTS} caps transcripts at {facts.tokens_per_second:g} tokens a second, "
                f"this model at {speech.limits.tokens_per_second:g}: no trainer wrote that; bring the adapter anew"
            )
        speech = speech.capped_at(facts.tokens_per_second).allowing(facts.lifted)
    return merged_copy(replace(speech, network=_load(speech.network, folder))), facts


def _is_hub(model_hash: str) -> bool:
    return model_hash.startswith("hub:")


def _short(model_hash: str) -> str:
    return model_hash if _is_hub(model_hash) else model_hash[:12]


def _load(network: Any, folder: Path) -> Any:
    """The network with the adapter in `folder`, all of it. Raises ModelError."""
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with _known_warnings_off():
            loaded = PeftModel.from_pretrained(network, str(folder))
        with safe_open(folder / WEIGHTS, "pt") as file:
            stored = set(file.keys())
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever json, safetensors, torch and peft raise for a broken file
        raise ModelError(f"adapter {folder}: does not fit this model ({one_line(error)})") from error
    wanted = set(get_peft_model_state_dict(loaded))
    if stored != wanted:
        # peft would leave the rest untrained, or out, in silence
        odd = sorted(stored ^ wanted)
        raise ModelError(
            f"adapter {folder}: does not fit this model: {len(stored - wanted)} of its weights have no place in it and "
            f"{len(wanted - stored)} are missing, {odd[0]} for one; give the base model it was trained on with --model"
        )
    return loaded
