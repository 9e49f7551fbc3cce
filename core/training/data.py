"""What a run trains and evaluates on: manifests checked against run.json, decoded clips, labels, usable utterances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.audio.cache import ClipStore, SampleCache
from core.audio.samples import SAMPLE_RATE_HZ
from core.errors import ManifestError
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache, lines_of, lines_sha256, manifest_sha256
from core.manifests.manifest import Manifest
from core.manifests.sets import read_set
from core.plan.fits import left_out, nothing_left
from core.plan.schema import DataSettings, RunSettings
from core.training.families.base import SpeechModel

Report = Callable[[str, str], None]
"""Called with (level, message) for what a person should know."""
Progress = Callable[[int, int], None]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Dataset:
    """A manifest with its clips and content hash."""

    name: str
    manifest: Manifest
    clips: ClipStore
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The utterances of a manifest that can be trained on."""

    clips: ClipStore
    indices: tuple[int, ...]
    """Into `clips`."""
    labels: tuple[list[int], ...]
    """Token ids for each of `indices`."""
    languages: tuple[str | None, ...]
    """That each of `indices` names."""

    @property
    def seconds(self) -> list[float]:
        """Duration of each usable clip."""
        return [int(self.clips.lengths[i]) / SAMPLE_RATE_HZ for i in self.indices]


def open_dataset(
    name: str,
    data: DataSettings,
    expected: Mapping[str, str],
    lines: Mapping[str, str],
    cache: SampleCache,
    hashes: HashCache,
    progress: Progress,
) -> Dataset:
    """Read, hash and decode a manifest. Raises ManifestError when it is not what the run was made for.

    `expected` and `lines` are the two hashes that run.json records of each set.
    """
    manifest = read_set(data, name)
    path = manifest.path
    digest = manifest_sha256(manifest, hashes, progress)
    if name in expected and digest != expected[name]:
        raise ManifestError(
            f"data.{name}: {path} or its audio changed after this run was planned (its identity holds their hash); "
            "submit the plan again: the changed data make a new run"
        )
    if name in lines and lines_sha256(lines_of(manifest)) != lines[name]:
        raise ManifestError(
            f"data.{name}: speakers or other fields in {path} changed after this run began: its scores would not "
            "compare; restore the manifest, or remove the run's folder and start again"
        )
    return Dataset(name, manifest, cached_clips(manifest, cache, hashes, progress), digest)


def usable(dataset: Dataset, speech: SpeechModel, settings: RunSettings, report: Report) -> TrainingSet:
    """The utterances to train on; those left out are counted and named, never dropped in silence."""
    silent = set(dataset.clips.silent)
    unused: dict[str, list[str]] = {}
    indices: list[int] = []
    labels: list[list[int]] = []
    for index, utterance in enumerate(dataset.manifest.utterances):
        ids = speech.targets(utterance.text, utterance.language)
        samples = int(dataset.clips.lengths[index])
        reason = left_out(samples / SAMPLE_RATE_HZ, utterance.text, settings.data, speech.limits.max_seconds)
        if reason is None:
            reason = "silence" if index in silent else speech.unfit(ids, samples)
        if reason is None:
            indices.append(index)
            labels.append(ids)
            continue
        unused.setdefault(reason, []).append(utterance.id)
    for reason, names in unused.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        report(
            "warning",
            f"data.{dataset.name}: {len(names)} of {len(dataset.manifest)} clips left out: {reason}: {shown}",
        )
    if not indices:
        raise ManifestError(nothing_left(dataset.name, str(dataset.manifest.path), unused))
    languages = tuple(dataset.manifest.utterances[i].language for i in indices)
    return TrainingSet(dataset.clips, tuple(indices), tuple(labels), languages)


def report_evaluation_set(dataset: Dataset, speech: SpeechModel, report: Report) -> None:
    """Say what is odd about an evaluation set; nothing is left out of it."""
    silent = set(dataset.clips.silent)
    odd: dict[str, list[str]] = {}
    for index, utterance in enumerate(dataset.manifest.utterances):
        samples = int(dataset.clips.lengths[index])
        if index in silent:
            odd.setdefault("silence", []).append(utterance.id)
        if samples > speech.limits.max_seconds * SAMPLE_RATE_HZ:
            odd.setdefault("longer than the model hears, cut at pauses", []).append(utterance.id)
        elif utterance.text.strip() and index not in silent:
            reason = speech.unfit(speech.targets(utterance.text, utterance.language), samples)
            if reason is not None:
                odd.setdefault(f"{reason}: not in the loss", []).append(utterance.id)
    for what, names in odd.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        report("warning", f"data.{dataset.name}: {what}: {len(names)} of {len(dataset.manifest)} clips: {shown}")
