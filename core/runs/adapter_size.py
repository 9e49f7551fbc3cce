"""What an adapter of a plan comes to on its model, told from the model's files: which layers, how many weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.plan.families import FamilyFacts, family_of, why_not
from core.plan.schema import AdapterSettings, ModelSettings, RunSettings
from core.plan.targets import OUTPUT_LAYERS, Shape, TargetError, ranks_of, saved_weights, trained_weights
from core.runs.hub import folder_in_cache, is_hub_id
from core.runs.model_files import CONFIG, model_shapes
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
    try:
        return _size(settings)
    except TargetError:
        return None


def _size(settings: RunSettings) -> AdapterSize | None:
    folder = model_folder(settings.model)
    facts = _family(folder)
    found = model_shapes(folder)
    if facts is None or not found.linear:
        return None
    adapter = settings.adapter
    linear = {facts.module(name): shape for name, shape in found.linear.items()}
    layers = linear | _shared(adapter, found.embedding)
    ranks = ranks_of(adapter, layers, facts)
    trained = trained_weights(adapter, ranks, layers)
    return AdapterSize(len(ranks), len(found.linear), trained, saved_weights(adapter, trained), found.weights)


def _family(folder: Path) -> FamilyFacts | None:
    """The model's family; None where no file tells. TargetError: it is none that can be trained."""
    config, _ = read_json(folder / CONFIG, follow=True) if folder.is_dir() else (None, None)
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
