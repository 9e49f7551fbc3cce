"""From a row's settings to a run: absolute paths, content hashes, identity. Reads manifests and models."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import AudioError, ManifestError, ModelError, UserError, may_pass
from core.plan.identity import run_identity
from core.plan.schema import ModelSettings, Plan, RunSettings
from core.runs.model_hash import model_hash
from core.speech.hashing import HashCache, ManifestHashes, manifest_file_hashes
from core.user_paths import PathError, user_path

MANIFESTS = ("train", "replay", "domain", "heldout", "selection")
Progress = Callable[[str, int, int], None]
"""Called as (manifest key, audio files hashed, of how many). May raise to stop."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What `run.json` records of a row."""

    settings: RunSettings
    """With absolute manifest and model paths; hub ids are kept."""
    hashes: dict[str, str]
    identity: str
    lines: dict[str, str] = field(default_factory=dict)
    """What is used of each manifest besides its audio (core.speech.lines)."""


class ResolveError(UserError):
    """The model or manifests of a row cannot be used. Carries every problem, one a line."""


class Resolver:
    """Resolves the rows of one plan. Each manifest and model is read once, however many rows name it."""

    def __init__(self, plan: Plan, cache: HashCache, progress: Progress | None = None) -> None:
        self._folder = Path(plan.path).absolute().parent
        self._cache = cache
        self._progress = progress
        self._models: dict[str, str] = {}
        self._manifests: dict[str, ManifestHashes] = {}

    def resolve(self, settings: RunSettings) -> Resolved:
        """Raises ResolveError with all that is wrong with the model, the manifests and their audio.

        OSError: something that may be over by itself, such as a network disk that is away.
        """
        hashes: dict[str, str] = {}
        lines: dict[str, str] = {}
        paths: dict[str, Any] = {}
        problems: list[str] = []
        model = settings.model
        try:
            model, hashes["model"] = self._model(settings.model)
        except (ModelError, PathError) as error:
            problems.append(str(error))
        except OSError as error:
            if may_pass(error):
                raise
            problems.append(f"model.id: cannot be read: {error}: correct the path, or its permissions")
        for key in MANIFESTS:
            written = getattr(settings.data, key)
            if written is None:
                continue
            try:
                paths[key], found = self._manifest(key, written)
                hashes[key], lines[key] = found
            except (ManifestError, AudioError, PathError) as error:
                problems.append(str(error))
            except OSError as error:
                if may_pass(error):
                    raise
                problems.append(f"data.{key}: cannot be read: {error}: correct the path, or its permissions")
        if problems:
            raise ResolveError("\n".join(problems))
        absolute = replace(settings, model=model, data=replace(settings.data, **paths))
        return Resolved(absolute, hashes, run_identity(absolute, hashes), lines)

    def _manifest(self, key: str, written: str) -> tuple[str, ManifestHashes]:
        path = self._absolute(written, f"data.{key}")
        if str(path) not in self._manifests:
            if not path.is_file():
                raise ManifestError(f"data.{key}: no such manifest: {path}: {self._missing_hint(path)}")
            progress = self._progress
            report = None if progress is None else lambda done, total: progress(key, done, total)
            self._manifests[str(path)] = manifest_file_hashes(path, self._cache, report)
        return str(path), self._manifests[str(path)]

    def _missing_hint(self, path: Path) -> str:
        # The shipped plan's speech is made by a recipe that lies beside where the manifests would be.
        if (path.parent / "recipe.toml").is_file() and path.parent == self._folder / "data":
            return "run `make data`, which builds the embedded speech"
        return "correct the path (it is relative to the plan)"

    def _model(self, model: ModelSettings) -> tuple[ModelSettings, str]:
        folder = self._absolute(model.id, "model.id")
        if folder.is_dir():
            if model.revision is not None:
                raise ModelError(f"model.revision is for hub ids, and {folder} is a folder: remove it")
            if str(folder) not in self._models:
                self._models[str(folder)] = model_hash(folder, self._cache)
                self._cache.save()
            return replace(model, id=str(folder)), self._models[str(folder)]
        first = Path(model.id).parts[0]
        # "data/base_model" could be a hub id; with a folder "data" beside the plan it is a path gone wrong.
        if not is_hub_id(model.id) or (self._folder / first).is_dir():
            hint = "name a folder in hub format (relative to the plan) or a hub id (organisation/name)"
            raise ModelError(f"model.id: no such folder: {folder}: {hint}")
        return model, f"hub:{model.id}@{model.revision or 'main'}"

    def _absolute(self, written: str, key: str) -> Path:
        return Path(os.path.normpath(self._folder / user_path(written, key)))


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form of a hub id: `organisation/name`."""
    return _HUB_ID.match(text) is not None


def resolve(plan: Plan, settings: RunSettings, cache: HashCache) -> Resolved:
    """`Resolver.resolve` for a single row."""
    return Resolver(plan, cache).resolve(settings)
