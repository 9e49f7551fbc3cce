"""What would make a run fail, found before it starts from manifests, the model's files and the settings alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.audio.sound_file import opened, total_frames
from core.errors import AudioError, ManifestError, UserError
from core.manifests.manifest import read_manifest
from core.manifests.sets import is_parted, reserve_part, set_paths, split_of
from core.plan.families import MODEL_SECONDS, cannot, wrong_language
from core.plan.fits import batches_fit, left_out, nothing_left, seconds_per_step, share_of_seconds
from core.plan.schema import DataSettings, ModelSettings, RunSettings, TrainSettings
from core.runs.adapter_size import adapter_problem, model_folder
from core.runs.model_check import config_of, family_in, languages_in, model_problem, worded
from core.scoring.data_health import TAKEN_FROM
from core.system.files import read_json, stamp

MOST_HEADERS = 2000
"""Audio files that are opened for their length where the manifest does not tell it; the others count as their mean."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What can be told of a training clip without decoding it."""

    seconds: float
    text: str
    line: int = 0
    """In its manifest, from 1."""


def preflight(settings: RunSettings, *, targets_known: bool = True) -> list[str]:
    """What the trainer would refuse of a row's settings, with absolute paths; nothing for what cannot be told here.

    `targets_known`: whether `adapter.target_modules` are final.
    """
    problems: list[str] = []
    folder = model_folder(settings.model)
    longest = hears(folder)
    if wrong := _wrong_model(folder, settings.model):
        problems.append(wrong)
    else:
        facts = family_in(folder)
        problems += (
            cannot(facts, settings.train, config_of(folder), audio_context=settings.model.audio_context)
            if facts is not None
            else []
        )
        asked = (adapter_problem(settings) if targets_known else None, _wrong_language(folder, settings))
        problems += [wrong for wrong in asked if wrong is not None]
    problems += _unfit_reserve(settings.data)
    found: dict[str, list[Clip]] = {"train": [], "replay": []}
    for name in ("train", "replay"):
        written = getattr(settings.data, name)
        if written is None or (name == "replay" and settings.train.replay_share == 0):
            continue
        try:
            found[name], reasons = usable_clips(name, settings.data, longest)
        except (UserError, OSError):
            return problems  # which is told where the manifests are read for their hashes
        if not found[name] and not reasons:
            return problems
        if not found[name]:
            return [*problems, nothing_left(name, written, reasons)]
    if found["train"]:
        train = replace(
            settings.train, replay_share=replay_seconds_share(settings.train, found["train"], found["replay"])
        )
        own, replay = ([clip.seconds for clip in found[name]] for name in ("train", "replay"))
        wrong = batches_fit(own, replay, train)
        problems += [wrong] if wrong is not None else []
    return problems


def _wrong_model(folder: Path, model: ModelSettings) -> str | None:
    """What loading the model would end with, by its files; None: nothing that they tell, or they are not here."""
    if not folder.is_dir():
        return None
    # the cache of the hub may hold some of the files, and get the others when a run starts
    wrong = model_problem(folder, model.language, whole=folder == Path(model.id))
    return None if wrong is None else worded(f"model.id: {folder}", wrong)


def _wrong_language(folder: Path, settings: RunSettings) -> str | None:
    """What is wrong with language and task, by the model's files and what the manifests' clips name."""
    facts = family_in(folder)
    if facts is None:
        return None
    known = languages_in(folder, facts)
    data, model = settings.data, settings.model
    named: set[str | None] = {None} if not known else set()
    left_out = set() if settings.train.replay_share > 0 else {"replay"}
    for path in {path for name, path in set_paths(data).items() if name not in left_out} if known else ():
        try:
            named |= _languages_of(Path(path), stamp(Path(path).stat()))
        except (UserError, OSError):
            continue  # which is told where the manifests are read for their hashes
    return wrong_language(facts, known, model.language, model.task, named)


@lru_cache(maxsize=16)
def _languages_of(manifest: Path, _stamp: tuple[int, ...]) -> frozenset[str | None]:
    return frozenset(utterance.language for utterance in read_manifest(manifest, check_audio=False).utterances)


def _unfit_reserve(data: DataSettings) -> list[str]:
    """What is wrong with the parts of the reserve."""
    found = []
    for path in (data.reserve_domain, data.reserve_heldout):
        try:
            if path is not None:
                reserve_part(read_manifest(Path(path), check_audio=False), 1, data.reserve_parts)
        except ManifestError as error:
            found.append(str(error))
        except OSError:
            continue  # which is told where the manifests are read for their hashes
    return found


