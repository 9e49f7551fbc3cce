"""What tests of training need: made-up speech, tiny models of the true architectures, run folders, real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from forked_trainer import run_and_end, use_warm_lora_cli
from numpy.typing import NDArray

from core.audio.cache import ClipStore, SampleCache
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache
from core.manifests.manifest import Manifest, read_manifest
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.runs.adapter_files import AdapterFacts
from core.runs.events import Final, Record, Step, decode
from core.runs.paths import RunPaths
from core.runs.resolve import resolve
from core.runs.snapshot import RunSnapshot
from core.runs.state_folder import runs_folder
from core.runs.store import read_run
from core.system.files import write_json

RATE = 16_000
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
Samples = NDArray[np.float32]
WHISPER_LANGUAGES = ("en", "zh", "de")
"""In the order of its vocabulary."""
FAMILIES = ["tiny_moonshine", "tiny_whisper", "tiny_streaming"]
"""Fixtures with a random model of each family that `core.training` knows."""


def speechlike(text: str, seed: int = 0, level: float = 0.05) -> Samples:
    """A clip (samples,) that has the shape of speech: a harmonic burst for each word, pauses, a little noise."""
    random = np.random.default_rng([seed, *text.encode()])
    parts = [np.zeros(RATE // 20)]
    for word in text.split():
        time_s = np.arange(int(RATE * (0.12 + 0.02 * len(word)))) / RATE
        pitch_hz = 90 + 20 * (sum(word.encode()) % 11) + 10 * random.random()
        voice = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 8))
        parts += [voice * np.sin(np.pi * time_s / time_s[-1]), np.zeros(RATE // 20)]
    clip = np.concatenate(parts)
    clip = clip / (np.sqrt(np.mean(clip**2)) or 1.0) * level + random.normal(0, level / 50, len(clip))
    return clip.astype(np.float32)


def adapter_facts() -> AdapterFacts:
    """What an adapter that a test saves says of how it was made."""
    from core.training.evaluation import normalisation_fingerprint  # with torch, which not every test needs

    return AdapterFacts(
        step=7,
        identity="0123456789",
        model="the/model",
        revision=None,
        model_hash="ab" * 32,
        target_rms=0.075,
        normaliser="basic",
        fingerprint=normalisation_fingerprint(0.075, "basic"),
        tokens_per_second=200.0,
        eval_batch_seconds=40.0,
        precision="fp32",
        threads=1,
    )


def digit_texts(count: int, seed: int, words: int = 4) -> list[str]:
    """Different texts, 1 … `words` words long."""
    random = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(random.choice(WORDS, random.integers(1, words + 1)))] = None
    return list(texts)


def write_wav(path: Path, samples: Samples, rate_hz: int = RATE, channels: int = 1) -> Path:
    """16-bit PCM; several channels carry the same samples."""
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        data = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        file.writeframes(np.repeat(data, channels).tobytes())
    return path


def write_set(folder: Path, name: str, clips: Sequence[tuple[Samples, str]]) -> Path:
    """A manifest `name`.jsonl in `folder` with its audio beside it."""
    audio = folder / name
    audio.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (samples, text) in enumerate(clips):
        write_wav(audio / f"{number:03}.wav", samples)
        lines.append({"audio_filepath": f"{name}/{number:03}.wav", "text": text, "duration": len(samples) / RATE})
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def made_up_set(folder: Path, name: str, count: int, seed: int) -> Path:
    """`write_set` of speechlike digits."""
    return write_set(folder, name, [(speechlike(text, seed), text) for text in digit_texts(count, seed)])


def subset(source: Path, target: Path, count: int) -> Path:
    """`count` lines of a manifest, evenly spread, with absolute audio paths."""
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    chosen = [lines[int(i)] for i in np.linspace(0, len(lines) - 1, count)]
    absolute = [line | {"audio_filepath": str(source.parent / line["audio_filepath"])} for line in chosen]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(line) + "\n" for line in absolute))
    return target


def opened(manifest: Path, cache: Path) -> tuple[Manifest, ClipStore]:
    """A manifest and its decoded clips."""
    read = read_manifest(manifest)
    return read, cached_clips(read, SampleCache(cache), HashCache(cache / "hashes.json"))


def quiet_transformers() -> None:
    """No progress bars while models are made."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def tiny_moonshine(folder: Path) -> Path:
    """A random Moonshine of 50 000 weights, in hub format."""
    from core.training.pretrain import Recipe, train_tokenizer, write_untrained

    quiet_transformers()
    sizes = Recipe(hidden=32, intermediate=64, encoder_layers=1, decoder_layers=1, heads=2)
    write_untrained(folder, train_tokenizer(digit_texts(60, 0), 60), sizes)
    return folder


