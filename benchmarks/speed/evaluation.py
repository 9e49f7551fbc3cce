"""Evaluation beside others that transcribe the same audio, on one thread, in turns, with every transcript compared.

    python -m benchmarks.speed.evaluation MODEL MANIFEST [--clips 60] [--rounds 5] [--before CHECKOUT] [--json FILE]
    python -m benchmarks.speed.evaluation MODEL MANIFEST --growth

Contestants: `lora-cli evaluate`'s own path with the loss, and without it; the pipeline of transformers in batches of
16 and of 1; `Seq2SeqTrainer.predict` with generation, which `evaluate` calls; faster-whisper where the model is a
Whisper and `--ct2` names it converted; and with `--before` another checkout of this project. All hear the same samples,
decoded and normalised before the first turn, and may write as many tokens. The reference is the first contestant clip
by clip. `--growth` has batches of 15 to 240 s, and 10² to 10⁴ utterances, the manifest's clips over again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.speed.turns import (
    Contestant,
    Turn,
    differing,
    in_turns,
    spread,
    table,
    times_as_fast,
    write_json,
)

ROOT = Path(__file__).resolve().parents[2]
_START = """
import sys
sys.path.insert(0, sys.argv[1])
import core  # of this checkout, whatever else is found in the other one
sys.path[0] = sys.argv[2]
from benchmarks.speed.evaluation import work_of
from benchmarks.speed.turns import serve
serve(work_of(*sys.argv[3:]))
"""
BATCH_SECONDS = (15, 30, 60, 120, 240)
UTTERANCES = (100, 1_000, 10_000)
Work = Callable[[], list[str]]


class Material:
    """A model's folder and clips: samples (n,) at 16 kHz, normalised, and texts."""

    def __init__(self, model: str, manifest: str, count: int) -> None:
        from core.audio.cache import SampleCache
        from core.audio.samples import TARGET_RMS, normalise
        from core.manifests.decoding import cached_clips
        from core.manifests.hashing import HashCache
        from core.manifests.manifest import read_manifest

        self.model = model
        found = read_manifest(Path(manifest))
        with tempfile.TemporaryDirectory() as scratch:
            stored = cached_clips(found, SampleCache(Path(scratch)), HashCache(Path(scratch) / "hashes.json"))
            step = max(1, len(stored) // count)
            chosen = range(0, len(stored), step) if count < len(stored) else range(len(stored))
            clips = [normalise(stored[i], TARGET_RMS).samples for i in chosen]
        texts = [found.utterances[i].text for i in chosen]
        self.clips = list(islice(cycle(clips), count))
        self.texts = list(islice(cycle(texts), count))

    @property
    def seconds(self) -> float:
        """Of all clips."""
        return sum(map(len, self.clips)) / 16_000


def work_of(kind: str, model: str, manifest: str, count: str, batch: str) -> Work:
    """What a contestant of this kind does in a turn: all clips, in batches of so many seconds or clips."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    return _KINDS[kind](Material(model, manifest, int(count)), float(batch))


def _ours(material: Material, batch_seconds: float, loss: bool = True) -> Work:
    import torch

    from core.training.evaluation import Decoder
    from core.training.model import load_model

    speech = load_model(material.model, device=torch.device("cpu"), precision="fp32")
    labels = [speech.targets(text) for text in material.texts] if loss else None
    lengths = [len(clip) for clip in material.clips]

    def work() -> list[str]:
        decoder = Decoder(speech, batch_seconds=batch_seconds)
        return decoder.run(lengths, material.clips.__getitem__, labels)[0]

    return work


def _singly(material: Material, _: float) -> Work:
    """Clip by clip: what every batch's transcripts are compared with."""
    import torch

    from core.training.evaluation import Decoder
    from core.training.model import load_model

    speech = load_model(material.model, device=torch.device("cpu"), precision="fp32")
    return lambda: [Decoder(speech).run([len(clip)], [clip].__getitem__)[0][0] for clip in material.clips]


def _loaded(material: Material) -> tuple[Any, Any, int]:
    """Network and processor as transformers alone loads them, and the most tokens that our path may write."""
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    from core.training.model import load_model

    limits = load_model(material.model, precision="fp32").limits
    network = AutoModelForSpeechSeq2Seq.from_pretrained(material.model, dtype="float32").eval()
    network.generation_config.max_length = None
    most = max(limits.tokens(len(clip)) for clip in material.clips)
    return network, AutoProcessor.from_pretrained(material.model), most


def _pipeline(material: Material, size: float) -> Work:
    from transformers import pipeline

    network, processor, most = _loaded(material)
    hear = pipeline(
        "automatic-speech-recognition",
        model=network,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
        device="cpu",
    )

    def work() -> list[str]:
        clips = [{"raw": clip, "sampling_rate": 16_000} for clip in material.clips]
        found = hear(clips, batch_size=int(size), generate_kwargs={"max_new_tokens": most, "num_beams": 1})
        return [one["text"].strip() for one in found]

    return work


def _trainer(material: Material, size: float) -> Work:
    import numpy as np
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    network, processor, most = _loaded(material)
    extractor, tokenizer = processor.feature_extractor, processor.tokenizer
    network.generation_config.max_new_tokens = most
    end = network.generation_config.eos_token_id

    def collate(places: Sequence[dict[str, int]]) -> dict[str, Any]:
        at = [place["at"] for place in places]
        heard = extractor(
            [material.clips[i] for i in at], sampling_rate=16_000, return_tensors="pt", **_padding(extractor)
        )
        labels = [[*tokenizer(material.texts[i], add_special_tokens=False)["input_ids"], end] for i in at]
        longest = max(map(len, labels))
        padded = torch.tensor([ids + [-100] * (longest - len(ids)) for ids in labels])
        return {**heard, "labels": padded}

    arguments = Seq2SeqTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_eval_batch_size=int(size),
        predict_with_generate=True,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(model=network, args=arguments, data_collator=collate)
    data: Any = [{"at": at} for at in range(len(material.clips))]

    def work() -> list[str]:
        ids = trainer.predict(data).predictions
        ids = np.where(ids < 0, tokenizer.pad_token_id, ids)
        return [str(text).strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    return work


def _padding(extractor: Any) -> dict[str, Any]:
    """Whisper pads to its window by itself; others to the longest, with a mask."""
    whisper = "input_features" in extractor.model_input_names
    return {} if whisper else {"padding": True, "return_attention_mask": True}


def _faster_whisper(material: Material, _: float) -> Work:
    from faster_whisper import WhisperModel

    model = WhisperModel(material.model, device="cpu", compute_type="float32", cpu_threads=1)

    def work() -> list[str]:
        texts = []
        for clip in material.clips:
            segments, _ = model.transcribe(
                clip,
                language="en",
                beam_size=1,
                temperature=0.0,
                without_timestamps=True,
                condition_on_previous_text=False,
            )
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    return work


_KINDS: dict[str, Callable[[Material, float], Work]] = {
    "ours": _ours,
    "no loss": lambda material, batch: _ours(material, batch, loss=False),
    "singly": _singly,
    "pipeline": _pipeline,
    "trainer": _trainer,
    "faster-whisper": _faster_whisper,
}


def contestant(name: str, kind: str, args: argparse.Namespace, batch: float, checkout: Path = ROOT) -> Contestant:
    """A process of that kind, on this checkout or another one."""
    model = str(args.ct2 if kind == "faster-whisper" else args.model.resolve())
    given = [str(checkout), str(ROOT), kind, model, str(args.manifest.resolve()), str(args.clips), str(batch)]
    return Contestant(name, [sys.executable, "-c", _START, *given])


def peers(args: argparse.Namespace) -> dict[str, Any]:
    """All contestants in turns: prints the table, gives the figures."""
    ours = f"lora-tui, batches of {args.batch_seconds:g} s, with the loss"
    all_of_them = [
        contestant(ours, "ours", args, args.batch_seconds),
        contestant("lora-tui, without the loss", "no loss", args, args.batch_seconds),
        contestant("pipeline, batches of 16", "pipeline", args, 16),
        contestant("Seq2SeqTrainer with generation, batches of 16", "trainer", args, 16),
        contestant("pipeline, clip by clip", "pipeline", args, 1),
    ]
    if args.before:
        all_of_them.insert(1, contestant("lora-tui before", "ours", args, args.batch_seconds, args.before.resolve()))
    if args.ct2:
        all_of_them.append(contestant("faster-whisper, float32", "faster-whisper", args, 1))
    if args.only:
        all_of_them = all_of_them[:1] + [one for one in all_of_them[1:] if args.only in one.name]
    with contestant("clip by clip", "singly", args, 1) as alone:
        reference = alone.turn().outcome
    turns = in_turns(all_of_them, args.rounds)
    seconds = Material(str(args.model), str(args.manifest), args.clips).seconds
    print(f"{args.clips} clips, {seconds:.0f} s of audio; CPU time of one thread, {args.rounds} rounds in turns\n")
    rows = []
    for name, of_it in turns.items():
        rate = spread([seconds / turn.cpu_s for turn in of_it])
        other = differing(reference, of_it[0].outcome)
        rows.append(
            (name, f"{rate.median:.0f}", times_as_fast(turns[ours], of_it), other, f"{_peak(of_it) / 2**20:.0f}")
        )
    print(table(("", "audio s/s", "our time is less by ×", "transcripts that are not batch 1's", "peak MiB"), rows))
    return {"audio_s": seconds, "reference": reference, "turns": {name: _plain(t) for name, t in turns.items()}}


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Time and memory against batch seconds and numbers of utterances."""
    found: dict[str, Any] = {}
    rows = []
    cases = [(args.clips, batch) for batch in BATCH_SECONDS] + [(count, args.batch_seconds) for count in UTTERANCES]
    for count, batch in cases:
        given = argparse.Namespace(**vars(args) | {"clips": count})
        seconds = Material(str(args.model), str(args.manifest), count).seconds
        name = f"{count} utterances, batches of {batch:g} s"
        large = count > 500
        turns = in_turns([contestant(name, "ours", given, batch)], 1 if large else args.rounds, warm=not large)[name]
        rate = spread([seconds / turn.cpu_s for turn in turns])
        rows.append((name, f"{rate.median:.0f} ({rate.least:.0f}–{rate.most:.0f})", f"{_peak(turns) / 2**20:.0f}"))
        found[name] = {"audio_s": seconds, "turns": _plain(turns)}
    print(table(("", "audio s/s", "peak MiB"), rows))
    return found


def _peak(turns: Sequence[Turn]) -> int:
    return max(turn.peak_bytes for turn in turns)


def _plain(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [
        {"cpu_s": turn.cpu_s, "wall_s": turn.wall_s, "peak_bytes": turn.peak_bytes, "outcome": turn.outcome}
        for turn in turns
    ]


def main() -> None:
    """Parse the command line, measure, print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--ct2", type=Path, help="the same Whisper as CTranslate2 has it, for faster-whisper")
    parser.add_argument("--only", metavar="WORD", help="of the others those whose name has this word")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = growth(args) if args.growth else peers(args)
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
