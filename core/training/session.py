"""One attempt at a run, stage by stage: load, baseline, train, finish. The stages stand in their order."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from core.audio.cache import SampleCache
from core.console import PROGRESS_VARIABLE, err, newest_progress
from core.errors import Interrupted, ManifestError, ModelError, RunFolderError, UserError
from core.manifests.decoding import cached_clips, clip_notices
from core.manifests.hashing import HashCache, languages_sha256, manifest_sha256
from core.manifests.manifest import noise_recordings
from core.manifests.sets import set_paths, split_of
from core.plan.candidates import makes_candidates
from core.plan.families import cannot, nothing_to_mask
from core.plan.fits import seconds_per_step, share_of_seconds
from core.plan.identity import settings_from
from core.plan.schema import RunSettings
from core.runs import documents
from core.runs.adapter_files import AdapterFacts, adapter_hash
from core.runs.choice import easier
from core.runs.contents import HUB, NOISE
from core.runs.events import SCHEMA_VERSION, AttemptStarted, IntervalScored, Notice
from core.runs.fold import interval_of
from core.runs.folder import delete, inventory, make, names, sha256_of_start, write_json
from core.runs.model_files import hub_hash, model_hash
from core.runs.paths import RunPaths, adapter_step, step_name
from core.runs.position import write_positions
from core.runs.scores import read_score
from core.runs.state_folder import runs_folder
from core.runs.store import read_run
from core.scoring.data_health import EVALUATED, TAKEN_FROM
from core.scoring.evidence import Interval
from core.scoring.verdict import early_stop_of, thresholds_of
from core.system.process import PARENT_VARIABLE, ProcessIdentity, end
from core.training.adapter import adapted_layers, attach, kept
from core.training.augment import Augmentation
from core.training.baseline import SharedBaseline, baseline_facts
from core.training.batching import TrainingPlan, training_plan
from core.training.checkpoint import batch_plan_of, prune_checkpoints, sweep_up, whole_checkpoints
from core.training.choosing import choose_candidate
from core.training.data import SHOWN, Dataset, TrainingSet, open_dataset, report_evaluation_set, usable
from core.training.determinism import prepare_cuda
from core.training.distributed import ALONE, Ranks
from core.training.evaluation import Scorer, Transcripts, normalisation_difference, normalisation_fingerprint
from core.training.families.base import SCORING_PRECISION, SpeechModel
from core.training.health import HealthAudit
from core.training.journal import Journal, Mute
from core.training.memory import save_memory
from core.training.model import check_given_gpu, choose_device, choose_precision, load_model
from core.training.reserve import score_reserve
from core.training.stopping import StopFlag
from core.training.trainer import Materials, Trainer

SINGLE_CLIPS = 50
"""Clips of each evaluation set that are also decoded one by one, which *parity* asks for."""
_LIBRARIES = ("torch", "transformers", "peft", "jiwer", "numpy", "soundfile", "soxr")
_POLL_S = 0.2
_EVALUATIONS = 3
"""How often `lora-cli evaluate` is tried when something kills it, such as the kernel for want of memory."""
_TOLD_BYTES = 65_536
_STOP_S = 30.0
"""For lora-cli to end after SIGTERM; then it is killed."""


def read_config(paths: RunPaths) -> dict[str, Any]:
    """run.json. RunFolderError when it is missing or broken."""
    try:
        config, problem = documents.read_config(paths)
        if config is None:
            raise ValueError(problem or "missing")
        settings_from(config["settings"])
        _ = (config["identity"], config["hashes"]["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{paths.config}: cannot be read as a run ({error}); submit the plan again") from error
    return dict(config)


def library_versions() -> dict[str, str]:
    """Versions of what computes the result."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


