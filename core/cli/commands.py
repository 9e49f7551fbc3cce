"""The model that `lora-cli` hears with, and `lora-cli evaluate`. Thin: the work is `core.training.evaluation`'s."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.audio.cache import SampleCache
from core.audio.samples import TARGET_RMS
from core.console import document, err, out, progress_bar
from core.errors import ExitCode, UserError, is_disk_full
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache, manifest_sha256
from core.manifests.manifest import Manifest, read_manifest
from core.manifests.sets import reserve_part
from core.plan.schema import MOST_BEAMS
from core.runs.adapter_files import LONGEST_AUDIO_CONTEXT, AdapterFacts, adapter_hash, read_facts
from core.runs.model_files import commit_of, hub_hash, is_commit, model_hash
from core.scoring.alignment import wer_table
from core.scoring.evidence import ran_on
from core.scoring.units import Unit, joined, joined_sentence
from core.system.files import write_json
from core.system.process import usable_cpus
from core.user_paths import user_path

if TYPE_CHECKING:
    from core.training.evaluation import Evaluation
    from core.training.families.base import SpeechModel


SHOWN = 5
"""Clips that a note names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to decode, and the settings it decodes under."""

    speech: SpeechModel
    step: int | None
    adapter_hash: str | None
    target_rms: float
    normaliser: str
    batch_seconds: float


def load(args: argparse.Namespace, manifest: Manifest | None = None) -> Loaded:
    """The model and adapter that the arguments name. UserError: there is none, or they do not go together."""
    import torch

    from core.training.adapter import decoding_as, load_adapter
    from core.training.families.base import SCORING_PRECISION
    from core.training.model import choose_device, load_model

    # a link may be moved meanwhile: from here on it is this folder
    folder: Path | None = args.adapter.resolve() if args.adapter else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"--adapter {args.adapter}: no such folder; give one that holds adapter_config.json")
    facts = read_facts(folder) if folder else None
    name = args.model or (facts.model if facts else None)
    if not name:
        raise UserError("--model: missing; give the base model's folder or hub id")
    if args.beams is not None and not 1 <= args.beams <= MOST_BEAMS:
        raise UserError(f"--beams {args.beams}: must be from 1 to {MOST_BEAMS}")
    if args.audio_context is not None and not 0 <= args.audio_context <= LONGEST_AUDIO_CONTEXT:
        raise UserError(f"--audio-context {args.audio_context}: must be from 0 to {LONGEST_AUDIO_CONTEXT:g} seconds")
    for option in ("threads", "batch_seconds", "tokens_per_second"):
        value = getattr(args, option)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{option.replace('_', '-')} {value}: must be a number above 0")
    name = str(user_path(name)) if name.startswith("~") else name
    torch.set_num_threads(args.threads or (facts.threads if facts else usable_cpus()))
    device = choose_device()
    asked = args.precision or (facts.precision if facts else SCORING_PRECISION)
    if args.precision is None and asked == "bf16" and device.type == "cpu":
        asked = "fp32"
    revision = _revision(name, args.revision, facts)
    language = args.language or (facts.language if facts else None)
    task = args.task or (facts.task if facts else None)
    speech = load_model(name, revision, device=device, precision=asked, language=language, task=task)
    digest, bare = None, getattr(args, "base", False)
    if folder is not None:
        local = Path(name)
        # the form in which run.json and the adapter record it
        base = model_hash(local, HashCache(Path(os.devnull))) if local.is_dir() else hub_hash(name, revision)
        if bare:
            speech, facts = decoding_as(speech, folder, base)
        else:
            speech, facts = load_adapter(speech, folder, base)
            digest = adapter_hash(folder)
    speech.check_languages([None] if manifest is None else [u.language for u in manifest.utterances])
    if args.tokens_per_second:
        speech = speech.capped_at(args.tokens_per_second)
    speech = speech.with_beams(args.beams or (facts.beams if facts else 1))
    if args.audio_context is not None:
        speech = speech.hearing(args.audio_context)
    return Loaded(
        speech=speech,
        step=0 if bare else facts.step if facts else None,
        adapter_hash=digest,
        target_rms=facts.target_rms if facts else TARGET_RMS,
        normaliser=args.normaliser or (facts.normaliser if facts else "basic"),
        batch_seconds=args.batch_seconds or (facts.eval_batch_seconds if facts else 120.0),
    )


def _revision(name: str, asked: str | None, facts: AdapterFacts | None) -> str | None:
    """The revision of a hub model to load: the commit, where the adapter names the one that it was trained on."""
    revision = asked or (facts.revision if facts else None)
    if facts is None or Path(name).is_dir() or not is_commit(facts.model_hash.rpartition("@")[2]):
        return revision
    return commit_of(name, revision, ask=True)


def evaluate(args: argparse.Namespace) -> ExitCode:
    """Score a manifest; print its error rate with its counts, write the score document if asked."""
    from core.training import evaluation as scoring

    if args.singly < 0:
        raise UserError(f"--singly {args.singly}: must be 0 or more")
    manifest, unit = _manifest(args), Unit(args.unit)
    if unit is Unit.WORD:
        _warn_of_joined_words(manifest)
    loaded = load(args, manifest)
    with tempfile.TemporaryDirectory(prefix="lora-cli-") as scratch:
        # decoded anew on purpose: this score must not lean on anything that the trainer left behind
        hashes = HashCache(Path(scratch) / "hashes.json")
        clips = cached_clips(manifest, SampleCache(Path(scratch)), hashes)
        digest = manifest_sha256(manifest, hashes)
        with progress_bar(f"scoring {args.dataset or args.manifest.stem}", lines=True) as progress:
            result = scoring.evaluate(
                loaded.speech,
                manifest,
                clips,
                normaliser_name=loaded.normaliser,
                unit=unit,
                target_rms=loaded.target_rms,
                batch_seconds=loaded.batch_seconds,
                progress=progress,
            )
        single = None
        if args.singly > 0:
            single = scoring.decode_singly(loaded.speech, clips, result, args.singly, loaded.target_rms)
    scores = scoring.score_document(
        result,
        device=loaded.speech.device.type,
        precision=loaded.speech.precision,
        decode=loaded.speech.decoding,
        dataset=args.dataset or args.manifest.stem,
        manifest=manifest,
        manifest_sha256=digest,
        step=loaded.step,
        target_rms=loaded.target_rms,
        normaliser_name=loaded.normaliser,
        adapter_hash=loaded.adapter_hash,
        single=single,
    )
    counts = result.counts
    if args.json is not None and str(args.json) == "-":
        document(scores.plain())
        return ExitCode.ACCEPTED
    if args.json is not None:
        try:
            write_json(args.json, scores.plain())
        except OSError as error:
            if is_disk_full(error):
                raise
            raise UserError(f"--json {args.json}: cannot be written ({error.strerror}); give another file") from error
    said = f"{counts.errors} errors in {counts.reference_words} {unit.plural}"
    out(f"{unit.rate} {counts.wer_percent:.2f} %  ({said})")
    out(f"substitutions {counts.substitutions}  deletions {counts.deletions}  insertions {counts.insertions}")
    if args.every_normaliser:
        for line in wer_table(((u.reference, u.hypothesis) for u in result.utterances), unit):
            out(line)
    if result.loss is not None:
        out(f"loss {result.loss:.4f} nats per token")
    if single is not None:
        out(f"decoded one by one: {single.differing} of {single.compared} transcripts differ from the batch's")
    _say_what_is_odd(result)
    return ExitCode.ACCEPTED


def _manifest(args: argparse.Namespace) -> Manifest:
    """What is to be scored."""
    if args.base and not args.adapter:
        raise UserError("--base: goes with --adapter, which says how to decode; without one the base model is scored")
    part = _part(args.part) if args.part else None
    manifest = read_manifest(args.manifest)
    return manifest if part is None else reserve_part(manifest, *part)


def _part(written: str) -> tuple[int, int]:
    """(K, N) of `K/N`."""
    part, _, parts = written.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and len(written) < 10 and 1 <= int(part) <= int(parts)):
        raise UserError(f"--part {written}: write K/N, part K of N, such as 1/4")
    return int(part), int(parts)


def _say_what_is_odd(result: Evaluation) -> None:
    """Transcripts that reached their cap, silence, and clips that were cut."""
    if result.capped:
        out(_caps(result))
    for names, what in (
        (result.silent, "silence"),
        (result.cut, "longer than the model hears, cut at pauses"),
    ):
        if names:
            shown = ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
            err(f"note: {what}: {len(names)} of {len(result.utterances)} clips: {shown}")


def _caps(result: Evaluation) -> str:
    """How many transcripts reached their cap, and how many of them are no loop."""
    texts = {u.id: (u.reference, u.hypothesis) for u in result.utterances}
    cut = sum(not ran_on(*texts[name]) for name in result.capped)
    reached = f"{len(result.capped)} of {len(texts)} transcripts reached theirs"
    return f"token caps: {reached}, {cut} of them before they had ended"


def _warn_of_joined_words(manifest: Manifest) -> None:
    count = sum(1 for _ in joined(u.text for u in manifest.utterances))
    if sentence := joined_sentence(str(manifest.path), count, len(manifest)):
        err(f"warning: {sentence}; here: --unit character or mixed")
