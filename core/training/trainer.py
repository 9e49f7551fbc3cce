"""Train one run: what happens between a loaded model and the last step.

Every step is a pure function of (settings, data, step number): its batch comes from the batch plan, its dropout from a
seed of its own, its learning rate from the schedule. So a run that was interrupted anywhere ends as if it had not been,
and resuming needs no state of a scheduler.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from core.audio.samples import SAMPLE_RATE_HZ, normalise
from core.errors import Interrupted
from core.plan.schema import RunSettings, TrainSettings
from core.runs.adapter_files import AdapterFacts, adapter_hash
from core.runs.choice import best_of
from core.runs.events import AdapterSaved, CheckpointSaved, IntervalScored, Step
from core.runs.fold import interval_of
from core.runs.folder import delete, make, replace_link, write_json
from core.runs.paths import RunPaths, step_name
from core.scoring.evidence import CandidateScore, Interval, Thresholds
from core.scoring.verdict import EarlyStop, early_stop
from core.training.adapter import (
    kept,
    merged,
    optimiser_groups,
    save_adapter,
    set_training_mode,
    trainable,
    without_adapter,
)
from core.training.augment import Augmentation
from core.training.batching import MicroBatch, TrainingPlan, alike
from core.training.checkpoint import load_checkpoint, prune_checkpoints, save_checkpoint
from core.training.data import Dataset, TrainingSet
from core.training.determinism import deterministic_kernels, seed_step
from core.training.distributed import digest
from core.training.evaluation import Scorer
from core.training.families.base import SpeechModel
from core.training.journal import Journal
from core.training.near_base import MovingAverage, loss_and_divergence, pull_to_base

GROUP_S = 6.0
"""What computing another part of a micro-batch costs a CPU, in seconds of audio."""


def learning_rate(step: int, steps: int, peak: float, warmup: float, schedule: str) -> float:
    """The rate of optimiser step `step` (1 … `steps`): linear warm-up over a share of the steps, then decay.

    `linear` falls to 0 just after the last step; `constant` stays at the peak.
    """
    warm = round(steps * warmup)
    if step <= warm:
        return peak * step / warm
    if schedule == "constant":
        return peak
    return peak * (steps - step + 1) / (steps - warm + 1)


class StoppedEarly(Exception):
    """The run's own `gate.early_stop` ends it: what it has shown so far rejects it."""


class Diverged(Exception):
    """The loss or the gradient is no longer a number."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What a run trains with and is evaluated on."""

    train: TrainingSet
    replay: TrainingSet | None
    evaluation: tuple[Dataset, ...]
    """domain, heldout and, if given, selection."""
    plan: TrainingPlan
    augmentation: Augmentation | None = None


