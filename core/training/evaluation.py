"""Score a model on a manifest, and transcribe: the one path that the trainer, `lora-cli` and the baseline share.

Samples pass `core.audio.samples.normalise`, batches are sorted by length under a budget of padded seconds, decoding is
greedy with a cap for each clip, clips longer than the model hears are cut at pauses and their texts joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from core.audio.cache import ClipStore
from core.audio.probe import probe_fingerprint
from core.audio.samples import SAMPLE_RATE_HZ, TARGET_RMS, Normalised, audio_fingerprint, cut_at_pauses, normalise
from core.errors import Interrupted, ManifestError
from core.manifests.hashing import Line, line_of
from core.manifests.manifest import Manifest
from core.plan.schema import RunSettings
from core.runs.scores import SCHEMA_VERSION, Counts, Decoding, NormaliserName, Score, ScoredUtterance, Single
from core.scoring.alignment import count_errors
from core.scoring.text import normaliser
from core.scoring.units import ErrorCounts, Unit, total
from core.training.batching import evaluation_batches, plan_hash
from core.training.data import Dataset
from core.training.distributed import ALONE, Ranks
from core.training.families.base import SpeechModel
from core.training.journal import Journal
from core.training.stopping import StopFlag

Samples = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all) after each batch; may raise to stop."""


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """One utterance: texts as they are (not normalised) and the errors between their normalised forms."""

    line: Line
    hypothesis: str
    counts: ErrorCounts
    seconds: float

    @property
    def id(self) -> str:
        """As the manifest's line has it."""
        return self.line.id

    @property
    def reference(self) -> str:
        """As the manifest's line has it."""
        return self.line.reference


@dataclass(frozen=True, slots=True)
class Transcripts:
    """What a model made of a manifest's audio: all that takes time, and nothing that the manifest says."""

    hypotheses: tuple[str, ...]
    """In the manifest's order."""
    loss: float | None
    """Nats per target token over the utterances that fit into the model in one piece."""
    batch_plan: str
    silent: tuple[int, ...]
    """Places of utterances that are silence."""
    clipped: int
    """Samples that the RMS normalisation had to clamp."""
    cut: tuple[int, ...]
    """Places of utterances longer than the model's limit, cut at pauses."""
    capped: tuple[int, ...]
    """Places of utterances of which a transcript reached its token cap."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's score on a whole manifest."""

    unit: Unit
    """What is counted."""
    utterances: tuple[UtteranceScore, ...]
    loss: float | None
    """Nats per target token over the utterances that fit into the model in one piece."""
    batch_plan: str
    silent: tuple[str, ...]
    """Ids of utterances that are silence."""
    clipped: int
    """Samples that the RMS normalisation had to clamp."""
    cut: tuple[str, ...]
    """Ids of utterances longer than the model's limit, cut at pauses."""
    capped: tuple[str, ...]
    """Ids of utterances of which a transcript reached its token cap."""

    @property
    def counts(self) -> ErrorCounts:
        """Errors over the whole manifest (micro average)."""
        return total(u.counts for u in self.utterances)


@dataclass(frozen=True, slots=True)
class _Piece:
    utterance: int
    start: int
    stop: int
    whole: bool


def normalisation_fingerprint(target_rms: float, normaliser_name: str) -> str:
    """Audio path, text normaliser and probe in one: what an adapter carries and what is compared on load.

    The probe tells what this process makes of hard signals, whatever its parameters say. Computed once a process.
    """
    text = normaliser(normaliser_name)
    return f"{audio_fingerprint(target_rms)}-{text.name}{text.version}-{_probe(float(target_rms))}"


_probe = lru_cache(maxsize=8)(probe_fingerprint)


def normalisation_difference(carried: str, here: str) -> str | None:
    """What differs between two normalisation fingerprints, in words; None when nothing does.

    An adapter of a version without the probe carries two parts: those are compared.
    """
    theirs, ours = carried.split("-"), here.split("-")
    if len(theirs) == len(_PARTS) - 1:
        ours = ours[: len(theirs)]
    if len(theirs) != len(ours):
        return "their form"
    names = [name for name, one, other in zip(_PARTS, theirs, ours, strict=False) if one != other]
    return " and ".join(names) if names else None


_PARTS = (
    "the parameters of the audio path",
    "the text normaliser",
    "the samples that the audio path makes (its probe)",
)


Cut = Callable[[Samples, float], list[tuple[int, int]]]
"""Gives ranges [start, stop) of at most so many seconds of a clip that is longer."""


