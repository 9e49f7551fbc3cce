"""`python -m core.export REQUEST`: a process of its own that decodes evaluation sets in the runtime of an export.

It reads the request, loads the export as its users do, and writes a score document for each set. Audio takes the
trainer's own path up to the normalised samples; what hears them, and all that follows, is the runtime's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.audio.cache import ClipStore, SampleCache
from core.audio.samples import SAMPLE_RATE_HZ, cut_at_pauses, normalise
from core.console import progress_bar
from core.errors import UserError
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache, manifest_sha256
from core.manifests.manifest import Manifest, read_manifest
from core.plan.exports import Target, target_of
from core.runs.adapter_files import AdapterFacts
from core.runs.scores import Decoding, Score
from core.scoring.units import Unit
from core.system.files import read_bytes, write_json
from core.training.evaluation import Progress, Transcripts, counted, score_document, transcripts
from core.training.families.base import SpeechModel
from core.training.model import choose_device, load_model

Samples = NDArray[np.float32]


class Request(msgspec.Struct, kw_only=True, frozen=True):
    """What to decode, with what, and where the documents go."""

    target: str
    folder: str
    model: str
    """The base model, for forms that lie beside one."""
    revision: str | None
    base_hash: str
    facts: AdapterFacts
    adapter_hash: str
    """Of the adapter that was exported."""
    unit: Unit
    sets: dict[str, str]
    """The manifest of each set."""
    decode: dict[str, Decoding]
    """How each set was decoded when it was judged."""
    output: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """A program that serves exports, as it is here."""

    name: str
    version: str
    device: str
    precision: str
    """That it computes in."""


class Recogniser(Protocol):
    """An export loaded in a runtime that is not this program's own."""

    max_seconds: float
    """The longest clip that it is given in one piece."""
    runtime: Runtime

    def text(self, clip: Samples, language: str | None) -> str:
        """What is said in a normalised 16 kHz clip (samples,)."""


def serve(request: Request) -> None:
    """Decode each set and write its score document, and what the runtime is. UserError."""
    target = target_of(request.target)
    if target is None:
        raise UserError(f"{request.target}: no form of an export")
    opened = _opened(target, request)
    runtime = _own(opened) if isinstance(opened, SpeechModel) else opened.runtime
    output = Path(request.output)
    for name, path in request.sets.items():
        score = _scored(opened, runtime, request, name, read_manifest(Path(path)))
        write_json(output / f"{name}.json", score.plain())
    write_json(output / "runtime.json", asdict(runtime))


def _opened(target: Target, request: Request) -> SpeechModel | Recogniser:
    module = import_module(f"core.export.{target.form.name}")
    opened: Callable[[Request], SpeechModel | Recogniser] = module.opened
    return opened(request)


def as_judged(speech: SpeechModel, facts: AdapterFacts) -> SpeechModel:
    """A plain model, decoded as the adapter was."""
    return speech.capped_at(facts.tokens_per_second).with_beams(facts.beams).hearing(facts.audio_context)


def loaded(folder: str, revision: str | None, facts: AdapterFacts) -> SpeechModel:
    """A model as `lora-cli evaluate` loads it."""
    import torch

    torch.set_num_threads(facts.threads)
    device = choose_device()
    precision = "fp32" if device.type == "cpu" else facts.precision
    return load_model(folder, revision, device=device, precision=precision, language=facts.language, task=facts.task)


def _own(speech: SpeechModel) -> Runtime:
    import transformers

    return Runtime("transformers", transformers.__version__, speech.device.type, speech.precision)


def _scored(
    opened: SpeechModel | Recogniser, runtime: Runtime, request: Request, name: str, manifest: Manifest
) -> Score:
    facts = request.facts
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as scratch:
        hashes = HashCache(Path(scratch) / "hashes.json")
        clips = cached_clips(manifest, SampleCache(Path(scratch)), hashes)
        digest = manifest_sha256(manifest, hashes)
        with progress_bar(f"{runtime.name}: {name}") as progress:
            if isinstance(opened, SpeechModel):
                found = transcripts(
                    opened,
                    manifest,
                    clips,
                    target_rms=facts.target_rms,
                    batch_seconds=facts.eval_batch_seconds,
                    with_loss=False,
                    progress=progress,
                )
            else:
                found = heard(opened, manifest, clips, facts.target_rms, progress)
        evaluation = counted(found, manifest, clips, facts.normaliser, request.unit)
    return score_document(
        evaluation,
        device=runtime.device,
        precision=runtime.precision,
        decode=request.decode[name],
        dataset=name,
        manifest=manifest,
        manifest_sha256=digest,
        step=facts.step,
        target_rms=facts.target_rms,
        normaliser_name=facts.normaliser,
        adapter_hash=request.adapter_hash,
    )


def heard(
    recogniser: Recogniser, manifest: Manifest, clips: ClipStore, target_rms: float, progress: Progress | None = None
) -> Transcripts:
    """What a runtime makes of each clip, one at a time; those it cannot hear whole are cut at pauses, as elsewhere."""
    texts: list[str] = []
    silent: list[int] = []
    cut: list[int] = []
    clipped = 0
    limit = int(recogniser.max_seconds * SAMPLE_RATE_HZ)
    for place, utterance in enumerate(manifest.utterances):
        clip = clips[place]
        whole = normalise(clip, target_rms)
        clipped += whole.clipped
        silent += [place] if whole.silent else []
        pieces: Sequence[tuple[int, int]] = [(0, len(clip))]
        if len(clip) > limit:
            pieces = cut_at_pauses(clip, recogniser.max_seconds)
            cut.append(place)
        said = [recogniser.text(whole.samples[start:stop], utterance.language) for start, stop in pieces]
        texts.append(" ".join(part for part in said if part))
        if progress:
            progress(place + 1, len(manifest))
    return Transcripts(tuple(texts), None, "", tuple(silent), clipped, tuple(cut), ())


def request_in(path: Path) -> Request:
    """The request that the exporting process wrote."""
    return msgspec.json.decode(read_bytes(path), type=Request)


def as_json(request: Request) -> dict[str, Any]:
    """As it is written."""
    found: dict[str, Any] = msgspec.to_builtins(request)
    return found
