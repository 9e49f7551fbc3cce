"""Training steps beside others that train the same adapter on the same clips, on one thread, in turns.

    python -m benchmarks.speed.steps MODEL TRAIN REPLAY [--rounds 5] [--method dora] [--before CHECKOUT] [--json FILE]
    python -m benchmarks.speed.steps MODEL TRAIN REPLAY --profile

A turn is `--steps` optimiser steps over one list of clips: those of the first steps of this project's batch plan. The
peers are transformers' Seq2SeqTrainer with peft as most people write it, features extracted before, batches drawn at
random; the same with clips of like lengths in a batch, as `group_by_length` has them; and with `--before` another
checkout of this project. Batches of the peers have as many clips as ours on average. `--profile` says what a step of
ours spends its time on, and its floor: the floating-point operations of the products and convolutions that transformers
and peft compute for it (attention is not counted), at the rate that products of its kind reach here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.speed.turns import Contestant, Turn, in_turns, spread, table, times_as_fast, write_json

ROOT = Path(__file__).resolve().parents[2]
_START = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import core, training_kit  # of this checkout, whatever else is found in the other one
sys.path[0] = sys.argv[2]
from benchmarks.speed.steps import work_of
from benchmarks.speed.turns import serve
serve(work_of(*sys.argv[3:]))
"""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
RANK, ALPHA, RATE = 16, 8, 1e-4
Work = Callable[[], dict[str, Any]]


def trainer_of(model: Path, train: Path, replay: Path, steps: int, settings: Sequence[str], folder: Path) -> Any:
    """This checkout's trainer before its first step, with the adapter that the peers have."""
    import torch
    from training_kit import TrainingRun, in_process_trainer

    torch.set_num_threads(1)
    os.environ.setdefault("LORA_TUI_STATE", str(folder / "state"))
    sets = {"train": train, "replay": replay, "domain": train, "heldout": replay}
    plan = (
        f"train.steps={steps}",
        f"train.learning_rate={RATE}",
        f"adapter.rank={RANK}",
        f"adapter.alpha={ALPHA}",
        f"adapter.target_modules={list(TARGETS)}".replace("'", '"'),
        *settings,
    )
    return in_process_trainer(TrainingRun(folder, model, sets, *plan))


def clips_of(trainer: Any, steps: int) -> tuple[list[Any], list[list[int]]]:
    """Normalised clips and targets of the first steps."""
    from core.audio.samples import normalise

    clips, targets = [], []
    for step in trainer.materials.plan.steps[:steps]:
        for micro in step:
            for source, i in trainer._parts(micro):
                clips.append(normalise(source.clips[source.indices[i]], 0.075).samples)
                targets.append(source.labels[i])
    return clips, targets


