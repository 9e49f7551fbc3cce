"""What each form of an export changes on Whisper: error rates and transcripts, by its own runtime.

    python -m benchmarks.exports MODEL TRAIN DOMAIN HELDOUT -o FOLDER [--clips 100]

Trains a short DoRA on the decoder's attention, exports it in every form, and prints a table in Markdown. What
CTranslate2 hears is heard once more with each clip padded with silence to 30 s, as Whisper's own feature extractor
hears it. FOLDER is gone on with when it is there: what was trained and exported is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.audio.cache import SampleCache
from core.audio.samples import SAMPLE_RATE_HZ
from core.export import ct2
from core.export.exporting import runtime_request
from core.export.serve import Samples, heard
from core.export.source import SETS, Source, source_of
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache
from core.manifests.manifest import read_manifest
from core.plan.exports import Target, target_of
from core.runs.paths import RunPaths
from core.runs.scores import Score, read_score
from core.scoring.units import ErrorCounts
from core.training.evaluation import counted

PLAN = """\
[model]
id = {model}
[data]
train = "train.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
normaliser = "whisper_english"
[adapter]
method = "dora"
rank = 8
target_modules = ["attention"]
sites = "decoder"
[train]
steps = 12
eval_every = 6
batch_seconds = 120
learning_rate = 3e-4
allow_high_learning_rate = true
replay_share = 0
threads = 1
[[experiment]]
id = "short"
"""
CASES = (
    ("hf:float32", ("--to", "hf")),
    ("hf:float16", ("--to", "hf", "--quantise", "float16")),
    ("hf:bfloat16", ("--to", "hf", "--quantise", "bfloat16")),
    ("lora:float32", ("--to", "lora")),
    ("ct2:float32", ("--to", "ct2")),
    ("ct2:float16", ("--to", "ct2", "--quantise", "float16")),
    ("ct2:int8", ("--to", "ct2", "--quantise", "int8")),
)


class Padded:
    """faster-whisper, given each clip with silence up to the 30 s that Whisper hears."""

    def __init__(self, inner: ct2._Whisper) -> None:
        self.inner, self.runtime, self.max_seconds = inner, inner.runtime, inner.max_seconds

    def text(self, clip: Samples, language: str | None) -> str:
        """Of the padded clip."""
        short = int(self.max_seconds * SAMPLE_RATE_HZ) - len(clip)
        return self.inner.text(np.pad(clip, (0, max(0, short))), language)


def trained(args: argparse.Namespace) -> Path:
    """The folder of the run, trained if it is not there."""
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "domain", "heldout"):
        lines = getattr(args, name).read_text().splitlines()[: args.clips]
        rows = [json.loads(line) for line in lines if line.strip()]
        for row in rows:
            row["audio_filepath"] = str((getattr(args, name).parent / row["audio_filepath"]).resolve())
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "experiments.toml").write_text(PLAN.format(model=json.dumps(str(args.model.resolve()))))
    if not list(folder.glob("runs/short-*/result.json")):
        subprocess.run([sys.executable, "-P", "-m", "lora_tui", "--headless"], cwd=folder, check=True)
    [result] = folder.glob("runs/short-*/result.json")
    return result.parent


def cell(judged: Score, texts: Sequence[str], counts: ErrorCounts) -> str:
    """Transcripts changed and error rate of one set."""
    changed = sum(one.hypothesis != text for one, text in zip(judged.utterances, texts, strict=True))
    return f"{changed} of {len(texts)}, {100 * counts.errors / counts.reference_words:.2f} %"


def served(paths: RunPaths, source: Source, target: Target | None) -> str:
    """The cells of what the runtime made of both sets; no target: of the adapter itself."""
    found = []
    for name in SETS:
        score, problem = read_score(paths.tuned(name) if target is None else paths.served(target.name, name))
        assert score is not None, problem
        found.append(cell(source.scores[name], [one.hypothesis for one in score.utterances], score.counts))
    return " | ".join(found)


def padded(source: Source, target: Target, folder: Path) -> str:
    """The same of an export that is heard with padded clips."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        request = runtime_request(source, target, folder, Path(scratch))
        recogniser = ct2.opened(request)
        assert isinstance(recogniser, ct2._Whisper)
        for name in SETS:
            manifest = read_manifest(source.manifests[name])
            clips = cached_clips(manifest, SampleCache(Path(scratch)), HashCache(Path(scratch) / "hashes.json"))
            said = heard(Padded(recogniser), manifest, clips, source.facts.target_rms)
            counts = counted(said, manifest, clips, source.facts.normaliser, request.unit).counts
            found.append(cell(source.scores[name], said.hypotheses, counts))
    return " | ".join(found)


def main() -> None:
    """Train, export, hear, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "train", "domain", "heldout"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=100, help="of each set, the first; default: %(default)s")
    args = parser.parse_args()
    run = trained(args)
    source, paths = source_of(run), RunPaths(run)
    print("| Export | Size | domain: transcripts changed, WER | heldout |\n|---|---|---|---|")
    print(f"| the adapter | | {served(paths, source, None)} |")
    for written, options in CASES:
        target, folder = target_of(written), args.output / f"export {written.replace(':', ' ')}"
        assert target is not None
        if not folder.is_dir():
            command = [sys.executable, "-P", "-m", "core.cli", "export", str(run), *options, "-o", str(folder)]
            assert subprocess.run(command, check=False).returncode in (0, 1)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(f"| `{written}` | {size:.1f} MB | {served(paths, source, target)} |", flush=True)
        if target.form.name == "ct2":
            print(f"| `{written}`, padded to 30 s | | {padded(source, target, folder)} |", flush=True)


if __name__ == "__main__":
    main()
