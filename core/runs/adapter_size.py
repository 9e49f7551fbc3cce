"""What an adapter of a plan comes to on its model, told from the model's files: which layers, how many weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.plan.families import FamilyFacts, family_of, why_not
from core.plan.schema import AdapterSettings, ModelSettings, RunSettings
from core.plan.targets import OUTPUT_LAYERS, Shape, TargetError, is_output, ranks_of, saved_weights, trained_weights
from core.runs.model_files import CONFIG, folder_in_cache, is_hub_id, model_shapes
from core.system.files import read_json


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """Of one row of a plan."""

    layers: int
    """Linear layers that get an adapter."""
    of: int
    """Linear layers of the model."""
    trained: int
    """Weights that are trained."""
    saved: int
    """Weights in the adapter's file."""
    model: int
    """Weights of the model."""


def model_folder(model: ModelSettings) -> Path:
    """The model's files: its own folder, or the one that the cache of the hub keeps of it. It need not be there."""
    folder = Path(model.id)
    if folder.is_dir() or not is_hub_id(model.id):
        return folder
    return folder_in_cache(model.id, model.revision) or folder


def adapter_problem(settings: RunSettings) -> str | None:
    """What the trainer would refuse of the model's family or the adapter's layers; None: nothing that files tell."""
    try:
        _size(settings)
    except TargetError as error:
        return str(error)
    return None


def adapter_size(settings: RunSettings) -> AdapterSize | None:
    """What the adapter comes to; None where the model is not here, or there is a problem with it."""
    found = adapted_model(settings)
    if found is None:
        return None
    return AdapterSize(len(found.ranks), len(found.linear), found.trained, found.saved, found.weights)


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A model with the adapter of a row, by its files."""

    folder: Path
    facts: FamilyFacts
    linear: dict[str, Shape]
    """Whole name of each linear layer that a file names."""
    ranks: dict[str, int]
    """Whole name of each layer that gets an adapter → its rank."""
    trained: int
    saved: int
    weights: int
    vocabulary: int
    """Entries of the output layer."""
    frames_per_second: float
    """Of the encoder."""


def adapted_model(settings: RunSettings) -> AdaptedModel | None:
    """None where the model is not here, or there is a problem with it."""
    try:
        return _size(settings)
    except TargetError:
        return None


def _size(settings: RunSettings) -> AdaptedModel | None:
    folder = model_folder(settings.model)
    config = _config(folder)
    facts = _family(folder, config)
    found = model_shapes(folder)
    if facts is None or not found.linear:
        return None
    adapter = settings.adapter
    linear = {facts.module(name): shape for name, shape in found.linear.items()}
    layers = linear | _shared(adapter, found.embedding)
    ranks = ranks_of(adapter, layers, facts)
    trained = trained_weights(adapter, ranks, layers)
    outputs = [shape.outputs for name, shape in linear.items() if is_output(name)]
    return AdaptedModel(
        folder=folder,
        facts=facts,
        linear=linear,
        ranks=ranks,
        trained=trained,
        saved=saved_weights(adapter, trained),
        weights=found.weights,
        vocabulary=max(outputs, default=0 if found.embedding is None else found.embedding.outputs),
        frames_per_second=_frames_per_second(facts, config or {}),
    )


def _config(folder: Path) -> dict[str, Any] | None:
    return read_json(folder / CONFIG, follow=True)[0] if folder.is_dir() else None


def _frames_per_second(facts: FamilyFacts, config: dict[str, Any]) -> float:
    """As the configuration says how many frames of 10 ms are made one, else as the family's models have it."""
    for place in (config, config.get("encoder_config")):
        factor = place.get("subsampling_factor") if isinstance(place, dict) else None
        if isinstance(factor, int) and factor > 0:
            return 100.0 / factor
    return facts.frames_per_second


def _family(folder: Path, config: dict[str, Any] | None) -> FamilyFacts | None:
    """The model's family; None where no file tells. TargetError: it is none that can be trained."""
    if config is None:
        return None
    if wrong := why_not(config):
        raise TargetError(f"model.id: {folder}: {wrong}")
    return family_of(config.get("model_type"))


def _shared(adapter: AdapterSettings, embedding: Shape | None) -> dict[str, Shape]:
    """Output layers that the plan names; their weights may be the embedding's, so that no file names them."""
    if embedding is None:
        return {}
    return {name: embedding for name in OUTPUT_LAYERS if name in adapter.target_modules}
