"""What is exported: an adapter, alone or that of a run, which brings the sets and transcripts that it was judged on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ModelError, RunFolderError, UserError
from core.manifests.hashing import HashCache
from core.runs.adapter_files import CONFIG, AdapterFacts, adapter_hash, read_facts
from core.runs.folder import linked_adapter
from core.runs.judged import Judged, judged, recorded_thresholds
from core.runs.model_files import commit_of, hub_hash, is_commit, is_hub_id, model_hash
from core.runs.paths import RunPaths, adapter_step, step_name
from core.runs.scores import Score, read_score
from core.runs.store import read_run
from core.system.files import is_file, read_json
from core.training.adapter import load_adapter
from core.training.families.base import SpeechModel
from core.training.model import choose_device, load_model, one_line
from core.user_paths import user_path

SETS = ("domain", "heldout")


@dataclass(frozen=True, slots=True)
class Source:
    """An adapter, and what is known of it."""

    adapter: Path
    digest: str
    facts: AdapterFacts
    model: str
    """The base model's folder or hub id."""
    run: Judged | None = None
    """The run that trained it, where it is its best adapter."""
    scores: dict[str, Score] = field(default_factory=dict)
    """What it was judged on, by set; empty: nothing to compare with."""
    manifests: dict[str, Path] = field(default_factory=dict)
    """Of the same sets."""


def source_of(written: Path, model: str | None = None) -> Source:
    """The source that a run folder or an adapter folder is. UserError says what is wrong with it."""
    folder = written.resolve()
    if not folder.is_dir():
        raise UserError(f"{written}: no such folder; give a run folder or an adapter folder")
    if is_file(folder / "run.json"):
        return _of_run(RunPaths(folder), model)
    if not is_file(folder / CONFIG):
        raise UserError(f"{written}: holds neither run.json nor {CONFIG}: give a run folder or an adapter folder")
    run = RunPaths(folder.parent.parent)
    # lora_adapter_best leads here, too
    if adapter_step(folder.name) is not None and folder.parent == run.adapters and is_file(run.config):
        try:
            best = linked_adapter(run, run.best)
        except RunFolderError:
            best = None
        if best is not None and run.adapter(best) == folder:
            return _of_run(run, model)
    return _of_adapter(folder, model)


def _of_adapter(folder: Path, model: str | None) -> Source:
    facts = read_facts(folder)
    if facts is None:
        raise UserError(
            f"{folder}: has no reproduce.json, so nobody knows what it is decoded under: give an adapter that lora-tui "
            "trained"
        )
    return Source(folder, adapter_hash(folder), facts, _model(model or facts.model))


def _model(name: str) -> str:
    return str(user_path(name)) if name.startswith("~") else name


def _of_run(paths: RunPaths, model: str | None) -> Source:
    snapshot = read_run(paths)
    best = linked_adapter(paths, paths.best)
    if best is None:
        raise RunFolderError(f"{paths.best}: missing: the run has no adapter yet; export it when it is done")
    found = _of_adapter(paths.adapter(best), model)
    hashes = {step_name(one.step): one.hash for one in snapshot.adapters}
    saved = (hashes | {one.name: one.hash for one in snapshot.candidates}).get(best)
    if saved is not None and saved != found.digest:
        raise RunFolderError(f"{paths.adapter(best)}: changed since it was saved: bring the run folder anew")
    try:
        run = judged(snapshot, recorded_thresholds(snapshot.config))
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{paths.config}: gate: {error}: restore the file") from error
    scores: dict[str, Score] = {}
    for name in SETS:
        score, problem = read_score(paths.tuned(name))
        if problem is not None:
            raise RunFolderError(problem)
        if score is not None and score.adapter_hash == found.digest:
            scores[name] = score
    if len(scores) < len(SETS):
        scores = {}
    data = snapshot.settings.get("data")
    manifests = {name: Path(str(data.get(name))) for name in SETS} if isinstance(data, dict) else {}
    return Source(found.adapter, found.digest, found.facts, found.model, run, scores, manifests)


def model_type(source: Source) -> str:
    """What the base model's config.json calls it. ModelError where that cannot be had."""
    local = Path(source.model)
    if local.is_dir():
        document, problem = read_json(local / "config.json", follow=True)
        if document is None:
            raise ModelError(f"model {local}: {problem or 'no config.json; give a folder in hub format with --model'}")
        return str(document.get("model_type"))
    if not is_hub_id(source.model):
        raise ModelError(f"model {local}: no such folder; give one in hub format, or a hub id, with --model")
    import transformers

    try:
        found = transformers.PretrainedConfig.get_config_dict(source.model, revision=source.facts.revision)[0]
    except Exception as error:  # whatever transformers and the hub raise
        raise ModelError(
            f"model {source.model}: its config.json cannot be had ({one_line(error)}); give --model"
        ) from error
    return str(found.get("model_type"))


def base_hash(source: Source) -> str:
    """The base model's hash in the form in which run.json and the adapter record it."""
    local = Path(source.model)
    return (
        model_hash(local, HashCache(Path(os.devnull))) if local.is_dir() else hub_hash(source.model, revision(source))
    )


def revision(source: Source) -> str | None:
    """The revision of a hub model to load: the commit, where the adapter names the one that it was trained on."""
    asked = source.facts.revision
    if Path(source.model).is_dir() or not is_commit(source.facts.model_hash.rpartition("@")[2]):
        return asked
    return commit_of(source.model, asked, ask=True)


def base_model(source: Source) -> SpeechModel:
    """The base model in fp32, alone. ModelError."""
    facts = source.facts
    return load_model(
        source.model,
        revision(source),
        device=choose_device(),
        precision="fp32",
        language=facts.language,
        task=facts.task,
    )


def merged_model(source: Source) -> SpeechModel:
    """A copy of the base model of its own, with the adapter merged in fp32. ModelError: it is of another base."""
    return load_adapter(base_model(source), source.adapter, base_hash(source))[0]
