"""Adapters through peft (LoRA, DoRA and their kin): attach, save, load, merge.

An adapter folder is plain peft format, so `peft.PeftModel.from_pretrained` over plain transformers loads it; beside it
lies `reproduce.json` with the facts that its WER depends on.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from core.errors import ModelError
from core.plan.families import FamilyFacts
from core.plan.schema import AdapterSettings
from core.plan.targets import FROM_LAYERS, Shape, TargetError, plain_names, ranks_of
from core.runs.adapter_files import CONFIG, WEIGHTS, AdapterFacts, plain_facts, read_facts
from core.runs.folder import write_bytes, write_json
from core.runs.paths import ADAPTER_FACTS
from core.system.files import folder_problem
from core.training.evaluation import normalisation_difference, normalisation_fingerprint
from core.training.families.base import SpeechModel
from core.training.memory import whole_modules
from core.training.model import one_line

TRAINED = "default"
"""peft's name of the adapter that is trained."""
_BEGINNING = "beginning"
"""Of the frozen one beside it, which takes away what the trained one began with."""


def attach(speech: SpeechModel, settings: AdapterSettings, seed: int) -> SpeechModel:
    """The model with a fresh trainable adapter, which changes nothing until it is trained.

    `pissa` and `olora` begin with a part of each layer's own weights. What they begin with stays beside them, frozen
    and with the other sign, so that the base model is never altered: base + (BA - B0 A0). ModelError: wrong targets.
    """
    from peft import get_peft_model

    config = _config(settings, _ranks(speech, settings), speech.facts)
    beginning = copy.deepcopy(config)  # peft changes the one that it is given
    torch.manual_seed(seed)
    with _known_warnings_off():
        network = get_peft_model(speech.network, config)
        if settings.method in FROM_LAYERS:
            beginning.lora_dropout = 0.0
            network.add_adapter(_BEGINNING, beginning)
            _begin_with_layers(network, _PARTS[settings.method])
    return replace(speech, network=network)


def _ranks(speech: SpeechModel, settings: AdapterSettings) -> dict[str, int]:
    layers = {
        name: Shape(module.out_features, module.in_features)
        for name, module in speech.network.named_modules()
        if isinstance(module, nn.Linear)
    }
    try:
        return ranks_of(settings, layers, speech.facts)
    except TargetError as error:
        raise ModelError(str(error)) from error


def _config(settings: AdapterSettings, ranks: dict[str, int], facts: FamilyFacts) -> Any:
    """peft's own configuration, which plain peft reads. Whole names of layers where the plan's do not say it all."""
    from peft import LoraConfig

    plain = plain_names(settings, facts)
    return LoraConfig(
        # no task type: peft's seq2seq wrapper passes input_ids and breaks speech models (peft #1988)
        task_type=None,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(set(settings.target_modules)) if plain else sorted(ranks),
        rank_pattern={name: rank for name, rank in ranks.items() if rank != settings.rank},
        use_dora=settings.method == "dora",
        use_rslora=settings.method == "rslora",
        bias="none",
    )


def _pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """(B0, A0) of PiSSA: the largest singular values and vectors of (outputs, inputs); scale B0 A0 is that part."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = (values[:rank] / scale).sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def _olora(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """(B0, A0) of OLoRA: the first columns and rows of the weight's QR decomposition."""
    orthonormal, triangular = torch.linalg.qr(weight)
    return orthonormal[:, :rank], triangular[:rank]


_PARTS: dict[str, Callable[[Tensor, int, float], tuple[Tensor, Tensor]]] = {"pissa": _pissa, "olora": _olora}