class Session:
    """An attempt at the run in `paths`."""

    def __init__(self, paths: RunPaths, config: dict[str, Any], stopping: StopFlag, ranks: Ranks = ALONE) -> None:
        self.paths, self.config, self.stopping, self.ranks = paths, config, stopping, ranks
        self.settings: RunSettings = settings_from(config["settings"])
        self.runs = runs_folder(paths.root.parent)
        self.thresholds = thresholds_of(config.get("gate") or {})
        self.threads = ranks.threads(self.settings.train.threads)
        torch.set_num_threads(self.threads)
        if self.settings.train.deterministic:
            prepare_cuda()
        self.device = choose_device()
        self.precision = choose_precision(self.settings.train.precision, self.device)
        earlier = read_run(paths)
        self.attempt = max((a.number for a in earlier.attempts), default=0) + 1
        whole = whole_checkpoints(paths)
        self.resume_from = whole[-1] if whole else None
        saved = {adapter.step for adapter in earlier.adapters} | {0}
        self.earlier_intervals: dict[int, Interval] = {
            i.step: i
            for i in earlier.intervals
            if self.resume_from is not None and i.step <= self.resume_from and i.step in saved
        }
        self.earlier_candidates = {
            one.name: one for one in earlier.candidates if self.resume_from is not None and one.step <= self.resume_from
        }
        self.started = time.monotonic()
        self.step = self.resume_from or 0

    def begin(self, journal: Journal, process: ProcessIdentity) -> None:
        """Sweep up after the attempt before, and write this one's first event. `process`: it holds the run's lock."""
        sweep_up(self.paths)
        journal.emit(
            AttemptStarted(
                schema=SCHEMA_VERSION,
                process=process.to_json(),
                resumed_from=self.resume_from,
                device=_device_name(self.device),
                precision=self.precision,
                versions=library_versions(),
            )
        )

    def run(self, journal: Journal) -> None:
        """All stages. Raises Interrupted, Diverged, UserError, OSError, torch's errors; the caller names outcomes."""
        journal.phase("loading")
        check_given_gpu(self.device)
        self._check_model()
        self._check_normalisation()
        speech = self._speech()
        self._check_decoding(speech)
        self.stopping.check()
        speech, materials = self._materials(speech, journal)
        self.ranks.tell("open", self.resume_from)
        self.ranks.agree("the batch plan", materials.plan.hash)
        self.stopping.check()
        # beside the training and not before it: listening to all sets takes minutes where they are large
        with HealthAudit(self.paths) as audit:
            self._train(speech, materials, journal, audit)

    def _train(self, speech: SpeechModel, materials: Materials, journal: Journal, audit: HealthAudit) -> None:
        scorer = Scorer(self.settings, journal, self.stopping, self.thresholds.unit, self.ranks)
        baseline = self._baseline(speech, materials, scorer)
        self.ranks.tell("train")
        trainer = self._trainer(speech, materials, scorer)
        if 0 not in trainer.intervals:
            journal.emit(baseline)
            trainer.intervals[0] = interval_of(baseline)
            if warning := easier(trainer.intervals[0]):
                journal.emit(Notice("warning", warning))
        self.stopping.check_folder()
        write_positions(self.paths)
        try:
            trainer.run()
        finally:
            self.step = trainer.step
        if makes_candidates(self.settings.train):
            choose_candidate(trainer)
        self.ranks.end()
        self._finish(trainer, materials, journal, audit)

    def _trainer(self, speech: SpeechModel, materials: Materials, scorer: Scorer) -> Trainer:
        """What trains the model, as it was after the last checkpoint; all processes of the run have the same."""
        speech = attach(speech, self.settings.adapter, self.settings.train.seed)
        save_memory(speech, self.settings.train)
        self.ranks.layers = tuple(name for name, _ in adapted_layers(speech.network.get_base_model()))
        facts = self._facts(speech)
        rule = early_stop_of(self.config.get("gate") or {}, comes_back=bool(self.settings.train.interpolate))
        trainer = Trainer(
            self.paths, self.settings, speech, materials, facts, self.thresholds, scorer.journal, scorer, rule
        )
        if self.resume_from is not None:
            trainer.resume(self.resume_from, self.earlier_intervals, self.earlier_candidates)
        self.ranks.spread(kept(speech).values())
        trainer.agree()
        return trainer

    def follow(self) -> None:
        """An attempt of a process that follows rank 0: what that one asks for, until it asks for nothing more."""
        speech = self._speech()
        self.resume_from = self.ranks.heard().step
        journal = Mute()
        speech, materials = self._materials(speech, journal)
        self.ranks.agree("the batch plan", materials.plan.hash)
        scorer = Scorer(self.settings, journal, self.stopping, self.thresholds.unit, self.ranks)
        sets = {dataset.name: dataset for dataset in materials.evaluation}
        while (order := self.ranks.heard()).what == "score":
            scorer.share(speech.for_scoring(), sets[order.name], 0)
        if order.what == "train":
            self._trainer(speech, materials, scorer).follow()

    def _speech(self) -> SpeechModel:
        """The base model, set to decode as this run's scores are decoded. Raises ModelError."""
        model, train = self.settings.model, self.settings.train
        speech = load_model(
            model.id,
            model.revision,
            device=self.device,
            precision=self.precision,
            language=model.language,
            task=model.task,
        )
        if unable := list(cannot(speech.facts, train, audio_context=model.audio_context)):
            raise ModelError("\n".join(unable))
        if (train.augment.time_masks or train.augment.feature_masks) and speech.spectrogram is None:
            raise ModelError(nothing_to_mask(speech.facts))
        return speech.with_beams(train.beams).hearing(model.audio_context)

    def _check_model(self) -> None:
        """Raise ModelError when the model is no longer the one whose hash is in the run's identity."""
        folder, planned = Path(self.settings.model.id), (self.config.get("hashes") or {}).get("model")
        if planned is not None and folder.is_dir() and model_hash(folder, HashCache(self.runs.hash_cache)) != planned:
            raise ModelError(
                f"model.id: {folder} changed after this run was planned (its identity holds the model's hash); "
                "submit the plan again: the changed model makes a new run"
            )
        model = self.settings.model
        if planned is not None and planned.startswith(HUB) and planned != hub_hash(model.id, model.revision):
            raise ModelError(
                f"model.revision: this run was planned for {planned}, and run.json names {model.revision or 'none'}: "
                "submit the plan again, which writes the commit there"
            )

    def _check_normalisation(self) -> None:
        """Raise RunFolderError when this process makes other samples or texts than the attempt it would go on from."""
        score, _ = read_score(self.paths.evaluation(0, "domain"))
        begun = None if score is None else score.fingerprint
        here = normalisation_fingerprint(self.settings.data.target_rms, self.settings.data.normaliser)
        if self.resume_from is not None and begun is not None and begun != here:
            differing = normalisation_difference(begun, here) or "the probe, which the earlier version did not have"
            raise RunFolderError(
                f"{self.paths.root}: begun under normalisation {begun}, this process computes {here}: they differ in "
                f"{differing}; go on with the lora-tui and the versions of soundfile and soxr that began it, or remove "
                "the folder and start again"
            )

    def _check_decoding(self, speech: SpeechModel) -> None:
        """Raise RunFolderError when the attempt it would go on from gave the model another prompt or other targets."""
        score, _ = read_score(self.paths.evaluation(0, "domain"))
        here = speech.decoding
        if self.resume_from is None or score is None:
            return
        for name, what in (("prompt", "the prompt"), ("targets", "what the model is trained to write for a text")):
            if getattr(score.decode, name) != getattr(here, name):
                raise RunFolderError(
                    f"{self.paths.root}: begun by a version of lora-tui that had another value of {what}: go on with "
                    "that version, or remove the folder and start again"
                )

    def _materials(self, speech: SpeechModel, journal: Journal) -> tuple[SpeechModel, Materials]:
        settings, data = self.settings, self.settings.data
        hashes = HashCache(self.runs.hash_cache)
        cache = SampleCache(self.runs.audio_cache)
        expected = {k: str(v) for k, v in (self.config.get("hashes") or {}).items()}
        lines = {k: str(v) for k, v in (self.config.get("lines") or {}).items()}

        def report(level: str, message: str) -> None:
            journal.emit(Notice(level, message))

        def opened(name: str) -> Dataset:
            journal.phase("loading", detail=f"data.{name}")

            def progress(done: int, total: int) -> None:
                journal.progress(done, total)
                self.stopping.check()

            dataset = open_dataset(name, data, expected, lines, cache, hashes, progress)
            notices = clip_notices(dataset.manifest, dataset.clips)
            for notice in notices[:SHOWN]:
                report("warning", notice)
            if len(notices) > SHOWN:
                more = f"{len(notices) - SHOWN} more clips have odd headers, channels or durations"
                report("warning", f"data.{name}: {more}: `lora-cli manifest check` names all")
            return dataset

        train_set = opened("train")
        replay_set = opened("replay") if data.replay and settings.train.replay_share > 0 else None
        evaluation = tuple(opened(name) for name in EVALUATED if name in set_paths(data))
        if data.selection_share > 0:
            for name in TAKEN_FROM:
                report("info", f"data.{name}: {split_of(data).sentence(name, data.selection_share)}")
        opened_sets = [train_set, *([replay_set] if replay_set else []), *evaluation]
        speech.check_languages(u.language for dataset in opened_sets for u in dataset.manifest.utterances)
        train = usable(train_set, speech, settings, report)
        replay = usable(replay_set, speech, settings, report) if replay_set else None
        sources = [train] + ([replay] if replay else [])
        # what is trained must be writable, by the base model too: else it could not be compared
        speech = speech.allowing(token for source in sources for ids in source.labels for token in ids)
        if speech.lifted:
            written = " ".join(speech.text([token]) for token in speech.lifted)
            report("info", f"training texts lift the model's ban on writing {written}")
        for dataset in evaluation:
            report_evaluation_set(dataset, speech, report)
        share = share_of_seconds(settings.train, _amount(train), _amount(replay)) if replay else 0.0
        plan = self._plan(speech, train, replay, share)
        report(
            "info",
            f"batch plan {plan.hash}: {plan.epochs:.2f} epochs of {len(train.indices)} clips, "
            f"{plan.train_seconds_per_step:.1f} s of training speech and "
            f"{plan.train_seconds_per_step * share / (1 - share):.1f} s of replay a step; "
            f"at most {speech.limits.tokens_per_second:g} tokens/s{_windows(speech, plan)}",
        )
        return speech, Materials(train, replay, evaluation, plan, self._augmentation(speech, cache, hashes, expected))

    def _plan(self, speech: SpeechModel, train: TrainingSet, replay: TrainingSet | None, share: float) -> TrainingPlan:
        """The clips of each step, cut into micro-batches by what the encoder computes over.

        Earlier versions cut by the clips' own length, whatever the model: a run that was begun so goes on so.
        """
        settings = self.settings.train
        begun = None if self.resume_from is None else batch_plan_of(self.paths, self.resume_from)

        def planned(cost_s: Callable[[float], float]) -> TrainingPlan:
            return training_plan(
                train.seconds,
                replay.seconds if replay else [],
                steps=settings.steps,
                accumulation=settings.accumulation,
                train_seconds_per_step=seconds_per_step(
                    sum(train.seconds), settings.steps, settings.epochs, settings.batch_seconds, share
                ),
                replay_share=share,
                seed=settings.seed,
                cost_s=cost_s,
            )

        plan = planned(speech.encoder_seconds)
        if begun in (None, plan.hash):
            return plan
        earlier = planned(float)
        return earlier if earlier.hash == begun else plan

    def _augmentation(
        self, speech: SpeechModel, cache: SampleCache, hashes: HashCache, expected: Mapping[str, str]
    ) -> Augmentation | None:
        """What `train.augment` does to the clips; None: nothing. Raises ManifestError for other noise than planned."""
        settings, noise = self.settings.train.augment, None
        if not settings.acting():
            return None
        if settings.noise is not None:
            recordings = noise_recordings(Path(settings.noise))
            if expected.get(NOISE, found := manifest_sha256(recordings, hashes)) != found:
                raise ManifestError(
                    f"train.augment.noise: the recordings in {settings.noise} changed after this run was planned (its "
                    "identity holds their hash); submit the plan again: the changed noise makes a new run"
                )
            noise = cached_clips(recordings, cache, hashes)
        return Augmentation(settings, self.settings.train.seed, noise, speech.limits.max_seconds)

    def _baseline(self, speech: SpeechModel, materials: Materials, scorer: Scorer) -> IntervalScored:
        """Interval 0: the base model's score on each evaluation set, from the shared store or computed now."""
        scorer.journal.phase("baseline", 0)
        data, train = self.settings.data, self.settings.train
        started = time.perf_counter()
        speech = speech.for_scoring()
        sets: dict[str, dict[str, Any]] = {}
        for dataset in materials.evaluation:
            facts = baseline_facts(
                speech,
                model_hash=str(self.config["hashes"]["model"]),
                manifest_sha256=dataset.sha256,
                target_rms=data.target_rms,
                normaliser=data.normaliser,
                batch_seconds=train.eval_batch_seconds,
                languages=languages_sha256(dataset.manifest),
            )

            def compute(dataset: Dataset = dataset) -> Transcripts:
                return scorer.transcripts(speech, dataset, 0)

            def refused(why: str) -> None:
                scorer.journal.emit(Notice("warning", f"{why}: it is not used, and the base model is scored anew"))

            baseline = SharedBaseline(self.runs, facts, len(dataset.manifest))
            score = scorer.document(
                speech, dataset, 0, None, baseline.transcripts(compute, self.stopping.check, refused)
            )
            self.stopping.check_folder()
            write_json(self.paths.root, self.paths.evaluation(0, dataset.name), score.plain())
            sets[dataset.name] = score.event
        return IntervalScored(0, sets, round(time.perf_counter() - started, 3))

    def _facts(self, speech: SpeechModel) -> AdapterFacts:
        data, train = self.settings.data, self.settings.train
        return AdapterFacts(
            step=0,
            identity=str(self.config["identity"]),
            model=self.settings.model.id,
            revision=self.settings.model.revision,
            model_hash=str(self.config["hashes"]["model"]),
            target_rms=data.target_rms,
            normaliser=data.normaliser,
            fingerprint=normalisation_fingerprint(data.target_rms, data.normaliser),
            tokens_per_second=speech.limits.tokens_per_second,
            eval_batch_seconds=train.eval_batch_seconds,
            precision=SCORING_PRECISION,
            threads=self.threads,
            lifted=speech.lifted,
            language=speech.language,
            task=speech.task,
            prompt=speech.prompted,
            targets=speech.targets_version,
            beams=speech.beams,
            audio_context=speech.audio_context,
        )

    def _finish(self, trainer: Trainer, materials: Materials, journal: Journal, audit: HealthAudit) -> None:
        """Let a separate process score `lora_adapter_best` from disk, wait for the audit, then write result.json."""
        journal.phase("finishing", trainer.step)
        data = self.settings.data
        if trainer.best is None:
            raise RunFolderError("the run ended without a scored interval, so there is no best adapter to evaluate")
        trainer.release()  # the processes below load the model for themselves
        for name in ("domain", "heldout"):
            journal.phase("finishing", trainer.step, f"lora-cli evaluate on {name}")
            output = self.paths.tuned(name)
            self._evaluate_apart(journal, name, getattr(data, name), output, ["--singly", str(SINGLE_CLIPS)])
        self.stopping.check_folder()
        write_positions(self.paths)
        audit.finish(journal, self.stopping, trainer.step)
        score_reserve(self.paths, self.runs, self.settings, self.config, partial(self._evaluate_apart, journal))
        self.stopping.check_folder()
        digest = adapter_hash(self.paths.adapter(trainer.best))
        shown = {trainer.best, *map(step_name, trainer.intervals)}
        for name in names(self.paths.root, self.paths.adapters):
            if adapter_step(name) is not None and name not in shown:
                delete(self.paths.root, self.paths.adapters / name)
        best_step = adapter_step(trainer.best)
        written = self.paths.events.stat().st_size
        write_json(
            self.paths.root,
            self.paths.result,
            {
                "schema": 1,
                "outcome": "done",
                "steps_completed": trainer.step,
                "best_step": best_step,
                **({} if trainer.best == step_name(best_step or 0) else {"candidate": trainer.best}),
                "guardrail_kept": trainer.guardrail_kept,
                "adapter_hash": digest,
                "batch_plan": materials.plan.hash,
                "seconds": round(time.monotonic() - self.started, 1),
                "lines": self.config.get("lines"),
                "files": inventory(self.paths),
                "events": {"bytes": written, "sha256": sha256_of_start(self.paths.events, written)},
            },
        )
        # only now: killed before result.json was there, the run goes on from its last checkpoint
        prune_checkpoints(self.paths, 0)

    def _evaluate_apart(self, journal: Journal, name: str, manifest: str, output: Path, options: list[str]) -> None:
        self.stopping.check_folder()
        make(self.paths.root, output.parent)
        delete(self.paths.root, output)
        command = [sys.executable, "-P", "-m", "core.cli", "evaluate", manifest]
        command += ["--model", self.settings.model.id, "--adapter", str(self.paths.best)]
        if self.settings.model.revision:
            command += ["--revision", self.settings.model.revision]
        command += ["--json", str(output), "--dataset", name, "--unit", self.thresholds.unit, *options]
        for _ in range(_EVALUATIONS):
            status = self._evaluated(command, journal)
            if status >= 0:
                break
            # into the log only: a run that was disturbed has the same events as one that was not
            err(f"lora-cli evaluate on data.{name} was killed by signal {-status}")
        if status != 0 or not output.is_file():
            died = (
                f"was killed by signal {-status} {_EVALUATIONS} times"
                if status < 0
                else f"ended with exit code {status}"
            )
            raise UserError(f"lora-cli evaluate on data.{name} {died}; its message is in {self.paths.log}")

    def _evaluated(self, command: list[str], journal: Journal) -> int:
        """The exit status of the command (negative: killed by that signal). Raises Interrupted when asked to stop."""
        ours, theirs = os.pipe()
        environment = os.environ | {PARENT_VARIABLE: str(os.getpid()), PROGRESS_VARIABLE: str(theirs)}
        with (
            os.fdopen(ours, "rb", buffering=0) as told,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, cwd=os.sep, env=environment, pass_fds=(theirs,)
            ) as child,
        ):
            os.close(theirs)
            os.set_blocking(ours, False)
            while child.poll() is None:
                if (progress := newest_progress(told.read(_TOLD_BYTES))) is not None:
                    journal.progress(*progress)
                if self.stopping():
                    end(child, _STOP_S)
                    raise Interrupted("stopped while the best adapter was evaluated; that is made again on resume")
                time.sleep(_POLL_S)
        return child.returncode


def _amount(clips: TrainingSet) -> tuple[float, int]:
    """(seconds, tokens) of all of them."""
    return math.fsum(clips.seconds), sum(map(len, clips.labels))


def _windows(speech: SpeechModel, plan: TrainingPlan) -> str:
    """What the encoder computes over in the largest micro-batch, where that is not the clips' own length."""
    if not speech.facts.windowed:
        return ""
    clips = max(len(micro.train) + len(micro.replay) for step in plan.steps for micro in step)
    seconds = clips * speech.limits.max_seconds
    return f"; at most {clips} clips in a micro-batch, {seconds:g} s of encoder input: train.accumulation divides it"


def _device_name(device: torch.device) -> str:
    return f"cuda ({torch.cuda.get_device_name()})" if device.type == "cuda" else device.type
