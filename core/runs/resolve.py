"""From a row's settings to a run: absolute paths, content hashes, identity. Reads manifests and models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import AudioError, ManifestError, ModelError, UserError, may_pass
from core.manifests.hashing import (
    HashCache,
    ManifestHashes,
    languages_sha256,
    lines_of,
    lines_sha256,
    manifest_file_hashes,
    manifest_sha256,
    references_sha256,
)
from core.manifests.manifest import Manifest, joined_words, noise_recordings, read_manifest
from core.manifests.sets import is_parted, read_set, set_paths
from core.plan.exports import target_of
from core.plan.families import told_clip_by_clip
from core.plan.identity import run_identity
from core.plan.rules import same_set
from core.plan.schema import DataSettings, ModelSettings, Plan, RunSettings, with_keys
from core.runs.adapter_size import model_folder
from core.runs.contents import LANGUAGES, MODEL, NOISE, Content
from core.runs.model_check import config_of, family_in, languages_in
from core.runs.model_files import CommitUnknownError, commit_of, hub_hash, is_hub_id, model_hash
from core.scoring.data_health import JUDGED, SETS
from core.scoring.units import Unit
from core.system.files import pointer_problem
from core.system.seals import hash_lines
from core.user_paths import PathError, user_path

Progress = Callable[[str, int, int], None]
"""Called as (manifest key, audio files hashed, of how many). May raise to stop."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What `run.json` records of a row."""

    settings: RunSettings
    """With absolute manifest and model paths; hub ids are kept, and their revision is the commit."""
    hashes: dict[str, str]
    identity: str
    lines: dict[str, str] = field(default_factory=dict)
    """What is used of each manifest besides its audio (core.manifests.hashing)."""


class ResolveError(UserError):
    """The model or manifests of a row cannot be used. Carries every problem, one a line."""


class ResolveLaterError(ResolveError):
    """Nothing is wrong with the row, but its hub model's commit is not known before the hub is asked."""