def tiny_streaming(folder: Path) -> Path:
    """A random streaming Moonshine, in hub format; its two layers look 4 and 0 frames ahead."""
    import torch
    from transformers import (
        MoonshineStreamingConfig,
        MoonshineStreamingForConditionalGeneration,
        MoonshineStreamingProcessor,
        Wav2Vec2FeatureExtractor,
    )

    from core.training.pretrain import train_tokenizer

    quiet_transformers()
    tokenizer = train_tokenizer(digit_texts(60, 0), 60)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    config = MoonshineStreamingConfig(
        encoder_config=sizes | {"num_hidden_layers": 2, "sliding_windows": [[16, 4], [16, 0]]},
        num_hidden_layers=1,
        max_position_embeddings=2048,
        vocab_size=len(tokenizer),
        decoder_start_token_id=1,
        **sizes,
    )
    MoonshineStreamingForConditionalGeneration(config).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=RATE, do_normalize=False)
    MoonshineStreamingProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def tiny_whisper(folder: Path, window_s: int = 30) -> Path:
    """A random Whisper with 80 mel bins, its special tokens and its suppressed ones, in hub format."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    quiet_transformers()
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    pieces.train_from_iterator(digit_texts(60, 0), trainer)
    end, *others = ["endoftext", "startoftranscript", *WHISPER_LANGUAGES, "transcribe", "translate", "notimestamps"]
    tokenizer = WhisperTokenizerFast(
        vocab=pieces.get_vocab(),
        merges=[tuple(pair) for pair in json.loads(pieces.to_str())["model"]["merges"]],
        **dict.fromkeys(("unk_token", "bos_token", "eos_token"), f"<|{end}|>"),
        additional_special_tokens=[f"<|{name}|>" for name in others],
        language="english",
        task="transcribe",
    )
    end_id, start_id = tokenizer.convert_tokens_to_ids([f"<|{end}|>", "<|startoftranscript|>"])
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        max_source_positions=50 * window_s,
        d_model=32,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_id),
        decoder_start_token_id=start_id,
    )
    network = WhisperForConditionalGeneration(config)
    network.generation_config.suppress_tokens = [5, 6]
    network.generation_config.begin_suppress_tokens = [tokenizer.encode(" ", add_special_tokens=False)[0], end_id]
    network.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80, chunk_length=window_s), tokenizer).save_pretrained(folder)
    return folder


def multilingual(whisper: Path, folder: Path) -> Path:
    """A copy of `tiny_whisper` whose generation config lists languages and tasks, as OpenAI's multilingual ones do."""
    from transformers import AutoTokenizer

    shutil.copytree(whisper, folder)
    tokenizer = AutoTokenizer.from_pretrained(whisper)
    listed = {
        "is_multilingual": True,
        "lang_to_id": {f"<|{one}|>": tokenizer.convert_tokens_to_ids(f"<|{one}|>") for one in WHISPER_LANGUAGES},
        "task_to_id": {one: tokenizer.convert_tokens_to_ids(f"<|{one}|>") for one in ("transcribe", "translate")},
        "no_timestamps_token_id": tokenizer.convert_tokens_to_ids("<|notimestamps|>"),
        "return_timestamps": False,
    }
    path = folder / "generation_config.json"
    written = {k: v for k, v in json.loads(path.read_text()).items() if k != "_from_model_config"}
    path.write_text(json.dumps(written | listed))
    settings = folder / "tokenizer_config.json"
    plain = {k: v for k, v in json.loads(settings.read_text()).items() if k not in ("language", "task")}
    settings.write_text(json.dumps(plain))
    return folder