def _begin_with_layers(network: Any, part: Callable[[Tensor, int, float], tuple[Tensor, Tensor]]) -> None:
    """Give both adapters of each layer the same part of its weights, one of them the negative."""
    network.base_model.set_adapter([TRAINED, _BEGINNING])
    with torch.no_grad():
        for _, layer in adapted_layers(network):
            weight = layer.get_base_layer().weight.float()
            b, a = part(weight, layer.r[TRAINED], layer.scaling[TRAINED])
            for name, sign in ((TRAINED, 1.0), (_BEGINNING, -1.0)):
                layer.lora_A[name].weight.copy_(a)
                layer.lora_B[name].weight.copy_(b * sign)
                layer.lora_A[name].requires_grad_(name == TRAINED)
                layer.lora_B[name].requires_grad_(name == TRAINED)


def adapted_layers(network: Any) -> list[tuple[str, Any]]:
    """(name, layer) of each layer with an adapter."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer)]


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


def kept(speech: SpeechModel) -> dict[str, nn.Parameter]:
    """All that a checkpoint holds of the adapter: what is trained, and what it began with where that is not zero."""
    return {name: p for name, p in speech.network.named_parameters() if ".lora_" in name}


def optimiser_groups(parameters: dict[str, nn.Parameter], ratio: float) -> list[dict[str, Any]]:
    """The optimiser's groups; `faster` multiplies the learning rate: LoRA+ does so for B and DoRA's magnitudes."""
    if ratio == 1.0:
        return [{"params": list(parameters.values()), "faster": 1.0}]
    fast = {name for name, p in parameters.items() if ".lora_B." in name or p.ndim == 1}
    slow = [p for name, p in parameters.items() if name not in fast]
    return [
        {"params": slow, "faster": 1.0},
        {"params": [parameters[name] for name in parameters if name in fast], "faster": ratio},
    ]


@contextmanager
def merged(speech: SpeechModel) -> Iterator[SpeechModel]:
    """The plain model with the adapter merged in fp32, to be evaluated; afterwards the training model as it was.

    Only the layers that have an adapter get other weights meanwhile; theirs are put back, not computed back.
    """
    network = speech.network.get_base_model()
    modes = [(module, module.training) for module in network.modules()]
    with _whole(network, speech.device):
        swapped: list[tuple[nn.Module, str, Any, nn.Parameter]] = []
        try:
            for name, layer in adapted_layers(network):
                owner, child = _place(network, name)
                swapped.append((owner, child, layer, layer.get_base_layer().weight))
                _swap(owner, child, layer)
            yield replace(speech, network=network.eval())
        finally:
            for owner, child, layer, weight in swapped:
                layer.get_base_layer().weight = weight
                setattr(owner, child, layer)
            for module, mode in modes:
                module.training = mode


@contextmanager
def loaded(speech: SpeechModel, folder: Path) -> Iterator[SpeechModel]:
    """The plain model with the adapter in `folder` merged in, as plain peft reads it; afterwards as it was."""
    adapted = replace(speech, network=_load(speech.network, folder))
    try:
        with merged(adapted) as scoring:
            yield scoring
    finally:
        without_adapter(adapted)


def without_adapter(speech: SpeechModel) -> SpeechModel:
    """The plain base model in fp32, for good: the adapter is let go, and no layer is reduced any more."""
    network = speech.network.get_base_model()
    for owner, child, _, whole in whole_modules(network):
        setattr(owner, child, whole.to(speech.device))
    for name, layer in adapted_layers(network):
        owner, child = _place(network, name)
        setattr(owner, child, layer.get_base_layer())
    del network.peft_config  # peft's own mark of a model that has an adapter
    return replace(speech, network=network)


@contextmanager
def _whole(network: nn.Module, device: torch.device) -> Iterator[None]:
    """The base in fp32 on the device, where `train.base_precision` reduced it."""
    reduced = whole_modules(network)
    try:
        for owner, child, _, whole in reduced:
            setattr(owner, child, whole.to(device))
        yield
    finally:
        for owner, child, module, whole in reduced:
            setattr(owner, child, module)
            whole.to("cpu")


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, child = name.rpartition(".")
    return network.get_submodule(parent), child


def _swap(owner: nn.Module, child: str, layer: Any) -> None:
    """Put the plain layer in the adapter's place, with merged weights of its own: others may share those it has."""
    base = layer.get_base_layer()
    base.weight = nn.Parameter(_merged_weight(layer), requires_grad=False)
    setattr(owner, child, base)


