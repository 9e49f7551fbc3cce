"""Importing samples that stand inside JSON Lines: they become WAV files beside the manifest, all of them or none."""

from __future__ import annotations

import io
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.errors import ManifestError
from core.manifests.manifest import path_from
from core.manifests.parsing import Problems, json_objects
from core.system.files import fsync_folder

ARRAY_KEYS = ("array", "samples", "waveform")
RATE_KEYS = ("sampling_rate", "sample_rate")
RATES_HZ = range(1_000, 1_000_000)


def sample_folder(output: Path) -> Path:
    """Where the WAV files of a manifest at `output` stand."""
    return output.parent / f"{output.stem}_audio"


def unfinished_folder(output: Path) -> Path:
    """Where they are written to; renamed when all are there."""
    return output.parent / f".{output.stem}_audio.unfinished"


def _replaced_folder(output: Path) -> Path:
    return output.parent / f".{output.stem}_audio.replaced"


class SampleFolder:
    """The WAV files of an import that is under way."""

    def __init__(self, output: Path) -> None:
        self._final, self._unfinished = sample_folder(output), unfinished_folder(output)
        self._replaced = _replaced_folder(output)
        self.published = False

    def publish(self) -> None:
        """Bring the files to their place; what is there steps aside until the import has ended."""
        if not self._unfinished.is_dir():
            return
        if self._final.exists():
            self._final.replace(self._replaced)
        self._unfinished.replace(self._final)
        self.published = True
        fsync_folder(self._final.parent)

    def settle(self, done: bool) -> None:
        """Remove what is not needed any more: the replaced files, or, when it is not `done`, the new ones."""
        if not done and self.published:
            shutil.rmtree(self._final)
        if not done and self._replaced.is_dir() and not self._final.exists():
            self._replaced.replace(self._final)
        for folder in (self._unfinished, self._replaced):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def importing(output: Path, force: bool) -> Generator[SampleFolder, None, None]:
    """Around an import to `output`: an error or an interruption leaves the files as they were.

    What a killed import left behind is put in order first. Raises ManifestError when files are there already, unless
    `force`.
    """
    folder = SampleFolder(output)
    folder.settle(done=False)
    final = sample_folder(output)
    if final.exists() and not (force and final.is_dir()):
        raise ManifestError(f"{final}: exists already: choose another -o, or say --force to replace it")
    done = False
    try:
        yield folder
        done = True
    finally:
        folder.settle(done)


def import_arrays(source: Path, output: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """JSON Lines with the samples inside: {"audio": {"array": […], "sampling_rate": 16000}, "text": …}.

    The samples go to `unfinished_folder`; the manifest's lines, each with its number, name them in `sample_folder`.
    Lines that are no such are noted.
    """
    folder = unfinished_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in json_objects(source, problems):
        audio = row["audio"] if isinstance(row.get("audio"), dict) else row
        values, rate = _one_of(audio, ARRAY_KEYS), _one_of(audio, RATE_KEYS)
        samples = _samples(values)
        text = row.get("text") if row.get("text") is not None else row.get("sentence")
        if not isinstance(text, str) or samples is None:
            problems.add(number, f"text or a list of finite samples ({' or '.join(ARRAY_KEYS)}) is missing: give both")
            continue
        if not isinstance(rate, int) or isinstance(rate, bool) or rate not in RATES_HZ:
            problems.add(number, f"no plausible {' or '.join(RATE_KEYS)} in Hz: {rate!r:.40}: give one")
            continue
        name = f"{number:06d}.wav"
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, subtype="FLOAT", format="WAV")
        (folder / name).write_bytes(buffer.getvalue())
        path = sample_folder(output).absolute() / name
        line: dict[str, Any] = {"audio_filepath": path_from(output.parent, path), "text": text}
        line["duration"] = round(len(samples) / rate, 6)
        yield number, line | ({} if row.get("speaker") is None else {"speaker": row["speaker"]})


def _one_of(audio: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """The value of the only one of `keys` that is there; None for several, of which none is meant more."""
    found = [audio[key] for key in keys if audio.get(key) is not None]
    return found[0] if len(found) == 1 else None


def _samples(values: Any) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """A list of finite numbers as samples; None for anything else: neither texts nor lists nor truth values are any."""
    if not isinstance(values, list) or not values or not {type(value) for value in values} <= {int, float}:
        return None
    try:
        samples = np.asarray(values, np.float32)
    except (ValueError, OverflowError):
        return None
    return samples if np.isfinite(samples).all() else None