def odd_clips() -> list[tuple[Samples, str]]:
    """Clips that no one should train on, and one that is too long for `data.max_seconds = 4`."""
    silence = np.zeros(RATE, dtype=np.float32)
    return [
        (silence, "silent clip"),
        (speechlike("one two"), ""),
        (np.tile(speechlike("one two three four"), 4)[: RATE * 5], "one two three four"),
        (speechlike("seven"), "seven " * 200),
    ]


QUICK = (
    "train.steps=8",
    "train.eval_every=2",
    "train.checkpoint_every=3",
    "train.accumulation=2",
    "train.batch_seconds=12",
    "train.replay_share=0.4",
    "train.learning_rate=0.02",
    "train.allow_high_learning_rate=true",
    "train.eval_batch_seconds=10",
    "data.max_seconds=4",
    "adapter.rank=4",
    "adapter.dropout=0.1",
    'adapter.target_modules=["q_proj", "v_proj", "fc1"]',
    "gate.stability_min_steps=0",
)
"""A run of a second on a tiny model, with all that can make a resumed run differ: dropout, accumulation, replay."""


def quick_sets(folder: Path) -> dict[str, Path]:
    """Manifests for `QUICK`: odd clips in train; in domain silence, an empty text and audio beyond 30 s."""
    train = [(speechlike(text, 1), text) for text in digit_texts(12, 1)]
    domain = [(speechlike(text, 2), text) for text in digit_texts(6, 2)]
    long = np.concatenate([speechlike("nine eight seven six", seed) for seed in range(40)])[: 31 * RATE]
    odd = [(np.zeros(RATE, dtype=np.float32), "nothing"), (speechlike("two"), ""), (long, "nine eight seven six")]
    return {
        "train": write_set(folder, "train", train + odd_clips()),
        "replay": made_up_set(folder, "replay", 8, 3),
        "domain": write_set(folder, "domain", domain + odd),
        "heldout": made_up_set(folder, "heldout", 6, 4),
    }