class Trainer:
    """One run's training loop over an adapter that is already attached to `speech`."""

    def __init__(
        self,
        paths: RunPaths,
        settings: RunSettings,
        speech: SpeechModel,
        materials: Materials,
        facts: AdapterFacts,
        thresholds: Thresholds,
        journal: Journal,
        scorer: Scorer,
        rule: EarlyStop | None = None,
    ) -> None:
        self.paths, self.settings, self.speech, self.materials = paths, settings, speech, materials
        self.facts, self.thresholds, self.journal, self.scorer = facts, thresholds, journal, scorer
        self.rule = rule
        self.ranks = scorer.ranks
        from core.training.one_product import use_one_product  # with peft, which takes a second to import

        use_one_product(speech.network)
        self.parameters = trainable(speech)
        self.optimiser = torch.optim.AdamW(
            optimiser_groups(self.parameters, settings.adapter.lora_plus),
            lr=0.0,
            weight_decay=settings.train.weight_decay,
            fused=speech.device.type == "cpu",
        )
        self.average = MovingAverage(self.parameters, settings.train.ema) if settings.train.ema > 0 else None
        self.intervals: dict[int, Interval] = {}
        self.candidates: dict[str, CandidateScore] = {}
        """Made of intervals when the last step is done, by name."""
        self.best: str | None = None
        """The name of the adapter that `lora_adapter_best` leads to."""
        self.guardrail_kept: bool | None = None
        self.step = 0

    @property
    def train(self) -> TrainSettings:
        """The settings in `[train]` of this run."""
        return self.settings.train

    def resume(self, step: int, intervals: dict[int, Interval], candidates: dict[str, CandidateScore]) -> None:
        """Go on from a whole checkpoint, knowing the intervals and candidates that were scored up to it."""
        average = None if self.average is None else self.average.tensors
        load_checkpoint(self.paths, step, kept(self.speech), self.optimiser, self.materials.plan.hash, average)
        self.step = step
        self.intervals, self.candidates = dict(intervals), dict(candidates)
        if self.ranks.leads:
            self._link()

    def agree(self) -> None:
        """Raise ModelError unless all processes of the run have the same weights and moments."""
        if self.ranks.size > 1:
            moments = [value for p in self.parameters.values() for value in self.optimiser.state[p].values()]
            self.ranks.agree(f"the adapter after step {self.step}", digest([*kept(self.speech).values(), *moments]))

    def follow(self) -> None:
        """Do what rank 0 asks for, until it asks for nothing more."""
        sets = {dataset.name: dataset for dataset in self.materials.evaluation}
        while (order := self.ranks.heard()).what != "end":
            if order.what == "step":
                with contextlib.suppress(Diverged):  # so has rank 0, which says what follows
                    self._one_step(order.step or 0)
            elif order.what == "agree":
                self.agree()
            else:
                with merged(self.speech) as speech:
                    self.scorer.share(speech, sets[order.name], order.step or 0)

    def run(self) -> None:
        """Train to the last step. Raises Interrupted after saving when asked to stop, Diverged, StoppedEarly."""
        self._interval_if_due()
        self._check_early_stop()
        self.journal.phase("training", self.step)
        while self.step < self.train.steps:
            if self.scorer.stopping():
                self._checkpoint()
                raise Interrupted(f"stopped after step {self.step}; it goes on from there")
            self._one_step(self.step + 1)
            due = self.step % self.train.eval_every == 0 or self.step == self.train.steps
            if due or self.step % (self.train.checkpoint_every or self.train.eval_every) == 0:
                self._checkpoint()
            if due:
                self._interval_if_due()
                self._check_early_stop()
            if due and self.step < self.train.steps:
                self.journal.phase("training", self.step)

    def _check_early_stop(self) -> None:
        """Raise StoppedEarly before the last step if the rule says so: a run that is at its end is judged as it is."""
        if self.rule is None or self.step >= self.train.steps:
            return
        reason = early_stop(list(self.intervals.values()), self.rule)
        if reason is not None:
            raise StoppedEarly(reason)

    def _one_step(self, step: int) -> None:
        started = time.perf_counter()
        rate = learning_rate(step, self.train.steps, self.train.learning_rate, self.train.warmup, self.train.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["faster"]
        set_training_mode(self.speech)
        micros = self.materials.plan.steps[step - 1]
        tokens = sum(len(ids) for micro in micros for ids in self._labels(micro))
        replayed = sum(len(ids) for micro in micros for ids in self._replayed(micro))
        places = [0, *accumulate(len(micro.train) + len(micro.replay) for micro in micros)]
        done: list[tuple[float, float, float]] = []
        """Of each micro-batch: its summed loss and divergence, and its seconds."""
        self.ranks.tell("step", step)
        with deterministic_kernels(self.train.deterministic):
            for number in self.ranks.share(len(micros)):
                seed_step(self.train.seed, step, number)
                loss, divergence, seconds = self._summed_losses(micros[number], step, places[number])
                wanted = loss / tokens
                if divergence is not None:
                    wanted = wanted + self.train.kl * divergence / replayed
                wanted.backward()  # type: ignore[no-untyped-call]
                apart = 0.0 if divergence is None else float(divergence.detach())
                done.append((float(loss.detach()), apart, seconds))
            done = self.ranks.whole_step(done, self.parameters.values())
            norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.train.clip))
        loss_sum, kl_sum, audio_s = map(math.fsum, zip(*done, strict=True))
        loss_mean = loss_sum / tokens
        kl = kl_sum / replayed if self.train.kl > 0 and replayed else None
        if not (math.isfinite(loss_mean) and math.isfinite(norm)):
            self.journal.emit(Step(step, loss_mean, rate, norm, tokens, round(audio_s, 3), 0.0, kl))
            raise Diverged(f"step {step}: loss {loss_mean}, gradient norm {norm}; lower train.learning_rate")
        if self.train.decay_to_base > 0:
            pull_to_base(self.speech, rate * self.train.decay_to_base)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        self.step = step
        elapsed = round(time.perf_counter() - started, 4)
        self.journal.emit(Step(step, loss_mean, rate, norm, tokens, round(audio_s, 3), elapsed, kl))

    def _parts(self, micro: MicroBatch) -> list[tuple[TrainingSet, int]]:
        parts = [(self.materials.train, i) for i in micro.train]
        if self.materials.replay is not None:
            parts += [(self.materials.replay, i) for i in micro.replay]
        return parts

    def _labels(self, micro: MicroBatch) -> list[list[int]]:
        return [source.labels[i] for source, i in self._parts(micro)]

    def _replayed(self, micro: MicroBatch) -> list[list[int]]:
        replay = self.materials.replay
        return [] if replay is None else [replay.labels[i] for i in micro.replay]

    def _summed_losses(
        self, micro: MicroBatch, step: int, place: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, float]:
        """The loss summed over the micro-batch's target units, its divergence if `train.kl` asks, its audio's seconds.

        `place`: of its first clip among those of the step.
        """
        parts, labels = self._parts(micro), self._labels(micro)
        heard = [source.clips[source.indices[i]] for source, i in parts]
        if (augmentation := self.materials.augmentation) is not None:
            heard = [
                augmentation.clip(clip, step, place + i, partial(self._fits, ids))
                for i, (clip, ids) in enumerate(zip(heard, labels, strict=True))
            ]
        clips = [normalise(clip, self.settings.data.target_rms).samples for clip in heard]
        languages = [source.languages[i] for source, i in parts]
        costs_s = [self.speech.encoder_seconds(len(clip) / SAMPLE_RATE_HZ) for clip in clips]
        losses, divergences = [], []
        # a GPU would rather compute some padding than a part of a batch
        together = alike(costs_s, GROUP_S) if self.speech.device.type == "cpu" else [list(range(len(clips)))]
        for group in together:
            features = self.speech.features([clips[i] for i in group])
            if augmentation is not None and augmentation.masks and self.speech.spectrogram is not None:
                # the features have the window, though the encoder may compute over a part of it
                whole = self.speech.limits.max_seconds if self.speech.facts.windowed else max(costs_s[i] for i in group)
                longest = whole * SAMPLE_RATE_HZ
                shares = [len(clips[i]) / longest for i in group]
                places = [place + i for i in group]
                augmentation.mask(features["input_features"], self.speech.spectrogram, shares, step, places)
            replay = sum(i >= len(micro.train) for i in group) if self.train.kl > 0 else 0
            with self.speech.autocast():
                loss, divergence = loss_and_divergence(
                    self.speech, features, [languages[i] for i in group], [labels[i] for i in group], replay
                )
            losses.append(loss)
            divergences += [] if divergence is None else [divergence]
        seconds = sum(len(clip) for clip in clips) / SAMPLE_RATE_HZ
        return torch.stack(losses).sum(), torch.stack(divergences).sum() if divergences else None, seconds

    def _fits(self, ids: list[int], samples: int) -> bool:
        return self.speech.unfit(ids, samples) is None

    def _checkpoint(self) -> None:
        self.journal.phase("checkpointing", self.step)
        self.ranks.tell("agree")
        self.agree()
        self.paths = self.scorer.stopping.last_place(self.paths)
        average = None if self.average is None else self.average.tensors
        save_checkpoint(self.paths, self.step, kept(self.speech), self.optimiser, self.materials.plan.hash, average)
        self.journal.emit(CheckpointSaved(self.step))
        prune_checkpoints(self.paths, self.train.keep_checkpoints)

    def _interval_if_due(self) -> None:
        """Score, save the adapter, move the links: in this order, so that a kill between them is only repeated."""
        step = self.step
        if step == 0 or step in self.intervals or (step % self.train.eval_every and step != self.train.steps):
            return
        started = time.perf_counter()
        self.journal.phase("evaluating", step)
        folder = self.paths.adapter(step)
        self.scorer.stopping.check_folder()
        make(self.paths.root, folder)
        sets: dict[str, dict[str, Any]] = {}
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            save_adapter(self.speech, folder, replace(self.facts, step=step))
            digest = adapter_hash(folder)
            with merged(self.speech) as speech:
                for dataset in self.materials.evaluation:
                    score = self.scorer(speech, dataset, step, digest)
                    write_json(self.paths.root, self.paths.evaluation(step, dataset.name), score.plain())
                    sets[dataset.name] = score.event
        self.journal.phase("saving", step)
        scored = IntervalScored(step, sets, round(time.perf_counter() - started, 3))
        self.intervals[step] = interval_of(scored)
        self.scorer.stopping.check_folder()
        self._link()
        self.journal.emit(scored)
        self.journal.emit(AdapterSaved(step, digest, self.best == step_name(step)))
        self.journal.sync()

    def to_base(self) -> SpeechModel:
        """The plain base model in fp32: there are no more steps, and adapter and optimiser are let go."""
        del self.optimiser
        self.parameters, self.average = {}, None
        self.speech = without_adapter(self.speech)
        self.speech.network.eval()
        return self.speech

    def release(self) -> None:
        """Give back the memory of the model, its gradients and the optimiser: there are no more steps."""
        vars(self).pop("optimiser", None)  # it is gone already where the adapter was let go
        self.average = None
        network = self.speech.network
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.grad = None
            # callers still hold the network: it is emptied, not dropped
            tensor.data = tensor.data.new_empty(0)
        gc.collect()
        torch.cuda.empty_cache()
        with contextlib.suppress(AttributeError, OSError, TypeError):
            # what activations took and free() kept: glibc gives it back only when asked, others by themselves
            ctypes.CDLL(None).malloc_trim(0)

    def _link(self) -> None:
        """Point the links at the best and the last interval's adapter; remove those that a resume took back."""
        intervals = [self.intervals[step] for step in sorted(self.intervals)]
        best, self.guardrail_kept, _ = best_of(self.paths, intervals, (), self.thresholds)
        self.link(best)
        last = max(self.intervals, default=0)
        self._point(self.paths.last, step_name(last) if last else None)

    def link(self, best: str | None) -> None:
        """Point `lora_adapter_best` at the adapter of that name; None: there is none."""
        self.best = best
        self._point(self.paths.best, best)

    def _point(self, link: Path, name: str | None) -> None:
        if name is None:
            delete(self.paths.root, link)
        else:
            replace_link(self.paths.root, link, str(self.paths.adapter(name).relative_to(self.paths.root)))
