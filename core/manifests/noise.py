"""A folder of noise recordings, as a manifest without texts: hashed, decoded and cached like any other."""

from __future__ import annotations

from pathlib import Path

from core.errors import ManifestError
from core.manifests.manifest import Manifest, Utterance

_SUFFIXES = frozenset((".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav"))
"""Other files in the folder, such as licences, are no recordings."""


def noise_recordings(folder: Path) -> Manifest:
    """The recordings in `folder` and in the folders in it, in the order of their paths.

    Raises ManifestError without any.
    """
    key = "train.augment.noise"
    if not folder.is_dir():
        raise ManifestError(f"{key}: no such folder: {folder}: correct the path (it is relative to the plan)")
    found = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise ManifestError(f"{key}: no recordings in {folder}: put wav, flac, ogg or mp3 files there")
    clips = (Utterance(index, name, path, "") for index, (name, path) in enumerate(found))
    return Manifest(folder, tuple(clips))