def work_of(kind: str, model: str, material: str, method: str, steps: str, *more: str) -> Work:
    """What a contestant of this kind does in a turn. `material`: the clips' file, or (ours) train and replay."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    begun = time.process_time()
    made = (_ours if kind == "ours" else _peer)(kind, model, material, method, int(steps), *more)
    first: list[float] = []

    def work() -> dict[str, Any]:
        found = made()
        first.append(time.process_time())
        return found | {"first_turn_cpu_s": first[0], "loading_cpu_s": begun}

    return work


def _ours(kind: str, model: str, material: str, method: str, steps: int, *settings: str) -> Work:
    from core.runs.events import Step

    folder = Path(tempfile.mkdtemp())
    train, replay = map(Path, material.split(":"))
    trainer = trainer_of(Path(model), train, replay, 40, (f"adapter.method={method}", *settings), folder)
    losses: list[float] = []
    trainer.journal.emit = lambda event: losses.append(event.loss) if isinstance(event, Step) else None

    def work() -> dict[str, Any]:
        losses.clear()
        for step in range(1, steps + 1):
            trainer._one_step(step)
        return {"losses": list(losses)}

    return work


def _peer(kind: str, model: str, material: str, method: str, steps: int) -> Work:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, Seq2SeqTrainer, Seq2SeqTrainingArguments

    torch.set_num_threads(1)
    stored = np.load(material, allow_pickle=True)
    processor = AutoProcessor.from_pretrained(model)
    extractor = processor.feature_extractor
    name = extractor.model_input_names[0]
    rows: list[dict[str, Any]] = []
    for clip, ids in zip(stored["clips"], stored["targets"], strict=True):
        heard = extractor(clip, sampling_rate=16_000)[name][0]
        rows.append({name: heard, "labels": list(ids)})

    if kind == "grouped":
        # what group_by_length comes to on a large set: of one as small as a turn's it would make one group
        rows.sort(key=lambda row: len(row[name].reshape(-1)))

    def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        more = {"return_attention_mask": True} if name == "input_values" else {}
        features = extractor.pad([{name: row[name]} for row in batch], return_tensors="pt", padding=True, **more)
        longest = max(len(row["labels"]) for row in batch)
        labels = [row["labels"] + [-100] * (longest - len(row["labels"])) for row in batch]
        return {**features, "labels": torch.tensor(labels)}

    network = AutoModelForSpeechSeq2Seq.from_pretrained(model, dtype="float32")
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), use_dora=method == "dora")
    arguments = Seq2SeqTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=-(-len(rows) // steps),
        num_train_epochs=1,
        learning_rate=RATE,
        train_sampling_strategy="sequential" if kind == "grouped" else "random",
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model=get_peft_model(network, config),
        args=arguments,
        data_collator=collate,
        train_dataset=rows,
        processing_class=extractor,
    )
    return lambda: {"losses": [float(trainer.train().training_loss)]}


def contestant(
    name: str, kind: str, args: argparse.Namespace, material: str, method: str, checkout: Path
) -> Contestant:
    """A process of that kind, on this checkout or another one."""
    more = args.set if kind == "ours" else []
    given = [str(checkout), str(ROOT), kind, str(args.model.resolve()), material, method, str(args.steps), *more]
    return Contestant(name, [sys.executable, "-c", _START, *given])


def compared(args: argparse.Namespace) -> dict[str, Any]:
    """All contestants in turns: prints the table, gives the figures."""
    sys.path.insert(0, str(ROOT / "tests"))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(args.model, args.train, args.replay, 40, args.set, Path(scratch) / "run")
        clips, targets = clips_of(trainer, args.steps)
        stored = Path(scratch) / "clips.npz"
        np.savez(stored, clips=_ragged(clips), targets=_ragged(targets))
        manifests = f"{args.train.resolve()}:{args.replay.resolve()}"
        ours = f"lora-tui, {args.method}"
        other = "lora" if args.method == "dora" else "dora"
        entered = [
            contestant(ours, "ours", args, manifests, args.method, ROOT),
            contestant(f"lora-tui, {other}", "ours", args, manifests, other, ROOT),
            contestant("Seq2SeqTrainer + peft", "random", args, str(stored), args.method, ROOT),
            contestant("the same, grouped by length", "grouped", args, str(stored), args.method, ROOT),
        ]
        if args.before:
            before = args.before.resolve()
            entered.insert(1, contestant("lora-tui before", "ours", args, manifests, args.method, before))
        turns = in_turns(entered, args.rounds)
    seconds = sum(map(len, clips)) / 16_000
    print(f"{args.model}: {args.steps} steps over {len(clips)} clips, {seconds:.0f} s of audio, {args.method}")
    print(f"CPU time of one thread, {args.rounds} rounds in turns\n")
    rows = []
    for name, of_it in turns.items():
        step = spread([turn.cpu_s / args.steps * 1000 for turn in of_it])
        mib = max(turn.peak_bytes for turn in of_it) / 2**20
        begun = of_it[0].outcome["first_turn_cpu_s"] - of_it[0].outcome["loading_cpu_s"]
        figures = (f"{step.median:.0f} ({step.least:.0f}–{step.most:.0f})", times_as_fast(turns[ours], of_it))
        rows.append((name, *figures, f"{begun:.1f}", f"{mib:.0f}"))
    print(table(("", "ms a step", "ours is faster by ×", "to the end of the first turn, s", "peak MiB"), rows))
    return {"audio_s": seconds, "clips": len(clips), "turns": {name: _plain(of_it) for name, of_it in turns.items()}}


def _ragged(rows: Sequence[Any]) -> Any:
    made = np.empty(len(rows), dtype=object)
    made[:] = [np.asarray(row) for row in rows]
    return made


def _plain(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [
        {"cpu_s": turn.cpu_s, "wall_s": turn.wall_s, "peak_bytes": turn.peak_bytes, "outcome": turn.outcome}
        for turn in turns
    ]


def profiled(args: argparse.Namespace) -> dict[str, Any]:
    """What a step of ours takes, on what, and the least that its products take: prints them, gives the figures."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from core.training import products
    from core.training.families import moonshine_steps

    sys.path.insert(0, str(ROOT / "tests"))
    settings = (f"adapter.method={args.method}", *args.set)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(args.model, args.train, args.replay, 40, settings, Path(scratch) / "run")
        trainer.journal.emit = lambda event: None
        steps = range(1, args.steps + 1)
        for step in steps:
            trainer._one_step(step)
        before = time.process_time()
        for step in steps:
            trainer._one_step(step)
        cpu_s = (time.process_time() - before) / args.steps
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for step in steps:
                trainer._one_step(step)
        with ExitStack() as stack:
            for module, name in ((products, "_gains"), (moonshine_steps, "can_step")):
                stack.enter_context(patch.object(module, name, lambda *_: False))  # torch's own products are counted
            counted = stack.enter_context(FlopCounterMode(display=False))
            for step in steps:
                trainer._one_step(step)
    operations = counted.get_total_flops() / args.steps
    large = torch.randn(2048, 384), torch.randn(384, 384)
    rate = 2 * 2048 * 384 * 384 / _least(lambda: products.product(*large))
    print(f"{args.model}, {args.method}: {cpu_s * 1000:.0f} ms CPU a step")
    print(f"{operations / 1e9:.2f} GFLOP in products and convolutions")
    print(f"{operations / cpu_s / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s, which is {operations / cpu_s / rate:.0%}")
    shares = _shares(seen)
    print(table(("", "of the time"), [(name, f"{share:.0%}") for name, share in shares.items()]))
    return {"cpu_s": cpu_s, "operations": operations, "matrix_rate": rate, "shares": shares}