class Resolver:
    """Resolves the rows of one plan. Each manifest and model is read once, however many rows name it."""

    def __init__(
        self, plan: Plan, cache: HashCache, progress: Progress | None = None, *, asks_hub: bool = False
    ) -> None:
        """`asks_hub`: whether the hub may be asked for the commit of a model that its cache does not know."""
        self._folder = Path(plan.path).absolute().parent
        self._cache = cache
        self._progress = progress
        self._asks_hub = asks_hub
        self._runtime = plan.gate.runtime
        self._judged = JUDGED if plan.gate.unit == Unit.WORD else ()
        """The manifests whose texts must have spaces between their words."""
        self._read: dict[tuple[object, ...], Content] = {}
        self._spoken: dict[str, tuple[str | None, ...]] = {}

    def resolve(self, settings: RunSettings) -> Resolved:
        """Raises ResolveError with all that is wrong with the model, the manifests and their audio.

        OSError: something that may be over by itself, such as a network disk that is away.
        """
        contents = self.contents(settings)
        hashes = {name: content.sha256 for name, content in contents.items() if content.sha256 is not None}
        if len(hashes) < len(contents):
            wrong = [content for content in contents.values() if content.sha256 is None]
            later = [content for content in wrong if content.hub is not None and not self._asks_hub]
            kind = ResolveLaterError if len(later) == len(wrong) else ResolveError
            wrong = [content for content in wrong if content not in later] or wrong
            raise kind("\n".join(content.problem for content in wrong))
        # By their hashes: the same lines, whatever file they are in.
        if again := list(same_set(hashes)):
            raise ResolveError("\n".join(f"data.{key}: {contents[key].written} is {what}" for key, what in again))
        absolute = self.absolute(settings, contents)
        if unserved := self._unserved(absolute.model):
            raise ResolveError(unserved)
        lines = {name: content.lines for name, content in contents.items() if content.lines is not None}
        return Resolved(absolute, hashes, run_identity(absolute, hashes), lines)

    def _unserved(self, model: ModelSettings) -> str | None:
        """Why no model of this type can be exported as `gate.runtime` asks, so that no run of it could be accepted."""
        target = None if self._runtime is None else target_of(self._runtime)
        model_type = config_of(model_folder(model)).get("model_type")
        if target is None or not isinstance(model_type, str) or target.form.holds(model_type):
            return None
        return (
            f"gate.runtime: a {model_type} model has no form {target.form.name} ({target.form.held}): name another one"
        )

    def contents(self, settings: RunSettings) -> dict[str, Content]:
        """The model and each manifest that `settings` name, as far as they can be hashed here.

        OSError: something that may be over by itself, such as a network disk that is away.
        """
        found = {MODEL: self._once(("model", settings.model.id, str(settings.model.revision)), settings.model)}
        data = settings.data
        if data.selection_share > 0:
            data = self._absolute_data(data)
        for key, written in set_paths(data).items():
            parted = data if is_parted(data, key) else None
            found[key] = self._once((key, written, parted), written)
        if (noise := settings.train.augment.noise) is not None:
            found[NOISE] = self._once((NOISE, noise), noise)
        used = [key for key in set_paths(data) if key != "replay" or settings.train.replay_share > 0]
        if any(found[key].languages for key in used) and self._told_clip_by_clip(settings.model):
            spoken = {key: self._languages(found[key].written, settings.model.language) for key in used}
            if any(language != settings.model.language for said in spoken.values() for language in said):
                digest = hash_lines("told 1", ([key, *said] for key, said in spoken.items()))
                found[LANGUAGES] = Content("the field language of the manifests", digest)
        return found

    def _told_clip_by_clip(self, model: ModelSettings) -> bool:
        folder = self._absolute(model.id, "model.id")
        folder = folder if folder.is_dir() else model_folder(model)
        facts = family_in(folder)
        return facts is not None and told_clip_by_clip(facts, config_of(folder), languages_in(folder, facts))

    def _languages(self, manifest: str, language: str | None) -> tuple[str | None, ...]:
        """What a model is told of each clip of a whole manifest: the line's own language, else the plan's."""
        if manifest not in self._spoken:
            try:
                lines = read_manifest(Path(manifest), check_audio=False).utterances
                self._spoken[manifest] = tuple(utterance.language for utterance in lines)
            except (ManifestError, OSError):
                return ()  # which is told where it is hashed
        return tuple(told or language for told in self._spoken[manifest])

    def absolute(self, settings: RunSettings, contents: Mapping[str, Content]) -> RunSettings:
        """The settings with absolute paths, and with the commit of a hub model where it is known."""
        named = (MODEL, NOISE, *(key for key in SETS if getattr(settings.data, key) is not None))
        paths: dict[str, Any] = {key: content.written for key, content in contents.items() if key in named}
        model = replace(settings.model, id=paths.pop(MODEL))
        if contents[MODEL].sha256 is not None and is_hub_id(model.id):
            model = replace(model, revision=str(contents[MODEL].sha256).rpartition("@")[2])
        if NOISE in paths:
            settings = with_keys(settings, {"train.augment.noise": paths.pop(NOISE)})
        return replace(settings, model=model, data=replace(settings.data, **paths))

    def _once(self, key: tuple[object, ...], named: ModelSettings | str) -> Content:
        if key not in self._read:
            name, written, *rest = key
            try:
                if isinstance(named, ModelSettings):
                    found = self._model(named)
                elif name == NOISE:
                    found = self._recordings(named)
                else:
                    found = self._manifest(str(name), named, *rest)
            except PathError as error:
                found = Content(str(written), problem=str(error))
            self._read[key] = found
        return self._read[key]

    def _absolute_data(self, data: DataSettings) -> DataSettings:
        """With absolute paths; a path that is none stays, and is told where it is read."""
        found: dict[str, Any] = {}
        for key in SETS:
            written = getattr(data, key)
            if written is not None:
                with contextlib.suppress(PathError):
                    found[key] = str(self._absolute(written, f"data.{key}"))
        return replace(data, **found)

    def _manifest(self, key: str, written: str, parted: object = None) -> Content:
        """`parted`: the data settings of which the set is a part of its manifest; None: it is the whole."""
        path = self._absolute(written, f"data.{key}")
        content = Content(str(path))
        progress = self._progress
        report = None if progress is None else lambda done, total: progress(key, done, total)
        try:
            if not path.is_file():
                raise ManifestError(f"data.{key}: no such manifest: {path}: {self._missing_hint(path)}")
            if isinstance(parted, DataSettings):
                found = self._hashes_of(read_set(parted, key), report, judged=key in self._judged)
            else:
                found = manifest_file_hashes(path, self._cache, report, judged=key in self._judged)
            return replace(content, sha256=found.content, lines=found.lines, languages=found.languages is not None)
        except (ManifestError, AudioError) as error:
            content = replace(content, problem=str(error))
        except OSError as error:
            if may_pass(error):
                raise
            content = replace(
                content, problem=f"data.{key}: cannot be read: {error}: correct the path, or its permissions"
            )
        return self._with_lines(content, key, parted if isinstance(parted, DataSettings) else None)

    def _hashes_of(self, part: Manifest, report: Callable[[int, int], None] | None, *, judged: bool) -> ManifestHashes:
        if judged and (problem := joined_words(part)):
            raise ManifestError(problem)
        content = manifest_sha256(part, self._cache, report)
        return ManifestHashes(content, lines_sha256(lines_of(part)), languages_sha256(part))

    def _recordings(self, written: str) -> Content:
        """The noise of `train.augment`: a folder."""
        folder = self._absolute(written, "train.augment.noise")
        content = Content(str(folder))
        try:
            return replace(content, sha256=manifest_sha256(noise_recordings(folder), self._cache))
        except (ManifestError, AudioError) as error:
            return replace(content, problem=str(error))
        except OSError as error:
            if may_pass(error):
                raise
            return replace(content, problem=f"train.augment.noise: cannot be read: {error}: correct the path")

    def _with_lines(self, content: Content, key: str, parted: DataSettings | None) -> Content:
        """With what can be told of a manifest whose audio cannot be read."""
        path = Path(content.written)
        try:
            if parted is None:
                manifest = read_manifest(path, check_audio=False)
            else:
                manifest = read_set(parted, key, check_audio=False)
        except OSError:
            return content
        except ManifestError as error:
            # A file that is here and no manifest is not what a run was made of; a git-lfs pointer is not here.
            broken = os.access(path, os.R_OK) and path.is_file() and pointer_problem(path) is None
            return replace(content, broken=broken, problem=str(error) if broken else content.problem)
        references = references_sha256((u.id, u.text) for u in manifest.utterances)
        return replace(content, lines=lines_sha256(lines_of(manifest)), references=references)

    def _missing_hint(self, path: Path) -> str:
        # The shipped plan's speech is made by a recipe that lies beside where the manifests would be.
        if (path.parent / "recipe.toml").is_file() and path.parent == self._folder / "data":
            return "run `make data`, which builds the embedded speech"
        return "correct the path (it is relative to the plan)"

    def _model(self, model: ModelSettings) -> Content:
        folder = self._absolute(model.id, "model.id")
        content = Content(str(folder))
        try:
            if folder.is_dir():
                if model.revision is not None:
                    raise ModelError(f"model.revision is for hub ids, and {folder} is a folder: remove it")
                content = replace(content, sha256=model_hash(folder, self._cache))
                self._cache.save()
                return content
            first = Path(model.id).parts[0]
            # "data/base_model" could be a hub id; with a folder "data" beside the plan it is a path gone wrong.
            if not is_hub_id(model.id) or (self._folder / first).is_dir():
                hint = "name a folder in hub format (relative to the plan) or a hub id (organisation/name)"
                raise ModelError(f"model.id: no such folder: {folder}: {hint}")
            content = replace(content, written=model.id)
            return replace(content, sha256=hub_hash(model.id, commit_of(model.id, model.revision, ask=self._asks_hub)))
        except CommitUnknownError as error:
            return replace(content, hub=model.id, problem=f"{error}; no folder {folder} is there either")
        except ModelError as error:
            return replace(content, problem=str(error))
        except OSError as error:
            if may_pass(error):
                raise
            return replace(content, problem=f"model.id: cannot be read: {error}: correct the path, or its permissions")

    def _absolute(self, written: str, key: str) -> Path:
        return Path(os.path.normpath(self._folder / user_path(written, key)))


def resolve(plan: Plan, settings: RunSettings, cache: HashCache) -> Resolved:
    """`Resolver.resolve` for a single row."""
    return Resolver(plan, cache).resolve(settings)