class TrainingRun:
    """A run folder as the queue makes it, and trainers on it."""

    def __init__(
        self, root: Path, model: Path, sets: dict[str, Path], *settings: str, runs: Path | None = None
    ) -> None:
        """`settings` are as for `--set`: `train.steps=8`. `sets` maps train, replay, … to manifests."""
        root.mkdir(parents=True, exist_ok=True)
        self.plan = root / "plan.toml"
        data = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in sets.items())
        self.plan.write_text(f'[model]\nid = {json.dumps(str(model))}\n[data]\n{data}[[experiment]]\nid = "t"\n')
        plan = parse_plan(self.plan.read_text(), str(self.plan), ["train.threads=1", *settings])
        self.folder = runs_folder(runs or root / "runs")
        resolved = resolve(plan, expand(plan)[0].settings, HashCache(self.folder.hash_cache))
        self.paths: RunPaths = self.folder.run("t", resolved.identity)
        self.config: dict[str, Any] = {
            "schema": 1,
            "experiment": "t",
            "title": "",
            "identity": resolved.identity,
            "settings": asdict(resolved.settings),
            "hashes": resolved.hashes,
            "lines": resolved.lines,
            "plan": str(self.plan),
            "gate": asdict(plan.gate),
            "provenance": {},
        }
        self.write()

    def write(self) -> None:
        """Write run.json."""
        write_json(self.paths.config, self.config)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """The trainer as the queue starts it, with more in its environment if need be."""
        with self.paths.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "core.training", str(self.paths.root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            )

    def fork(self, prepare: Callable[[], None] = lambda: None) -> int:
        """The trainer as a process of its own that did its imports already; its wait status.

        `prepare` runs in that process, before the trainer begins.
        """
        from core.training.__main__ import main
        from core.training.evaluation import normalisation_fingerprint

        data = self.config["settings"]["data"]
        normalisation_fingerprint(data["target_rms"], data["normaliser"])  # once for all that are forked
        self.paths.root.mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if pid == 0:

            def attempt() -> int:
                use_warm_lora_cli()
                prepare()
                return main([str(self.paths.root)])

            run_and_end(self.paths.log, attempt)
        return os.waitpid(pid, 0)[1]

    def trained(self) -> TrainingRun:
        """This run, after a trainer that came to its end."""
        import torch

        torch.set_num_threads(1)
        assert self.fork() == 0, self.log
        return self

    @property
    def records(self) -> list[Record]:
        """Every event in the file."""
        lines = self.paths.events.read_text().split("\n")
        assert lines.pop() == "", "the last line is torn"
        records = [decode(line) for line in lines]
        assert all(record is not None for record in records), "a line is no event"
        return [record for record in records if record is not None]

    @property
    def snapshot(self) -> RunSnapshot:
        return read_run(self.paths)

    @property
    def final(self) -> Final:
        """The last word of the newest attempt."""
        event = self.records[-1].event
        assert isinstance(event, Final), f"no final event but {event}\n{self.log}"
        return event

    @property
    def log(self) -> str:
        return self.paths.log.read_text() if self.paths.log.is_file() else ""

    def result(self) -> dict[str, bytes | str]:
        """Everything that two runs of one identity must share, byte for byte."""
        found: dict[str, bytes | str] = {}
        for folder in (self.paths.evals, self.paths.adapters):
            for path in sorted(folder.rglob("*")):
                # what a face keeps there was not written by a trainer
                if path.is_file() and not path.name.startswith("significance-"):
                    found[str(path.relative_to(self.paths.root))] = path.read_bytes()
        for link in (self.paths.best, self.paths.last):
            found[link.name] = str(link.readlink())
        result = json.loads(self.paths.result.read_text())
        found["result.json"] = json.dumps({k: v for k, v in result.items() if k not in ("seconds", "events")})
        return found

    def history(self) -> dict[str, Any]:
        """The folded events, without times and durations."""
        snapshot = self.snapshot
        steps = snapshot.steps
        columns = ("step", "loss", "learning_rate", "grad_norm", "tokens", "audio_s")
        return {name: getattr(steps, name).tolist() for name in columns} | {
            "intervals": snapshot.intervals,
            "candidates": snapshot.candidates,
            "adapters": snapshot.adapters,
            "checkpoints": snapshot.checkpoints,
            "notices": snapshot.notices,
        }


def in_process_trainer(run: TrainingRun) -> Any:
    """The `Trainer` of a run in this process, as its session makes it, before step 1. Stays at one thread."""
    from core.training.adapter import attach
    from core.training.evaluation import Scorer
    from core.training.journal import Journal
    from core.training.memory import save_memory
    from core.training.session import Session
    from core.training.stopping import StopFlag
    from core.training.trainer import Trainer

    stop = StopFlag()
    session = Session(run.paths, run.config, stop)
    journal = Journal(run.paths.events, session.attempt)
    speech, materials = session._materials(session._speech(), journal)
    scorer = Scorer(session.settings, journal, stop)
    facts = session._facts(speech)
    speech = attach(speech, session.settings.adapter, session.settings.train.seed)
    save_memory(speech, session.settings.train)
    return Trainer(run.paths, session.settings, speech, materials, facts, session.thresholds, journal, scorer)


def stepped(trainer: Any, *numbers: int) -> list[Step]:
    """The events of these steps."""
    events: list[Any] = []
    trainer.journal.emit = events.append
    for number in numbers:
        trainer._one_step(number)
    return [event for event in events if isinstance(event, Step)]
