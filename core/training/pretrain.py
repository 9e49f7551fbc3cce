"""Train a small Moonshine from scratch on a manifest: the recipe of `data/base_model`.

    python -m core.training.pretrain data/base_manifest.jsonl -o data/base_model --evaluate data/heldout_manifest.jsonl

A decoder alone does not learn to align at this size; a CTC head on the encoder, thrown away afterwards, makes it.
Resumable: run the same command again. The result is a folder in hub format that plain transformers loads.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.audio.cache import ClipStore, SampleCache
from core.audio.samples import SAMPLE_RATE_HZ, normalise
from core.audio.sound_file import Samples
from core.errors import UserError
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache
from core.manifests.manifest import Manifest, read_manifest
from core.system.files import write_json
from core.training.batching import training_plan
from core.training.families.base import SpeechModel
from core.training.families.moonshine import encoder_frames
from core.training.loss import pad_targets
from core.training.model import load_model
from core.user_paths import user_path

SPECIALS = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes the result. Sizes are Moonshine config fields."""

    vocabulary: int = 256
    hidden: int = 128
    intermediate: int = 384
    encoder_layers: int = 4
    decoder_layers: int = 3
    heads: int = 4
    steps: int = 6000
    batch_seconds: float = 56.0
    learning_rate: float = 1.5e-3
    warmup_steps: int = 300
    weight_decay: float = 0.01
    ctc_weight: float = 0.5
    augment_from: float = 0.24
    """After this share of the training (alignment is learnt on plain clips) each clip is played faster or slower, which
    shifts its pitch too, and gets noise: so that voices that were never heard are understood."""
    speed_range: float = 0.14
    noise_snr_db: float = 12.0
    """The loudest noise; each clip's is drawn between this and 30 dB less."""
    average_from: float = 0.9
    """The saved weights are the mean over the steps after this share of the training."""
    seed: int = 0


def train_tokenizer(texts: list[str], size: int) -> Any:
    """A BPE of `size` ids over word pieces with ▁, in transformers' fast format; ids 0, 1, 2 are the specials."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def write_untrained(folder: Path, tokenizer: Any, recipe: Recipe) -> None:
    """A randomly initialised Moonshine of the recipe's size, with its processor, in hub format."""
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    torch.manual_seed(recipe.seed)
    config = MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        encoder_num_hidden_layers=recipe.encoder_layers,
        decoder_num_hidden_layers=recipe.decoder_layers,
        encoder_num_attention_heads=recipe.heads,
        decoder_num_attention_heads=recipe.heads,
        encoder_num_key_value_heads=recipe.heads,
        decoder_num_key_value_heads=recipe.heads,
        max_position_embeddings=194,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        decoder_start_token_id=1,
    )
    network = MoonshineForConditionalGeneration(config)
    network.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, do_normalize=False, return_attention_mask=True
    )
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