@torch.no_grad()
def _merged_weight(layer: Any) -> Tensor:
    """What plain peft makes of the saved adapter, to the bit; the layer is left as it was."""
    base, weight = layer.get_base_layer(), layer.get_base_layer().weight
    if _BEGINNING in layer.lora_A:
        b, a = (_joined(layer, side) for side in ("lora_B", "lora_A"))
        joined: Tensor = weight + (b @ a) * layer.scaling[TRAINED]
        return joined
    base.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    try:
        layer.merge(adapter_names=[TRAINED])
        changed: Tensor = base.weight.detach()
        return changed
    finally:
        layer.merged_adapters.clear()
        layer._caches.clear()
        base.weight = weight


def _joined(layer: Any, side: str) -> Tensor:
    """The adapter and what it began with, as the one adapter of twice the rank that is saved."""
    return torch.cat([getattr(layer, side)[name].weight for name in (TRAINED, _BEGINNING)], int(side == "lora_B"))


def save_adapter(speech: SpeechModel, folder: Path, facts: AdapterFacts) -> None:
    """Write weights, configuration and facts to `folder`; equal adapters give equal bytes."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(speech.network, adapter_name=TRAINED)
    config: dict[str, Any] = speech.network.peft_config[TRAINED].to_dict()
    if _BEGINNING in speech.network.peft_config:
        began = get_peft_model_state_dict(speech.network, adapter_name=_BEGINNING)
        state = {name: torch.cat([tensor, began[name]], int(".lora_B." in name)) for name, tensor in state.items()}
        config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}
        config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    config |= {"base_model_name_or_path": facts.model, "revision": facts.revision, "inference_mode": True}
    write_adapter(folder, state, config, facts)


def write_adapter(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], facts: AdapterFacts) -> None:
    """Write an adapter's weights, peft's configuration and the facts to `folder`; equal adapters give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    # not save_file: its error for a full disk is no OSError
    write_bytes(folder, folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_json(folder, folder / CONFIG, {key: _plain(value) for key, value in config.items()})
    write_json(folder, folder / ADAPTER_FACTS, plain_facts(facts))


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
    """The model with the adapter in `folder` merged in fp32, set to decode as the adapter was evaluated. ModelError."""
    speech, facts = decoding_as(speech, folder, model_hash)
    network = _load(speech.network, folder).get_base_model()
    for name, layer in adapted_layers(network):
        _swap(*_place(network, name), layer)
    return replace(speech, network=network.eval().requires_grad_(False)), facts


def decoding_as(
    speech: SpeechModel, folder: Path, model_hash: str | None = None
) -> tuple[SpeechModel, AdapterFacts | None]:
    """The model as it is, set to decode as the adapter in `folder` was evaluated.

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
                f"they differ in {differing}; its error rate would not be the one that was reported: use the lora-tui "
                "and the versions of soundfile and soxr that trained it, or train again"
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
        if facts.targets == 1 < speech.targets_version:
            # of a version that told no model a language: it is decoded as it was then
            speech = replace(speech, facts=replace(speech.facts, language="refused"))
        alike = (speech.language, speech.task) == (facts.language, facts.task)
        if alike and facts.prompt and facts.prompt != speech.prompted:
            raise ModelError(
                f"adapter {folder}: was trained with the prompt {list(facts.prompt)}, this version gives the model "
                f"{list(speech.prompted)}: use the lora-tui and transformers that trained it, or train again"
            )
        speech = speech.capped_at(facts.tokens_per_second).allowing(facts.lifted).hearing(facts.audio_context)
    return speech, facts


def updates(speech: SpeechModel, folder: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, weight, merged weight) of each layer that the adapter in `folder` changes. Raises ModelError."""
    network = _load(speech.network, folder).get_base_model()
    for name, layer in adapted_layers(network):
        yield name, layer.get_base_layer().weight.detach(), _merged_weight(layer).detach()


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