_KINDS = {
    "attention": ("scaled_dot_product",),
    "products": ("linear_pointwise", "aten::mm", "addmm", "aten::bmm"),
    "convolutions": ("convolution",),
    "activations and norms": ("gelu", "silu", "tanh", "layer_norm", "softmax", "group_norm"),
    "optimiser and clipping": ("adamw", "foreach", "clip_grad", "Optimizer", "linalg_vector_norm"),
}


def _shares(seen: Any) -> dict[str, float]:
    """The shares of a step's time by kind of operation, and the rest. The profiler counts wall time."""
    rest = "passes over memory, autograd and Python"
    found = dict.fromkeys((*_KINDS, rest), 0.0)
    events = seen.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    for event in events:
        kind = next((kind for kind, names in _KINDS.items() if any(name in event.key for name in names)), rest)
        found[kind] += event.self_cpu_time_total / whole
    return found


def _least(work: Callable[[], Any], rounds: int = 25) -> float:
    times = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return sorted(times)[rounds // 4]


def main() -> None:
    """Parse the command line, measure, print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("replay", type=Path)
    parser.add_argument("--method", choices=("lora", "dora"), default="dora")
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for lora-tui")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.set = ["train.batch_seconds=60", "train.replay_share=0.5", *args.set]
    figures = profiled(args) if args.profile else compared(args)
    if args.json:
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