class Pretrainer:
    """The training loop with its CTC head; `run` ends with the folder written."""

    def __init__(self, manifest: Manifest, clips: ClipStore, folder: Path, recipe: Recipe) -> None:
        self.manifest, self.clips, self.folder, self.recipe = manifest, clips, folder, recipe
        self.work = folder.with_name(folder.name + ".work")
        if not (self.work / "start" / "config.json").is_file():
            tokenizer = train_tokenizer([u.text for u in manifest.utterances], recipe.vocabulary)
            write_untrained(self.work / "start", tokenizer, recipe)
        self.speech: SpeechModel = load_model(str(self.work / "start"), device=torch.device("cpu"))
        self.network = self.speech.network
        self.network.requires_grad_(True).train()
        self.labels = [self.speech.targets(u.text) for u in manifest.utterances]
        self.blank = self.network.config.vocab_size
        torch.manual_seed(recipe.seed + 1)
        self.ctc = nn.Linear(self.network.config.hidden_size, self.blank + 1)
        self.parameters = {
            **{f"network.{n}": p for n, p in self.network.named_parameters()},
            **{f"ctc.{n}": p for n, p in self.ctc.named_parameters()},
        }
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self.mean: dict[str, Tensor] = {}
        self.step = 0
        self.random = np.random.default_rng(recipe.seed)
        self._resume()

    def _heard(self, clip: Samples) -> Samples:
        """The clip, or once augmentation has begun, the clip at another speed and with noise."""
        if self.step < self.recipe.steps * self.recipe.augment_from:
            return clip
        speed = self.random.uniform(1 - self.recipe.speed_range, 1 + self.recipe.speed_range)
        places = np.arange(0, len(clip) - 1, speed)
        faster = np.interp(places, np.arange(len(clip)), clip)
        snr_db = self.recipe.noise_snr_db + self.random.uniform(0, 30)
        level = np.sqrt(np.mean(np.square(faster))) * 10 ** (-snr_db / 20)
        noisy: Samples = (faster + level * self.random.standard_normal(len(faster))).astype(np.float32)
        return noisy

    def rate(self, step: int) -> float:
        """Linear warm-up, cosine to 1 % of the peak."""
        recipe = self.recipe
        if step <= recipe.warmup_steps:
            return recipe.learning_rate * step / recipe.warmup_steps
        done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
        return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def losses(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Mean decoder and CTC loss per target token of one batch."""
        speech = self.speech
        clips = [normalise(self._heard(self.clips[i])).samples for i in indices]
        labels = [self.labels[i] for i in indices]
        features = speech.features(clips)
        encoded = speech.encode(features)
        total = speech.summed_loss(encoded, labels)
        tokens = sum(map(len, labels))
        _, targets, lengths = pad_targets(labels, encoded.prompts, 0)
        ctc = nn.functional.ctc_loss(
            self.ctc(encoded.outputs.last_hidden_state).float().log_softmax(-1).transpose(0, 1),
            targets,
            encoder_frames(features["attention_mask"].sum(-1)),
            lengths - 1,
            blank=self.blank,
            reduction="sum",
            zero_infinity=True,
        )
        return total / tokens, ctc / tokens

    def run(self) -> None:
        """Train what is left, then write the averaged model."""
        recipe = self.recipe
        seconds = self.clips.lengths / SAMPLE_RATE_HZ
        plan = training_plan(
            seconds,
            [],
            steps=recipe.steps,
            accumulation=1,
            train_seconds_per_step=recipe.batch_seconds,
            replay_share=0.0,
            seed=recipe.seed,
        )
        started, first = time.monotonic(), self.step
        sums = np.zeros(2)
        while self.step < recipe.steps:
            step = self.step + 1
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate(step)
            # drawn by the step's number, so that a resumed training draws the same
            self.random = np.random.default_rng([recipe.seed, step])
            decoder, ctc = self.losses(list(plan.steps[step - 1][0].train))
            ((1 - recipe.ctc_weight) * decoder + recipe.ctc_weight * ctc).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.step = step
            self._average()
            sums += (decoder.item(), ctc.item())
            if step % 50 == 0:
                pace = (time.monotonic() - started) / (step - first)
                print(
                    f"step {step}/{recipe.steps}  loss {sums[0] / 50:.4f}  ctc {sums[1] / 50:.4f}  "
                    f"{pace:.2f} s/step  {pace * (recipe.steps - step) / 60:.1f} min left",
                    file=sys.stderr,
                    flush=True,
                )
                sums[:] = 0
            if step % 250 == 0 or step == recipe.steps:
                self._save()
        self._write()

    def _average(self) -> None:
        first = int(self.recipe.steps * self.recipe.average_from)
        if self.step <= first:
            return
        count = self.step - first
        for name, parameter in self.parameters.items():
            mean = self.mean.setdefault(name, torch.zeros_like(parameter))
            mean += (parameter.detach() - mean) / count

    def _save(self) -> None:
        state = {f"weight/{n}": p.detach() for n, p in self.parameters.items()}
        state |= {f"mean/{n}": t for n, t in self.mean.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state[parameter].items():
                state[f"optimiser/{key}/{name}"] = value.detach().clone()
        temporary = self.work / "state.tmp"
        save_file(state, temporary, metadata={"step": str(self.step), "recipe": json.dumps(asdict(self.recipe))})
        temporary.replace(self.work / "state.safetensors")

    def _resume(self) -> None:
        path = self.work / "state.safetensors"
        if not path.is_file():
            return
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        if json.loads(metadata["recipe"]) != asdict(self.recipe):
            raise UserError(f"{self.work}: holds another recipe's training; delete that folder or give another -o")
        state = load_file(path)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[f"weight/{name}"])
                self.optimiser.state[parameter] = {
                    key: state[f"optimiser/{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.mean = {n[5:]: t for n, t in state.items() if n.startswith("mean/")}
        self.step = int(metadata["step"])
        print(f"going on from step {self.step}", file=sys.stderr)

    def _write(self) -> None:
        with torch.no_grad():
            for name, mean in self.mean.items():
                self.parameters[name].copy_(mean)
        self.network.eval().save_pretrained(self.folder)
        self.speech.processor.save_pretrained(self.folder)
        write_json(self.folder / "recipe.json", asdict(self.recipe) | {"utterances": len(self.manifest.utterances)})


def main(argv: list[str] | None = None) -> int:
    """The command `python -m core.training.pretrain`; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m core.training.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=user_path, help="manifest of the training speech")
    parser.add_argument("-o", "--output", type=user_path, required=True, help="folder to write")
    parser.add_argument(
        "--evaluate", type=user_path, action="append", default=[], help="manifest to score the result on"
    )
    parser.add_argument("--cache", type=user_path, default=Path("runs/cache"), help="folder for decoded audio")
    parser.add_argument("--keep-work", action="store_true", help="keep the resumable state after the end")
    defaults = Recipe()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        recipe = Recipe(**{name: getattr(args, name) for name in asdict(defaults)})
        hashes = HashCache(args.cache / "hashes.json")
        cache = SampleCache(args.cache / "audio")
        manifest = read_manifest(args.manifest)
        trainer = Pretrainer(manifest, cached_clips(manifest, cache, hashes), args.output, recipe)
        trainer.run()
        for path in args.evaluate:
            _report(args.output, read_manifest(path), cache, hashes)
        if not args.keep_work:
            shutil.rmtree(trainer.work)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return 0


def _report(folder: Path, manifest: Manifest, cache: SampleCache, hashes: HashCache) -> None:
    from core.training.evaluation import evaluate

    score = evaluate(load_model(str(folder)), manifest, cached_clips(manifest, cache, hashes))
    print(f"{manifest.path}: WER {score.counts.wer_percent:.2f} %  loss {score.loss:.4f}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
