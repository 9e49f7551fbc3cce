"""Writing manifests: whole or not at all, and never over one that somebody made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.errors import ManifestError, is_disk_full
from core.manifests.manifest import Utterance
from core.system.files import write_text


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Raise ManifestError when `path` exists and `force` was not asked for: before any work is done."""
    if not force and os.path.lexists(path):
        raise ManifestError(f"{path}: exists already: choose another name, or say --force to replace it")
    if path.is_dir():
        raise ManifestError(f"{path}: is a folder: name a file")


def write_manifest(path: Path, lines: Iterable[dict[str, Any]], force: bool = False) -> int:
    """Write JSON Lines, atomically; the number of lines. Raises ManifestError when `path` exists, unless `force`."""
    refuse_to_overwrite(path, force)
    rows = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    try:
        write_text(path, "".join(rows))
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ManifestError(f"{path}: cannot be written ({error.strerror}): give another file") from error
    return len(rows)


def manifest_line(utterance: Utterance, folder: Path, **more: Any) -> dict[str, Any]:
    """An utterance as a line of a manifest in `folder`: a relative path if the audio is below it or beside it."""
    line: dict[str, Any] = {"audio_filepath": path_from(folder, utterance.audio), "text": utterance.text}
    if utterance.offset_s or utterance.tells_offset:
        line["offset"] = utterance.offset_s
    if utterance.duration_s is not None:
        line["duration"] = utterance.duration_s
    if utterance.channel is not None:
        line["channel"] = utterance.channel
    if utterance.speaker is not None:
        line["speaker"] = utterance.speaker
    return line | {key: value for key, value in utterance.extra.items() if key not in line} | more


def path_from(folder: Path, audio: Path) -> str:
    """`audio` as a manifest in `folder` names it: relative within two levels up, else absolute."""
    relative = os.path.relpath(audio, folder.absolute())
    return str(audio) if relative.startswith("../../..") else relative