def usable_clips(name: str, data: DataSettings, longest: float) -> tuple[list[Clip], list[str]]:
    """(the clips of train or replay that can be trained on, why others cannot). UserError, OSError.

    Both are empty where no length can be told.
    """
    found = [(clip, left_out(clip.seconds, clip.text, data, longest)) for clip in clips_of(data, name)]
    return [clip for clip, why in found if why is None], list(dict.fromkeys(why for _, why in found if why is not None))


def replay_seconds_share(train: TrainSettings, own: Sequence[Clip], replay: Sequence[Clip]) -> float:
    """The share of replay speech in a step's seconds, 0 where there is none; of tokens it is told by characters."""
    if not replay:
        return 0.0
    amounts = [(math.fsum(c.seconds for c in clips), sum(len(c.text) for c in clips)) for clips in (own, replay)]
    return share_of_seconds(train, amounts[0], amounts[1])


def clips_of(data: DataSettings, name: str) -> tuple[Clip, ...]:
    """Of a set: lengths as its manifest tells them, or as the headers of its audio files do. UserError, OSError."""
    manifest = Path(set_paths(data)[name])
    found = _clips_of(manifest, stamp(manifest.stat()))
    lines = split_of(data).lines[name] if is_parted(data, name) else None
    return tuple(clip for clip in found if lines is None or clip.line in lines)


@lru_cache(maxsize=16)
def _clips_of(manifest: Path, _stamp: tuple[int, ...]) -> tuple[Clip, ...]:
    utterances = read_manifest(manifest, check_audio=False).utterances
    untold = [utterance for utterance in utterances if utterance.duration_s is None]
    asked = untold[:: max(1, len(untold) // MOST_HEADERS)]
    heard: dict[int, float] = {}
    for utterance in asked:
        try:
            with opened(utterance.audio) as file:
                length = total_frames(file) / file.samplerate
        except (AudioError, OSError):
            continue
        heard[utterance.index] = max(0.0, length - utterance.offset_s)
    mean = sum(heard.values()) / len(heard) if heard else 0.0
    found = [
        Clip(u.duration_s if u.duration_s is not None else heard.get(u.index, mean), u.text, u.line) for u in utterances
    ]
    return tuple(clip for clip in found if clip.seconds > 0)


def selection_seconds(data: DataSettings) -> float | None:
    """Of both selection sets; None where the manifests do not tell. `data`: with absolute paths."""
    try:
        lengths = [clip.seconds for name in TAKEN_FROM if name in set_paths(data) for clip in clips_of(data, name)]
    except (UserError, OSError):
        return None
    return math.fsum(lengths) or None


def hears(folder: Path) -> float:
    """The longest clip that the model hears, by its configuration."""
    facts = family_in(folder)
    return facts.max_seconds(_feature_extractor(folder).get("chunk_length")) if facts else MODEL_SECONDS


def _feature_extractor(folder: Path) -> dict[str, Any]:
    """In a file of its own or, as transformers 5 saves it, within its processor's."""
    own = read_json(folder / "preprocessor_config.json", follow=True)[0]
    if own is not None:
        return own
    found = (read_json(folder / "processor_config.json", follow=True)[0] or {}).get("feature_extractor")
    return found if isinstance(found, dict) else {}


def seconds_and_clips(settings: RunSettings) -> tuple[float, float] | None:
    """(seconds of speech, clips) of a step on average, replay included; None where the manifests do not tell.

    `settings`: with absolute paths.
    """
    train, longest = settings.train, hears(model_folder(settings.model))
    shares = {"train": 1.0 - train.replay_share, "replay": train.replay_share}
    try:
        clips_by = {name: usable_clips(name, settings.data, longest)[0] for name, share in shares.items()
                    if share > 0 and getattr(settings.data, name) is not None}  # fmt: skip
    except (UserError, OSError):
        return None
    found = {name: [clip.seconds for clip in clips] for name, clips in clips_by.items()}
    own = found.get("train")
    if not own:
        return None
    share = replay_seconds_share(train, clips_by["train"], clips_by.get("replay", ()))
    each = seconds_per_step(math.fsum(own), train.steps, train.epochs, train.batch_seconds, share)
    clips = each * len(own) / math.fsum(own)
    whole = each / (1.0 - share) if share < 1 else each
    if share:
        clips += (whole - each) * len(found["replay"]) / math.fsum(found["replay"])
    return whole, clips
