"""The base model's transcripts of a manifest: computed once, shared by the runs of one user on one machine.

The shared document holds what takes time to compute, the transcripts, with all facts that they depend on, and a seal.
It is believed only where its seal is this machine's: anything else is computed anew. What the manifest says (texts,
speakers, fields) is never taken from it, nor any count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from core.runs.folder import LinkError, read_json, write_json
from core.runs.paths import RunsFolder
from core.system.files import SCORES_BYTES
from core.system.locks import held
from core.system.seals import machine_key, name_of, seal, sealed_by
from core.training.evaluation import Transcripts, normalisation_fingerprint
from core.training.families.base import SpeechModel

SCHEMA_VERSION = 2
_LIBRARIES = ("lora-tui", "torch", "transformers", "numpy")
"""Whose versions may change a transcript; those of the audio path are seen by its probe."""


def baseline_facts(
    speech: SpeechModel,
    *,
    model_hash: str,
    manifest_sha256: str,
    target_rms: float,
    normaliser: str,
    batch_seconds: float,
    languages: str | None = None,
) -> dict[str, Any]:
    """All that can change what the base model makes of a manifest. `languages`: hash of those that its clips name."""
    return {
        "schema": SCHEMA_VERSION,
        "model": model_hash,
        "manifest": manifest_sha256,
        "normalisation": normalisation_fingerprint(target_rms, normaliser),
        "tokens_per_second": speech.limits.tokens_per_second,
        "max_tokens": speech.limits.max_tokens,
        "lifted": list(speech.lifted),
        "max_seconds": speech.limits.max_seconds,
        "batch_seconds": batch_seconds,
        "device": speech.device.type,
        "precision": speech.precision,
        "versions": {name: _version(name) for name in _LIBRARIES},
        **_later(speech, languages),
    }


def _later(speech: SpeechModel, languages: str | None) -> dict[str, Any]:
    """What only some models have: without it facts are as they were before any had it."""
    told = languages if speech.facts.language != "refused" else None
    decoding = speech.decoding
    facts = {
        name: getattr(decoding, name) for name in ("language", "task", "prompt", "targets", "beams", "audio_context")
    } | {"languages": told}
    defaults = {"prompt": (), "targets": 1, "beams": 1}
    return {name: value for name, value in facts.items() if value != defaults.get(name)}


def baseline_fingerprint(facts: dict[str, Any]) -> str:
    """16 hex digits over the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class _Stored(msgspec.Struct):
    facts: dict[str, Any]
    transcripts: Transcripts
    seals: dict[str, str]

    @property
    def sealed_bytes(self) -> bytes:
        """What the seal is over."""
        return _bytes(self.facts, self.transcripts)


class SharedBaseline:
    """The base model on one manifest of `clips` utterances, under `facts`."""

    def __init__(self, folder: RunsFolder, facts: dict[str, Any], clips: int) -> None:
        fingerprint = baseline_fingerprint(facts)
        self._root = folder.root.resolve()  # which may be a link to another disk; nothing below it may be one
        self.path: Path = RunsFolder(self._root, folder.state).baseline_scores(fingerprint)
        self._lock = folder.baseline_lock(fingerprint)
        # as they are read back, for they are compared and the seal is over that
        self._facts, self._clips = json.loads(json.dumps(facts)), clips
        self._secret = machine_key()

    def transcripts(
        self, compute: Callable[[], Transcripts], waiting: Callable[[], None], refused: Callable[[str], None]
    ) -> Transcripts:
        """Those that are stored, if they can be believed; else `compute()`'s, stored for the others.

        `waiting` is called while another process computes the same baseline; it may raise to give up. `refused` is told
        why what is stored is not believed.
        """
        found = self._believed()
        if isinstance(found, Transcripts):
            return found
        with held(self._lock, waiting):
            found = self._believed()
            if not isinstance(found, Transcripts):
                if found is not None:
                    refused(found)
                found = compute()
                self._store(found)
        return found

    def _believed(self) -> Transcripts | str | None:
        """What is stored; why it cannot be believed, in words; None where nothing is stored."""
        document, problem = read_json(self._root, self.path, SCORES_BYTES)
        if document is None:
            return problem
        try:
            stored = msgspec.convert(document, _Stored)
        except msgspec.ValidationError as error:
            return f"{self.path}: not a baseline of this version ({error})"
        if self._secret is None or not sealed_by(self._secret, stored.seals, stored.sealed_bytes):
            return f"{self.path}: computed by another user or on another machine, or edited"
        found = stored.transcripts
        places = range(self._clips)
        whole = len(found.hypotheses) == self._clips and all(
            place in places for place in (*found.silent, *found.cut, *found.capped)
        )
        if stored.facts != self._facts or not whole:
            return f"{self.path}: the baseline of another model, manifest or setting"
        return found

    def _store(self, found: Transcripts) -> None:
        if self._secret is None:
            return  # nobody could believe it
        stored = _Stored(self._facts, found, self._seals_over(self._facts, found))
        stored.seals[name_of(self._secret)] = seal(self._secret, stored.sealed_bytes)
        with contextlib.suppress(LinkError):  # which was told as what is not believed: the others compute it, too
            write_json(self._root, self.path, msgspec.to_builtins(stored))

    def _seals_over(self, facts: dict[str, Any], found: Transcripts) -> dict[str, str]:
        """Machines that share a folder seal the same transcripts, each for itself."""
        document, _ = read_json(self._root, self.path, SCORES_BYTES)
        with contextlib.suppress(msgspec.ValidationError):
            stored = msgspec.convert(document, _Stored)
            return stored.seals if stored.sealed_bytes == _bytes(facts, found) else {}
        return {}


def _bytes(facts: dict[str, Any], transcripts: Transcripts) -> bytes:
    return json.dumps([facts, msgspec.to_builtins(transcripts)], sort_keys=True).encode()


def _version(name: str) -> str:
    with contextlib.suppress(PackageNotFoundError):
        return version(name)
    return "missing"