def _pieces(lengths: Sequence[int], read: Callable[[int], Samples], max_seconds: float, cut: Cut) -> list[_Piece]:
    limit = int(max_seconds * SAMPLE_RATE_HZ)
    pieces: list[_Piece] = []
    for index, length in enumerate(lengths):
        if length <= limit:
            pieces.append(_Piece(index, 0, length, True))
        else:
            pieces.extend(_Piece(index, start, stop, False) for start, stop in cut(read(index), max_seconds))
    return pieces


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a clip that was decoded at once: samples [start, stop) at 16 kHz, and what is said there."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What was made of a batch."""

    texts: list[tuple[str, bool]]
    """(transcript, whether it reached its cap) of each piece."""
    loss: float
    """Summed, in nats."""
    tokens: int
    silent: tuple[int, ...]
    """Clips that are silence, of those that begin in the batch."""
    clipped: int
    """Samples of them that were clamped."""


class Decoder:
    """Runs a model over clips in length-sorted batches, which the processes of a run share out."""

    def __init__(
        self,
        speech: SpeechModel,
        *,
        target_rms: float = TARGET_RMS,
        batch_seconds: float = 120.0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.speech, self.target_rms, self.batch_seconds, self._ranks = speech, target_rms, batch_seconds, ranks
        self.silent: set[int] = set()
        self.capped: set[int] = set()
        self.clipped = 0
        self.segments: list[list[Segment]] = []
        """Of each clip of the last run, in order."""
        self._last: tuple[int, Normalised] | None = None

    def run(
        self,
        lengths: Sequence[int],
        read: Callable[[int], Samples],
        labels: Sequence[Sequence[int]] | None = None,
        progress: Progress | None = None,
        languages: Sequence[str | None] | None = None,
        cut: Cut = cut_at_pauses,
        max_seconds: float = math.inf,
    ) -> tuple[list[str], float | None, str, set[int]]:
        """Hypotheses in the clips' order, mean loss (when `labels` are given), batch plan hash, clips that were cut.

        `lengths` are samples at 16 kHz, `read(i)` gives clip i before normalisation; `languages`: what clips name. What
        is longer than `max_seconds`, or than the model hears, is cut by `cut`. Scores leave both as they are.
        """
        self._last = None
        pieces = _pieces(lengths, read, min(max_seconds, self.speech.limits.max_seconds), cut)
        seconds = [(p.stop - p.start) / SAMPLE_RATE_HZ for p in pieces]
        batches = evaluation_batches(seconds, self.batch_seconds, self.speech.encoder_seconds)
        texts: list[str] = [""] * len(pieces)
        loss_sum, loss_tokens = 0.0, 0
        done = list(accumulate(map(len, batches)))

        def decoded(number: int) -> _Decoded:
            chosen = [pieces[i] for i in batches[number]]
            targets = [labels[p.utterance] if labels and p.whole else None for p in chosen]
            told = [languages[p.utterance] if languages else None for p in chosen]
            made = self._batch(chosen, read, targets, told)
            if progress:
                progress(done[number], len(pieces))
            return made

        was_training = self.speech.network.training
        self.speech.network.eval()
        try:
            with torch.inference_mode():
                found = self._ranks.shared(len(batches), decoded)
        finally:
            # else training would go on without dropout
            self.speech.network.train(was_training)
        self._last = None
        for batch, made in zip(batches, found, strict=True):
            for i, (text, reached) in zip(batch, made.texts, strict=True):
                texts[i] = text
                if reached:
                    self.capped.add(pieces[i].utterance)
            loss_sum, loss_tokens = loss_sum + made.loss, loss_tokens + made.tokens
            self.silent.update(made.silent)
            self.clipped += made.clipped
        self.segments = [[] for _ in lengths]
        for piece, text in zip(pieces, texts, strict=True):
            if text:
                self.segments[piece.utterance].append(Segment(piece.start, piece.stop, text))
        loss = loss_sum / loss_tokens if loss_tokens else None
        shortened = {p.utterance for p in pieces if not p.whole}
        return [" ".join(part.text for part in parts) for parts in self.segments], loss, plan_hash(batches), shortened

    def _normalised(self, piece: _Piece, read: Callable[[int], Samples]) -> Normalised:
        """The whole clip of a piece."""
        return normalise(read(piece.utterance), self.target_rms) if piece.whole else self._of_long(piece, read)

    def _of_long(self, piece: _Piece, read: Callable[[int], Samples]) -> Normalised:
        """All of a recording that was cut: it is not normalised anew for each piece that comes after another of it."""
        if self._last is None or self._last[0] != piece.utterance:
            self._last = piece.utterance, normalise(read(piece.utterance), self.target_rms)
        return self._last[1]

    def _batch(
        self,
        pieces: Sequence[_Piece],
        read: Callable[[int], Samples],
        labels: list[Sequence[int] | None],
        languages: list[str | None],
    ) -> _Decoded:
        speech = self.speech
        whole = [self._normalised(piece, read) for piece in pieces]
        clips = [one.samples[piece.start : piece.stop] for piece, one in zip(pieces, whole, strict=True)]
        begun = [(piece, one) for piece, one in zip(pieces, whole, strict=True) if piece.start == 0]
        # rows without a target (cut clips), or with one that the model cannot have, count nothing
        targets = [
            ids if ids is not None and speech.unfit(ids, len(clip)) is None else []
            for ids, clip in zip(labels, clips, strict=True)
        ]
        features = speech.features(clips)
        with speech.autocast():
            encoded = speech.encode(features, languages)
            caps = [speech.limits.tokens(len(clip)) for clip in clips]
            written = speech.decode(encoded, caps)
            loss = float(speech.summed_loss(encoded, targets)) if any(targets) else 0.0
        reached = [len(ids) >= cap for ids, cap in zip(written, caps, strict=True)]
        return _Decoded(
            texts=list(zip(map(speech.text, written), reached, strict=True)),
            loss=loss,
            tokens=sum(map(len, targets)),
            silent=tuple(piece.utterance for piece, one in begun if one.silent),
            clipped=sum(one.clipped for _, one in begun),
        )


def evaluate(
    speech: SpeechModel,
    manifest: Manifest,
    clips: ClipStore,
    *,
    normaliser_name: str = "basic",
    unit: Unit = Unit.WORD,
    target_rms: float = TARGET_RMS,
    batch_seconds: float = 120.0,
    with_loss: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Score `speech` on all of `manifest` by `unit`. `clips` are its decoded clips in manifest order.

    Raises ManifestError when the texts hold no word.
    """
    check_words(manifest, normaliser_name)
    found = transcripts(
        speech,
        manifest,
        clips,
        target_rms=target_rms,
        batch_seconds=batch_seconds,
        with_loss=with_loss,
        progress=progress,
    )
    return counted(found, manifest, clips, normaliser_name, unit)


def check_words(manifest: Manifest, normaliser_name: str) -> None:
    """Raise ManifestError when the texts hold no word, before anything is decoded."""
    text = normaliser(normaliser_name)
    if not any(text.apply(u.text).split() for u in manifest.utterances):
        raise ManifestError(
            f"{manifest.path}: no reference word after normalisation, so there is no error rate; mend the texts"
        )


def transcripts(
    speech: SpeechModel,
    manifest: Manifest,
    clips: ClipStore,
    *,
    target_rms: float = TARGET_RMS,
    batch_seconds: float = 120.0,
    with_loss: bool = True,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Transcripts:
    """Decode all of `manifest`: the part of `evaluate` that takes time."""
    decoder = Decoder(speech, target_rms=target_rms, batch_seconds=batch_seconds, ranks=ranks)
    labels = [speech.targets(u.text, u.language) for u in manifest.utterances] if with_loss else None
    lengths = [int(n) for n in clips.lengths]
    languages = [u.language for u in manifest.utterances]
    hypotheses, loss, plan, cut = decoder.run(lengths, lambda i: clips[i], labels, progress, languages)
    return Transcripts(
        hypotheses=tuple(hypotheses),
        loss=_finite(loss),
        batch_plan=plan,
        silent=tuple(sorted(decoder.silent)),
        clipped=decoder.clipped,
        cut=tuple(sorted(cut)),
        capped=tuple(sorted(decoder.capped)),
    )


def counted(found: Transcripts, manifest: Manifest, clips: ClipStore, normaliser_name: str, unit: Unit) -> Evaluation:
    """Transcripts beside what the manifest says: errors counted, and every other fact taken from the manifest."""
    text = normaliser(normaliser_name)
    scores = tuple(
        UtteranceScore(
            line_of(utterance),
            hypothesis,
            count_errors(text.apply(utterance.text), text.apply(hypothesis), unit),
            int(length) / SAMPLE_RATE_HZ,
        )
        for utterance, hypothesis, length in zip(manifest.utterances, found.hypotheses, clips.lengths, strict=True)
    )
    names = [u.id for u in manifest.utterances]
    return Evaluation(
        unit=unit,
        utterances=scores,
        loss=found.loss,
        batch_plan=found.batch_plan,
        silent=tuple(names[i] for i in found.silent),
        clipped=found.clipped,
        cut=tuple(names[i] for i in found.cut),
        capped=tuple(names[i] for i in found.capped),
    )


def score_document(
    evaluation: Evaluation,
    *,
    device: str,
    precision: str,
    decode: Decoding,
    dataset: str,
    manifest: Manifest,
    manifest_sha256: str,
    step: int | None,
    target_rms: float,
    normaliser_name: str,
    adapter_hash: str | None,
    single: Single | None = None,
) -> Score:
    """The evaluation as it stands in the run folder (docs/events.md), of what any program decoded."""
    text = normaliser(normaliser_name)
    return Score(
        schema=SCHEMA_VERSION,
        dataset=dataset,
        manifest=str(manifest.path),
        manifest_sha256=manifest_sha256,
        step=step,
        normaliser=NormaliserName(text.name, text.version),
        fingerprint=normalisation_fingerprint(target_rms, normaliser_name),
        device=device,
        precision=precision,
        batch_plan=evaluation.batch_plan,
        decode=decode,
        adapter_hash=adapter_hash,
        loss=_finite(evaluation.loss),
        unit=evaluation.unit,
        counts=Counts(**asdict(evaluation.counts)),
        single=single,
        silent=evaluation.silent,
        cut=evaluation.cut,
        capped=evaluation.capped,
        clipped_samples=evaluation.clipped,
        utterances=tuple(
            ScoredUtterance(**asdict(u.line), **asdict(u.counts), hypothesis=u.hypothesis, seconds=round(u.seconds, 4))
            for u in evaluation.utterances
        ),
    )


def _finite(loss: float | None) -> float | None:
    """What is not a number is no evidence, and no JSON."""
    return loss if loss is not None and math.isfinite(loss) else None


def decode_singly(speech: SpeechModel, clips: ClipStore, result: Evaluation, count: int, target_rms: float) -> Single:
    """Decode `count` clips, spread evenly over the manifest, in batches of one; compare with `result`'s transcripts."""
    chosen = sorted({int(i) for i in np.linspace(0, len(clips) - 1, min(count, len(clips)))})
    # one clip a call, not a small budget: a budget would still let two short clips share a batch
    differing = 0
    for index in chosen:
        clip = clips[index]
        told = result.utterances[index].line.fields.get("language")
        languages = [None if told is None else str(told)]
        alone, *_ = Decoder(speech, target_rms=target_rms).run([len(clip)], [clip].__getitem__, languages=languages)
        differing += alone[0] != result.utterances[index].hypothesis
    return Single(len(chosen), differing)


# Scoring within a run: progress goes into the journal, and it stops when it is asked to


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores with a run's settings: the baseline and every interval pass through the same call."""

    settings: RunSettings
    journal: Journal
    stopping: StopFlag
    unit: Unit = Unit.WORD
    """What errors are counted by: `[gate] unit`."""
    ranks: Ranks = ALONE
    """The processes that share the batches."""

    def __call__(self, model: SpeechModel, dataset: Dataset, step: int, adapter_hash: str | None) -> Score:
        """The score document (docs/events.md). Raises Interrupted when asked to stop."""
        return self.document(model, dataset, step, adapter_hash, self.transcripts(model, dataset, step))

    def transcripts(self, model: SpeechModel, dataset: Dataset, step: int) -> Transcripts:
        """What the model makes of the set's audio. Raises Interrupted when asked to stop."""

        def progress(done: int, total: int) -> None:
            self.journal.progress(done, total)
            if self.stopping():
                raise Interrupted(f"stopped while evaluating step {step}; the evaluation is made again on resume")

        data = self.settings.data
        check_words(dataset.manifest, data.normaliser)
        scoring = model.for_scoring()
        self.ranks.tell("score", step, dataset.name)
        self.ranks.spread(scoring.network.get_submodule(name).weight for name in self.ranks.layers)
        return transcripts(
            scoring,
            dataset.manifest,
            dataset.clips,
            target_rms=data.target_rms,
            batch_seconds=self.settings.train.eval_batch_seconds,
            progress=progress,
            ranks=self.ranks,
        )

    def share(self, model: SpeechModel, dataset: Dataset, step: int) -> None:
        """Of a process that follows another: decode its own batches of the set. Whether to stop, that one decides."""
        with suppress(Interrupted):
            self.transcripts(model, dataset, step)

    def document(
        self, model: SpeechModel, dataset: Dataset, step: int, adapter_hash: str | None, found: Transcripts
    ) -> Score:
        """The score document over transcripts: counts are counted here, all else comes from the set's manifest."""
        self.stopping.check_folder()
        data = self.settings.data
        scoring = model.for_scoring()
        return score_document(
            counted(found, dataset.manifest, dataset.clips, data.normaliser, self.unit),
            device=scoring.device.type,
            precision=scoring.precision,
            decode=scoring.decoding,
            dataset=dataset.name,
            manifest=dataset.manifest,
            manifest_sha256=dataset.sha256,
            step=step,
            target_rms=data.target_rms,
            normaliser_name=data.normaliser,
            adapter_hash=adapter_hash,
        )
